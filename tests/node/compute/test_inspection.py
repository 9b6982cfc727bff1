"""What a module asks for, found without running it; and the modules that are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from node.compute.files import Unfit
from node.compute.inspection import MAX_EXECUTED, check_memory, find_free_memory, inspect

MIB = 1 << 20


def export(function: Callable[..., Any], *samples: Any) -> bytes:
    exported = jax.export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))(*samples)
    serialized: bytes = exported.mlir_module_serialized
    return serialized


def write(text: str) -> bytes:
    """Return the bytes of a module written by hand."""
    with ir.Context() as context:
        stablehlo.register_dialect(context)
        version = stablehlo.get_current_version()
        serialized: bytes = stablehlo.serialize_portable_artifact_str(text, version)
        return serialized


def refusal(serialized: bytes, memory_bytes: int = MIB) -> str:
    with pytest.raises(Unfit) as caught:
        inspect(serialized, memory_bytes=memory_bytes)
    return str(caught.value)


V = jnp.zeros(4)

# -- Fit -----------------------------------------------------------------------


def test_a_perceptron_is_fit() -> None:
    def loss(theta: Any, x: Any, y: Any) -> Any:
        hidden = jax.nn.relu(x @ theta[:640].reshape(64, 10))
        return -jnp.mean(jax.nn.log_softmax(hidden @ theta[640:].reshape(10, 10)) * y)

    samples = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((740,), (4, 64), (4, 10))]
    demands = inspect(export(jax.value_and_grad(loss), *samples), memory_bytes=MIB)
    assert 10 < demands.operations < 1000
    assert demands.executed < 2000
    assert demands.largest_bytes == 740 * 4


def test_loops_of_jax_count_their_steps() -> None:
    once = inspect(export(lambda v: v * 2, V), memory_bytes=MIB)

    def scan(v: Any, length: int) -> Any:
        return jax.lax.scan(lambda c, _: (c * 2, None), v, None, length=length)[0]

    few, many = (inspect(export(lambda v, n=n: scan(v, n), V), memory_bytes=MIB) for n in (10, 1000))
    assert few.operations == many.operations
    assert 50 * few.executed < many.executed < 100 * few.executed + 100
    assert once.executed < few.executed

    def nested(v: Any) -> Any:
        return jax.lax.fori_loop(0, 100, lambda i, c: scan(c, 100) + i, v)

    assert inspect(export(nested, V), memory_bytes=MIB).executed > 10_000
    reverse = export(lambda v: jax.lax.scan(lambda c, x: (c + x, c), v[0], v, reverse=True)[1], V)
    assert inspect(reverse, memory_bytes=MIB).executed < 200
    gradient = export(jax.grad(lambda v: scan(jnp.sin(v), 7).sum()), V)
    assert inspect(gradient, memory_bytes=MIB).executed > 14


def test_the_largest_tensor_is_found() -> None:
    demands = inspect(export(lambda v: (jnp.ones((100, 4)) * v).astype(jnp.bfloat16), V), memory_bytes=MIB)
    assert demands.largest_bytes == 1600


# -- Unfit ---------------------------------------------------------------------


def test_loops_that_may_not_end() -> None:
    for function in (
        lambda v: jax.lax.while_loop(lambda c: c.sum() < 3, lambda c: c + 1, v),
        lambda v: jax.lax.while_loop(lambda c: True, lambda c: c + 1, v),
        lambda v: jax.lax.fori_loop(0, v.sum().astype(int), lambda i, c: c + i, v),
    ):
        assert "loop without a constant end" in refusal(export(function, V))


def test_work_beyond_any_deadline() -> None:
    def deep(v: Any) -> Any:
        for _ in range(5):
            inner = v

            def body(i: Any, c: Any, before: Any = inner) -> Any:
                return c + before

            v = jax.lax.fori_loop(0, 10, body, v)
        return v

    assert inspect(export(deep, V), memory_bytes=MIB).executed < 1000

    def nest(depth: int, v: Any) -> Any:
        return v + 1 if depth == 0 else jax.lax.fori_loop(0, 2000, lambda i, c: nest(depth - 1, c), v)

    assert f"more than {MAX_EXECUTED}" in refusal(export(lambda v: nest(3, v), V))


LOOP = """
module {{
  func.func public @main(%a: tensor<i32>) -> tensor<i32> {{
    %zero = stablehlo.constant dense<0> : tensor<i32>
    %one = stablehlo.constant dense<{step}> : tensor<i32>
    %end = stablehlo.constant dense<{end}> : tensor<i32>
    %r:2 = stablehlo.while(%i = {start}, %c = %a) : tensor<i32>, tensor<i32>
    cond {{
      %p = stablehlo.compare {how}, {left}, %end : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %p : tensor<i1>
    }} do {{
      %n = stablehlo.{by} {counted}, %one : tensor<i32>
      stablehlo.return {next}, %c : tensor<i32>, tensor<i32>
    }}
    return %r#1 : tensor<i32>
  }}
}}
"""
FIT = {
    "step": "1", "end": "10", "start": "%zero", "how": "LT", "left": "%i", "by": "add", "counted": "%i", "next": "%n",
}  # fmt: skip


def test_a_loop_written_by_hand_is_fit() -> None:
    assert inspect(write(LOOP.format(**FIT)), memory_bytes=MIB).executed == 4 + 1 + 10 * 4 + 1 - 1


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "0"},
        {"step": "-1"},
        {"how": "GE"},
        {"how": "NE"},
        {"left": "%c"},
        {"by": "multiply"},
        {"counted": "%c"},
        {"next": "%i"},
        {"next": "%one"},
        {"start": "%a"},
        {"end": "2147483647", "step": "2"},  # steps over the end, and begins anew below
    ],
)
def test_a_loop_that_only_looks_like_one(changes: dict[str, str]) -> None:
    assert "loop without a constant end" in refusal(write(LOOP.format(**{**FIT, **changes})))


def test_functions_that_call_themselves() -> None:
    text = """
    module {
      func.func public @main(%a: tensor<f32>) -> tensor<f32> {
        %b = func.call @f(%a) : (tensor<f32>) -> tensor<f32>
        return %b : tensor<f32>
      }
      func.func private @f(%a: tensor<f32>) -> tensor<f32> {
        %b = func.call @main(%a) : (tensor<f32>) -> tensor<f32>
        return %b : tensor<f32>
      }
    }
    """
    assert "calls itself" in refusal(write(text))


def test_functions_that_double_their_work() -> None:
    """Twenty of them make a million calls: found in twenty steps."""
    names = ["main", *(f"f{n}" for n in range(1, 41))]
    functions = "".join(
        f"func.func {'public' if n == 0 else 'private'} @{names[n]}(%a: tensor<f32>) -> tensor<f32> {{"
        f" %b = func.call @{names[n + 1]}(%a) : (tensor<f32>) -> tensor<f32>"
        f" %c = func.call @{names[n + 1]}(%b) : (tensor<f32>) -> tensor<f32>"
        " return %c : tensor<f32> }\n"
        for n in range(40)
    )
    end = "func.func private @f40(%a: tensor<f32>) -> tensor<f32> { return %a : tensor<f32> }"
    assert "executes" in refusal(write(f"module {{ {functions} {end} }}"))


@pytest.mark.parametrize(
    ("shape", "dtype", "size"),
    [
        ((17_000_000_000 // 4,), jnp.float32, 17_000_000_000),
        ((1 << 20,), jnp.int8, 1 << 20),
        ((1 << 18,), jnp.complex64, 1 << 21),
    ],
)
def test_a_tensor_too_large(shape: tuple[int, ...], dtype: Any, size: int) -> None:
    serialized = export(lambda v: jnp.sum(jnp.ones(shape, dtype) * v[0]), jax.ShapeDtypeStruct((1,), dtype))
    assert f"a tensor of the module has {size} bytes" in refusal(serialized, MIB - 1)


def test_a_size_that_is_not_known() -> None:
    (size,) = jax.export.symbolic_shape("n")
    assert refusal(export(lambda v: v * 2, jax.ShapeDtypeStruct((size,), jnp.float32)))


def test_what_reaches_outside() -> None:
    text = """
    module {{
      func.func public @main(%a: tensor<f32>) -> tensor<f32> {{
        %b = {operation}
        return %b : tensor<f32>
      }}
    }}
    """
    call = "stablehlo.custom_call @xla_ffi_python_cpu_callback(%a) : (tensor<f32>) -> tensor<f32>"
    assert 'calls foreign code: "xla_ffi_python_cpu_callback"' in refusal(write(text.format(operation=call)))


def test_bytes_that_are_no_module() -> None:
    assert "no function main" in refusal(b"")
    for junk in (b"junk", b"ML\xefR" + bytes(100)):
        assert "can't be read" in refusal(junk)


# -- Memory --------------------------------------------------------------------


def test_what_xla_plans_is_compared_with_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_free_memory() > 1 << 30
    sample = jax.ShapeDtypeStruct((1 << 18,), np.float32)
    compiled = jax.jit(lambda v: jnp.sort(v) @ jnp.sort(v[::-1] * 2)).lower(sample).compile()
    check_memory(compiled)
    monkeypatch.setattr("node.compute.inspection.find_free_memory", lambda: 2 * MIB)
    with pytest.raises(Unfit, match="the compiled step wants"):
        check_memory(compiled)
