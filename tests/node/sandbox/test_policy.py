"""What suffices, what is refused, and how it reads."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from node.sandbox.policy import (
    Enclosure,
    Limits,
    Measure,
    decode_enclosure,
    decode_findings,
    describe,
    describe_applied,
    describe_missing,
    encode_enclosure,
    encode_findings,
    find_lacking,
    refuse,
)
from node.sandbox.serving import Channel, serve
from protocols import frames

LIMITS = Limits(memory_bytes=1 << 30, cpu_s=1 << 20, file_bytes=1 << 20)
ENCLOSURE = Enclosure(LIMITS, ("/scratch", "/cache"), ("/inputs",), ("/cache",), is_demanded=True)
WHOLE: dict[Measure, str | None] = dict.fromkeys(Measure)


def test_what_is_told_to_a_child_arrives() -> None:
    assert decode_enclosure(encode_enclosure(ENCLOSURE)) == ENCLOSURE
    assert decode_findings(encode_findings({**WHOLE, Measure.USER: "no"})) == {**WHOLE, Measure.USER: "no"}


@pytest.mark.parametrize(
    ("absent", "lacking"),
    [
        ((), ()),
        ((Measure.USER, Measure.NETWORK, Measure.IPC, Measure.MOUNTS, Measure.THREADS), ()),  # a container
        ((Measure.LANDLOCK,), ("files",)),
        ((Measure.SECCOMP,), ("processes",)),
        ((Measure.SECCOMP, Measure.NETWORK), ("network", "processes")),
        (tuple(Measure), ("files", "network", "processes", "memory")),
    ],
)
def test_protections_stand_on_any_of_their_measures(absent: tuple[Measure, ...], lacking: tuple[str, ...]) -> None:
    findings = {**WHOLE, **dict.fromkeys(absent, "not here")}
    assert tuple(name.split()[0] for name in find_lacking(findings)) == lacking
    assert bool(refuse(ENCLOSURE, findings)) == bool(lacking)
    assert refuse(replace(ENCLOSURE, is_demanded=False), findings) is None


def test_nothing_known_is_nothing_protected() -> None:
    assert len(find_lacking({})) == 4


def test_it_reads() -> None:
    findings = {Measure.LIMITS: None, Measure.LANDLOCK: "function not implemented", Measure.SECCOMP: None}
    assert describe_applied(findings) == "rlimits, seccomp"
    assert describe_missing(findings) == "landlock (function not implemented)"
    assert describe_applied({}) == "nothing"
    refusal = refuse(ENCLOSURE, findings)
    assert refusal is not None
    assert "files" in refusal
    assert 'sandbox.missing = "warn"' in refusal


def test_an_operator_is_told() -> None:
    assert describe("can't be tried", is_demanded=True) == ("sandbox: can't be tried",)
    assert describe(WHOLE, is_demanded=True) == (f"sandbox: {', '.join(measure.value for measure in Measure)}",)
    first, second, third = describe({**WHOLE, Measure.LANDLOCK: "disabled"}, is_demanded=True)
    assert "landlock" not in first
    assert second == "sandbox, not here: landlock (disabled)"
    assert third.startswith("no sandbox here for files")
    assert third.endswith("jobs are refused (sandbox.missing)")
    assert "jobs run without" in describe({}, is_demanded=False)[-1]


def test_a_child_that_may_not_work_refuses_every_request() -> None:
    requests = io.BytesIO(frames.request("open", {}) + frames.request("train", {}))
    channel = Channel(requests, io.BytesIO(), LIMITS, refusal="no sandbox here")

    def answer(do: str, fields: frames.Frame) -> frames.Frame:
        raise AssertionError(f"{do} was answered")

    serve(channel, answer)
    replies = channel.replies
    assert isinstance(replies, io.BytesIO)
    assert replies.getvalue() == 2 * frames.refused("no sandbox here")
