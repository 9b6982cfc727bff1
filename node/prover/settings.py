"""ezkl's settings file: which of its options are free, which are pinned, and its one canonical form.

The one rule: a settings file is a function of graph, options and ezkl's version. ezkl writes its lists in the order
of a hash map, and that order changes the verifying key, so the lists are sorted before anything is compiled; a file
from a stranger is accepted only if it is byte for byte what we would have written ourselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from node.compute.files import Unfit
from protocols.fixed_point import RANGE_BITS

MAX_SETTINGS_BYTES = 1 << 20
STEP_LOGROWS = RANGE_BITS + 1
"""K of statement T: a column holds the table of a digit's range, and the rows that blind it."""


@dataclass(frozen=True, slots=True)
class CircuitOptions:
    """What a packer chooses; all else is pinned."""

    logrows: int = 13
    """K: columns have 2**K rows. The SRS must have the same."""
    scale_bits: int = 13
    decomposition_base: int = 2048
    decomposition_legs: int = 3
    """Whatever is rescaled lies within ±base**legs / 4**scale_bits: 2048³ at 13 bits is ±128."""
    inner_columns: int = 1
    """Of 1 to 4, one was the cheapest for small models."""


_BOUNDS = {
    "logrows": (6, 24),
    "scale_bits": (1, 24),
    "decomposition_base": (2, 1 << 16),
    "decomposition_legs": (1, 8),
    "inner_columns": (1, 16),
}

_FREE = {
    "logrows": "logrows",
    "input_scale": "scale_bits",
    "decomp_base": "decomposition_base",
    "decomp_legs": "decomposition_legs",
    "num_inner_cols": "inner_columns",
}

_PINNED: Mapping[str, object] = {
    "input_visibility": "KZGCommit",  # `polycommit`; `private` binds nothing
    "output_visibility": "Public",
    "param_visibility": "Fixed",  # constants of the graph are part of the key
    # Off, and weights need not be small: −1 is a square in the field, so a bias off the grid makes a sum of
    # squares vanish. A proof that an all-zero model has loss 0 was made this way and verified.
    "ignore_range_check_inputs_outputs": False,
    "scale_rebase_multiplier": 1,
    "rebase_scale": None,
    "rebase_frac_zero_constants": False,
    "lookup_range": [0, 0],  # no lookups but range checks
    "disable_freivalds": True,
    "bounded_log_lookup": False,
    "check_mode": "UNSAFE",  # of witness generation, not of the circuit
    "variables": [["batch_size", 1]],
}


def to_run_args(options: CircuitOptions) -> Mapping[str, object]:
    """Return the attributes of ezkl's `PyRunArgs`."""
    return {
        **{theirs: getattr(options, ours) for theirs, ours in _FREE.items()},
        "param_scale": options.scale_bits,
        "input_visibility": "polycommit",
        "output_visibility": "public",
        "param_visibility": "fixed",
        "ignore_range_check_inputs_outputs": False,
        "scale_rebase_multiplier": 1,
        "rebase_frac_zero_constants": False,
        "lookup_range": (0, 0),
        "disable_freivalds": True,
        "bounded_log_lookup": False,
    }


def validate_options(options: CircuitOptions) -> CircuitOptions:
    """Raise Unfit if a number is out of bounds."""
    for name, (low, high) in _BOUNDS.items():
        value = getattr(options, name)
        if type(value) is not int or not low <= value <= high:
            raise Unfit(f"{name} is {value!r}, not {low} … {high}")
    return options


def canonicalize(written: bytes) -> bytes:
    """Return the canonical form of a file that ezkl wrote."""
    settings = json.loads(written)
    settings["timestamp"] = 0
    for name in ("required_range_checks", "required_lookups"):
        settings[name] = sorted(settings[name], key=json.dumps)
    return json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()


def read_options(data: bytes) -> CircuitOptions:
    """Return the options of a stranger's settings file; Unfit names the first setting that is not as pinned."""
    return validate_options(_read_free(_load(data)))


def _read_free(settings: dict[str, Any]) -> CircuitOptions:
    run_args = settings.get("run_args")
    if not isinstance(run_args, dict):
        raise Unfit("the settings have no run_args")
    for name, wanted in _PINNED.items():
        if name not in run_args or run_args[name] != wanted:
            raise Unfit(f"the settings have {name} = {run_args.get(name)!r}, not {wanted!r}")
    free: dict[str, Any] = {ours: run_args.get(theirs) for theirs, ours in _FREE.items()}
    return CircuitOptions(**free)


def check_written(settings: bytes, options: CircuitOptions, ezkl_version: str) -> int:
    """Check what ezkl decided by itself and return the scale of the loss, in bits."""
    written = _check_choices(settings, validate_options(options), ezkl_version, inputs=3)
    shapes, scales = written.get("model_instance_shapes"), written.get("model_output_scales")
    if not isinstance(shapes, list) or len(shapes) != 1 or any(axis != 1 for axis in shapes[0]):
        raise Unfit(f"the public output has the shapes {shapes}, not one number")
    if not isinstance(scales, list) or len(scales) != 1 or type(scales[0]) is not int or not 0 <= scales[0] <= 64:
        raise Unfit(f"the loss has the scale {scales}")
    return scales[0]


def check_step_written(settings: bytes, options: CircuitOptions, ezkl_version: str, *, inputs: int) -> int:
    """Check what ezkl decided about a graph of integers, and return how many public numbers it has."""
    written = _check_choices(settings, options, ezkl_version, inputs=inputs)
    shapes, scales = written.get("model_instance_shapes"), written.get("model_output_scales")
    if not isinstance(shapes, list) or len(shapes) != 1 or len(shapes[0]) != 1 or scales != [0]:
        raise Unfit(f"the public outputs have the shapes {shapes} and scales {scales}, not one vector of integers")
    digits = [[-1, 1], [0, options.decomposition_base - 1]]
    if written.get("required_range_checks") != digits or options.decomposition_legs != 1:
        raise Unfit(f"the range checks are {written.get('required_range_checks')}, not {digits}")
    return int(shapes[0][0])


def _check_choices(settings: bytes, options: CircuitOptions, ezkl_version: str, *, inputs: int) -> dict[str, Any]:
    written = _load(settings)
    if _read_free(written) != options:
        raise Unfit("ezkl did not keep to the options")
    if written.get("version") != ezkl_version:
        raise Unfit(f"settings of ezkl {written.get('version')}, this is {ezkl_version}")
    if written.get("model_input_scales") != [options.scale_bits] * inputs:
        raise Unfit(f"the inputs have the scales {written.get('model_input_scales')}, not {options.scale_bits}")
    if written.get("required_lookups"):
        raise Unfit("the graph needs lookup tables")
    return written


def _load(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_SETTINGS_BYTES:
        raise Unfit("the settings are too large")
    try:
        settings = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Unfit(f"the settings are not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise Unfit("the settings are not a JSON object")
    return settings
