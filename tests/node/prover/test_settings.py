"""Settings: one form, and none that would make a proof mean less."""

import json
from typing import Any

import pytest

from node.compute.files import Unfit
from node.prover.settings import CircuitOptions, canonicalize, check_written, read_options, validate_options

RUN_ARGS: dict[str, Any] = {
    "input_scale": 13,
    "rebase_scale": None,
    "scale_rebase_multiplier": 1,
    "lookup_range": [0, 0],
    "logrows": 13,
    "num_inner_cols": 1,
    "variables": [["batch_size", 1]],
    "input_visibility": "KZGCommit",
    "output_visibility": "Public",
    "param_visibility": "Fixed",
    "rebase_frac_zero_constants": False,
    "check_mode": "UNSAFE",
    "decomp_base": 2048,
    "decomp_legs": 3,
    "bounded_log_lookup": False,
    "ignore_range_check_inputs_outputs": False,
    "epsilon": 2.220446049250313e-16,
    "disable_freivalds": True,
}
SETTINGS: dict[str, Any] = {
    "run_args": RUN_ARGS,
    "model_instance_shapes": [[1]],
    "model_output_scales": [15],
    "model_input_scales": [13, 13, 13],
    "required_lookups": [],
    "required_range_checks": [[-1, 1], [0, 2047]],
    "version": "23.0.5",
    "timestamp": 1795370766715,
}


def written(changes: dict[str, Any] | None = None, **run_args: Any) -> bytes:
    return canonicalize(json.dumps({**SETTINGS, **(changes or {}), "run_args": {**RUN_ARGS, **run_args}}).encode())


def test_what_a_hash_map_or_a_clock_decided_is_gone() -> None:
    other = {"required_range_checks": [[0, 2047], [-1, 1]], "timestamp": 1}
    assert written() == written(other)
    assert canonicalize(written()) == written()


def test_good_settings_are_taken() -> None:
    assert read_options(written()) == CircuitOptions()
    assert check_written(written(), CircuitOptions(), "23.0.5") == 15


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_visibility", "Private"),
        ("input_visibility", "Public"),
        ("param_visibility", "Private"),
        ("param_visibility", "KZGCommit"),
        ("output_visibility", "Private"),
        ("ignore_range_check_inputs_outputs", True),
        ("scale_rebase_multiplier", 10),
        ("rebase_scale", 7),
        ("lookup_range", [-1, 1]),
        ("disable_freivalds", False),
        ("rebase_frac_zero_constants", True),
    ],
)
def test_what_is_pinned_stays(name: str, value: object) -> None:
    with pytest.raises(Unfit, match=name):
        read_options(written(**{name: value}))


def test_a_missing_setting_is_refused() -> None:
    settings = json.loads(written())
    del settings["run_args"]["rebase_scale"]
    with pytest.raises(Unfit, match="rebase_scale"):
        read_options(json.dumps(settings).encode())


@pytest.mark.parametrize(
    "options", [{"logrows": 40}, {"num_inner_cols": 0}, {"decomp_legs": True}, {"input_scale": "x"}]
)
def test_free_numbers_are_bounded(options: dict[str, Any]) -> None:
    with pytest.raises(Unfit, match="not"):
        read_options(written(**options))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b'{"run_args": []}'])
def test_what_is_no_settings_file_is_refused(data: bytes) -> None:
    with pytest.raises(Unfit):
        read_options(data)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_input_scales": [13, 13, 7]}, "scales"),
        ({"model_input_scales": [13]}, "scales"),
        ({"model_output_scales": [80]}, "scale"),
        ({"model_output_scales": [13, 13]}, "scale"),
        ({"model_instance_shapes": [[4, 10]]}, "one number"),
        ({"model_instance_shapes": [[1], [1]]}, "one number"),
        ({"required_lookups": [{"Sigmoid": 1}]}, "lookup"),
        ({"version": "22.3.0"}, "22.3.0"),
    ],
)
def test_what_ezkl_decides_is_checked(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unfit, match=reason):
        check_written(written(changes), CircuitOptions(), "23.0.5")


def test_other_options_than_asked_are_refused() -> None:
    with pytest.raises(Unfit, match="did not keep"):
        check_written(written(), CircuitOptions(logrows=14), "23.0.5")


def test_options_of_our_own_are_bounded() -> None:
    assert validate_options(CircuitOptions()) == CircuitOptions()
    with pytest.raises(Unfit, match="scale_bits"):
        validate_options(CircuitOptions(scale_bits=60))
