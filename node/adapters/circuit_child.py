"""One circuit in a child process, of statement E or T: commitments, proofs, verdicts.

What the child answers is read as hostile: a commitment is believed if it is a point (the contract compares it), a
proof if it says what such a proof says. A lost child is replaced by `node/adapters/job_child.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.ports import Keys, Proof, Refused, Store
from node.adapters.circuit_reply import read_instance
from node.adapters.compute import BlobPath
from node.adapters.job_child import JobChild
from protocols.frames import Frame
from protocols.ids import Commitment, ContentId
from protocols.statement import WORD_BYTES, Statement, StepStatement, is_point
from protocols.verdict import Reject

PATHS_A_REQUEST = 1000  # more overrun a frame

Decode = Callable[[bytes, Sequence[int]], Statement | StepStatement | Reject]
"""What a proof of the circuit's kind claims."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds until a child that has not answered is killed."""

    open_s: float = 1800.0
    """Build the keys, or wait for another process that does; 5,000 parameters take a minute."""
    commit_s: float = 120.0
    loss_s: float = 120.0
    prove_s: float = 1800.0
    verify_s: float = 60.0
    srs_s: float = 600.0


class CircuitChild:
    """Open until `close`. Blobs are named by content id and must be in the Store."""

    def __init__(
        self,
        store: Store,
        blob_path: BlobPath,
        deadlines: Deadlines,
        child: JobChild,
        keys: Keys,
        instances: int,
        decode: Decode,
    ) -> None:
        self._store = store
        self._blob_path = blob_path
        self._deadlines = deadlines
        self._child = child
        self.keys = keys
        self.instances = instances
        """How many public numbers a proof has."""
        self._decode = decode

    @property
    def pid(self) -> int | None:
        return self._child.pid

    async def close(self) -> None:
        await self._child.close()

    # -- Commitments -----------------------------------------------------------

    async def commit_many(self, vectors: Sequence[ContentId]) -> tuple[Commitment, ...] | Refused:
        """Return C(θ) of int32 little-endian vectors, in order."""
        replies = await self._commit_each("commit", "vectors", vectors)
        return replies if isinstance(replies, Refused) else _read_points(replies, len(vectors))

    async def commit_path(self, states: ContentId) -> tuple[Commitment, ...] | Refused:
        """Return C of each state in a blob of states, int32 little-endian, one after the other. Statement T only."""
        reply = await self._ask("commit_path", self._deadlines.commit_s, states=states)
        found = reply if isinstance(reply, Refused) else reply.get("commitments")
        if isinstance(found, Refused):
            return found
        return _read_points(found, len(found)) if isinstance(found, list) else _MALFORMED

    async def commit_pages(self, pages: Sequence[ContentId]) -> tuple[tuple[Commitment, Commitment], ...] | Refused:
        """Return (C(x), C(y)) of opened pages, in order."""
        replies = await self._commit_each("commit_pages", "pages", pages)
        if isinstance(replies, Refused):
            return replies
        found = []
        for reply in replies:
            match reply:
                case [bytes(x), bytes(y)] if is_point(x) and is_point(y):
                    found.append((Commitment(x), Commitment(y)))
                case _:
                    return _MALFORMED
        return tuple(found)

    async def _commit_each(self, do: str, key: str, contents: Sequence[ContentId]) -> list[object] | Refused:
        if missing := await self._find_missing(contents):
            return missing
        found: list[object] = []
        for start in range(0, len(contents), PATHS_A_REQUEST):
            paths = [self._blob_path(content) for content in contents[start : start + PATHS_A_REQUEST]]
            reply = await self._child.ask(do, {key: paths}, timeout_s=self._deadlines.commit_s)
            if isinstance(reply, Refused):
                return reply
            commitments = reply.get("commitments")
            if not isinstance(commitments, list) or len(commitments) != len(paths):
                return _MALFORMED
            found += commitments
        return found

    # -- Proofs ----------------------------------------------------------------

    async def prove(self, state: ContentId, page: ContentId) -> Proof | Refused:
        """E: of the loss of weights on a page. T: of the step that leads on from a state with a page."""
        reply = await self._ask("prove", self._deadlines.prove_s, state=state, page=page)
        if isinstance(reply, Refused):
            return reply
        proof, given, prove_s = reply.get("proof"), reply.get("instances"), reply.get("prove_s")
        found = [read_instance(value) for value in given] if isinstance(given, list) else []
        instances = tuple(value for value in found if value is not None)
        if not isinstance(proof, bytes) or not isinstance(prove_s, float) or len(instances) != self.instances:
            return Refused("the child's proof is malformed")
        statement = self._decode(proof, instances)
        return Refused(statement.reason) if isinstance(statement, Reject) else Proof(proof, instances, prove_s)

    async def verify(self, proof: bytes, instances: Sequence[int]) -> bool | Refused:
        """Whether a proof holds for this circuit, off chain."""
        if len(instances) != self.instances or isinstance(self._decode(proof, instances), Reject):
            return False
        fields: Frame = {"proof": proof, "instances": [value.to_bytes(WORD_BYTES, "big") for value in instances]}
        reply = await self._child.ask("verify", fields, timeout_s=self._deadlines.verify_s)
        holds = reply if isinstance(reply, Refused) else reply.get("holds")
        return holds if isinstance(holds, bool | Refused) else Refused("the child's verdict is malformed")

    async def compute_loss(self, weights: ContentId, page: ContentId) -> float | Refused:
        """Return the loss that a proof would show, in a twentieth of its time. Statement E only."""
        reply = await self._ask("compute_loss", self._deadlines.loss_s, state=weights, page=page)
        if isinstance(reply, Refused):
            return reply
        loss = reply.get("loss")
        return loss if isinstance(loss, float) and math.isfinite(loss) else Refused("the child's loss is malformed")

    # -- Requests --------------------------------------------------------------

    async def _ask(self, do: str, timeout_s: float, **contents: ContentId) -> Frame | Refused:
        if missing := await self._find_missing(tuple(contents.values())):
            return missing
        fields: Frame = {key: self._blob_path(content) for key, content in contents.items()}
        return await self._child.ask(do, fields, timeout_s=timeout_s)

    async def _find_missing(self, contents: Sequence[ContentId]) -> Refused | None:
        for content in contents:
            if not await self._store.has_blob(content):
                return Refused(f"blob {content.hex()} is not here")
        return None


_MALFORMED = Refused("the child's commitments are malformed")


def _read_points(replies: Sequence[object], count: int) -> tuple[Commitment, ...] | Refused:
    points = tuple(Commitment(reply) for reply in replies if isinstance(reply, bytes) and is_point(reply))
    return points if len(points) == count else _MALFORMED
