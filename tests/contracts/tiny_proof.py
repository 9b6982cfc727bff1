"""Make one real ezkl proof of a tiny evaluation circuit; run as a program, since ezkl holds the GIL.

    python tiny_proof.py FOLDER     writes vka.bytes and proof.json, in about three seconds

The circuit is statement E in small: inputs θ [2], x [2, 2], y [2, 1] as committed columns in this order, and the
public loss Σ (x·θ - y)².
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import ezkl
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LOGROWS = 11
OPTIONS = {
    "input_scale": 7,
    "param_scale": 7,
    "decomp_base": 2048,
    "decomp_legs": 3,
    "num_inner_cols": 2,
    "disable_freivalds": True,
    "param_visibility": "fixed",
    "input_visibility": "polycommit",
    "output_visibility": "public",
    "lookup_range": (0, 0),
    "logrows": LOGROWS,
    "scale_rebase_multiplier": 1,
}


def build_model() -> onnx.ModelProto:
    def constant(name: str, values: list[int]) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values, dtype=np.int64), name)

    shapes = {"theta": [2], "x": [2, 2], "y": [2, 1]}
    nodes = [
        helper.make_node("Reshape", ["theta", "column"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Sub", ["z", "y"], ["d"]),
        helper.make_node("Mul", ["d", "d"], ["q"]),
        helper.make_node("ReduceSum", ["q", "axes"], ["s"], keepdims=0),
        helper.make_node("Reshape", ["s", "one"], ["loss"]),
    ]
    graph = helper.make_graph(
        nodes,
        "loss",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("loss", TensorProto.FLOAT, [1])],
        [constant("column", [2, 1]), constant("axes", [0, 1]), constant("one", [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 8
    return model


def main(folder: Path) -> None:
    os.chdir(folder)
    onnx.save(build_model(), "model.onnx")
    options = ezkl.PyRunArgs()
    for name, value in OPTIONS.items():
        setattr(options, name, value)
    ezkl.gen_settings("model.onnx", "settings.json", py_run_args=options)
    ezkl.compile_circuit("model.onnx", "model.ezkl", "settings.json")
    ezkl.gen_srs("srs", LOGROWS)
    ezkl.setup("model.ezkl", "vk.key", "pk.key", "srs")
    data = {"input_data": [[0.5, -0.25], [1.0, 2.0, -1.0, 0.5], [0.25, 0.5]]}
    Path("input.json").write_text(json.dumps(data))
    ezkl.gen_witness("input.json", "model.ezkl", "witness.json", "vk.key", "srs")
    ezkl.prove("witness.json", "model.ezkl", "pk.key", "proof.json", "srs")

    async def write_key() -> None:
        await ezkl.create_evm_vka("vk.key", "settings.json", "vka.bytes", decimals=18, srs_path="srs")

    asyncio.run(write_key())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # leaving by the front door crashes now and then: ezkl's runtime thread outlives the interpreter
