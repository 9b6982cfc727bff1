"""Statement T over a child process a circuit, `python -m node.prover`: leaves, page commitments and proofs of steps.

A circuit comes from a specification and an SRS alone, so two nodes with the same of both have the same key; what the
child answers is read as hostile all the same: a key is believed by its digest, a commitment if it is a point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import trio

from actors.ports import Keys, Proof, Refused, Store
from node.adapters.child import Log
from node.adapters.circuit_reply import read_instance, read_keys
from node.adapters.compute import BlobPath
from node.adapters.job_child import JobChild, Opening
from node.adapters.prover import Settings, prover_program
from protocols.frames import Frame
from protocols.ids import Commitment, ContentId
from protocols.statement import WORD_BYTES, decode_step_statement, is_point
from protocols.training_step import StepSpec, validate_spec
from protocols.verdict import Reject


@dataclass(frozen=True, slots=True)
class StepHome:
    """Where a step prover lives."""

    store: Store
    blob_path: BlobPath
    scratch: Path
    cache: Path
    log: Log
    settings: Settings


class StepProver:
    """One circuit of statement T, open until `close`."""

    def __init__(self, home: StepHome, child: JobChild, keys: Keys, instances: int) -> None:
        self._home = home
        self._child = child
        self.keys = keys
        self.instances = instances

    async def close(self) -> None:
        await self._child.close()

    async def commit_path(self, states: ContentId) -> tuple[Commitment, ...] | Refused:
        """Return C of each state in a blob of states, int32 little-endian, one after the other."""
        fields: Frame = {"states": self._home.blob_path(states)}
        reply = await self._ask((states,), "commit_path", fields, self._home.settings.deadlines.commit_s)
        found = reply if isinstance(reply, Refused) else reply.get("commitments")
        if isinstance(found, Refused):
            return found
        if not isinstance(found, list) or not all(isinstance(point, bytes) and is_point(point) for point in found):
            return Refused("the child's commitments are malformed")
        return tuple(map(Commitment, found))

    async def commit_pages(self, pages: Sequence[ContentId]) -> tuple[tuple[Commitment, Commitment], ...] | Refused:
        """Return (C(x), C(y)) of opened pages on the step's grids, in order."""
        fields: Frame = {"pages": [self._home.blob_path(page) for page in pages]}
        reply = await self._ask(pages, "commit_pages", fields, self._home.settings.deadlines.commit_s)
        if isinstance(reply, Refused):
            return reply
        found: list[tuple[Commitment, Commitment]] = []
        replies = reply.get("commitments")
        for pair in replies if isinstance(replies, list) else []:
            match pair:
                case [bytes(x), bytes(y)] if is_point(x) and is_point(y):
                    found.append((Commitment(x), Commitment(y)))
        return tuple(found) if len(found) == len(pages) else Refused("the child's commitments are malformed")

    async def prove(self, state: ContentId, page: ContentId) -> Proof | Refused:
        """Return a proof of the step that leads on from a state, an int32 blob, with a page."""
        fields: Frame = {"state": self._home.blob_path(state), "page": self._home.blob_path(page)}
        reply = await self._ask((state, page), "prove", fields, self._home.settings.deadlines.prove_s)
        if isinstance(reply, Refused):
            return reply
        proof, given, prove_s = reply.get("proof"), reply.get("instances"), reply.get("prove_s")
        instances = [read_instance(value) for value in given] if isinstance(given, list) else []
        known = tuple(value for value in instances if value is not None)
        if not isinstance(proof, bytes) or not isinstance(prove_s, float) or len(known) != self.instances:
            return Refused("the child's proof is malformed")
        statement = decode_step_statement(proof, known)
        return Refused(statement.reason) if isinstance(statement, Reject) else Proof(proof, known, prove_s)

    async def verify(self, proof: bytes, instances: Sequence[int]) -> bool | Refused:
        """Whether a proof holds for this circuit, off chain."""
        if len(instances) != self.instances or isinstance(decode_step_statement(proof, instances), Reject):
            return False
        fields: Frame = {"proof": proof, "instances": [value.to_bytes(WORD_BYTES, "big") for value in instances]}
        reply = await self._child.ask("verify", fields, timeout_s=self._home.settings.deadlines.verify_s)
        holds = reply if isinstance(reply, Refused) else reply.get("holds")
        return holds if isinstance(holds, bool | Refused) else Refused("the child's verdict is malformed")

    async def _ask(self, needed: Sequence[ContentId], do: str, fields: Frame, timeout_s: float) -> Frame | Refused:
        for content in needed:
            if not await self._home.store.has_blob(content):
                return Refused(f"blob {content.hex()} is not here")
        return await self._child.ask(do, fields, timeout_s=timeout_s)


async def open_step_prover(
    nursery: trio.Nursery, home: StepHome, spec: StepSpec, srs: ContentId
) -> StepProver | Refused:
    """Build the circuit of a step, or take its keys from the cache. The scratch folder must be this circuit's own."""
    if fault := validate_spec(spec):
        return Refused(fault.reason)
    if not await home.store.has_blob(srs):
        return Refused(f"blob {srs.hex()} is not here")
    settings = home.settings
    opening: Frame = {
        "spec": {**asdict(spec), "sizes": list(spec.sizes)},
        "srs": home.blob_path(srs),
        "cache": str(home.cache),
    }
    program = prover_program(settings, home.cache)
    first = Opening("open_step", opening, settings.deadlines.open_s)
    child = JobChild(nursery, program, home.scratch, home.log, first)
    described = await _describe(child, settings.deadlines.verify_s)
    if isinstance(described, Refused):
        await child.close()
        return described
    keys, instances = described
    return StepProver(home, child, keys, instances)


async def _describe(child: JobChild, timeout_s: float) -> tuple[Keys, int] | Refused:
    if refused := await child.open():
        return refused
    reply = await child.ask("describe", {}, timeout_s=timeout_s)
    match reply:
        case Refused():
            return reply
        case {"words": bytes(words), "instances": int(instances)}:
            keys = read_keys(words)
            return Refused("the child's key is too large") if keys is None else (keys, instances)
    return Refused("the child's description is malformed")
