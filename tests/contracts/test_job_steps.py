"""Jobs.sol with training jobs: a proof counts for the drawn step of the worker's own round, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from contract_world import Refused, World
from job_author import BEGINNING, INVALID, NONCE, TERMS, TRAINED_PAGES, TRAINING, WORD, point_of
from job_twin import Station, Twin

from protocols.assignment import pages_of_round
from protocols.chain import (
    Apply,
    Assign,
    DeliverKeys,
    NullRound,
    Post,
    ProofAccepted,
    Ready,
    Settle,
    SubmitProof,
    Terms,
    WorkerPaid,
    WorkerSlashed,
)
from protocols.evidence import hash_commitment, step_leaf
from protocols.ids import Address, Commitment, Digest, JobId, RoundNumber, Seat, Wei
from protocols.job import FIELD_MODULUS

ONE_STEP = replace(TRAINING, steps=1)
"""Every draw is of step 0."""


@pytest.fixture(params=[TRAINING, ONE_STEP], ids=["steps", "one step"])
def terms(request: pytest.FixtureRequest) -> Terms:
    drawn: Terms = request.param
    return drawn


def set_out(twin: Twin, terms: Terms) -> JobId:
    """Up to training."""
    job = twin.job_id()
    twin.do(twin.requester, Post(terms, NONCE))
    for worker in twin.crew[:4]:
        twin.do(worker, Apply(job))
    twin.wait(11)
    twin.do(twin.delegate, Assign(job))
    twin.do(twin.requester, DeliverKeys(job, (b"k",) * terms.seats))
    for seat in twin.seats(job):
        if twin.ledger.jobs[job].next_round == 0 and twin.send(seat, Ready(job)) == "WrongState":
            break
    return job


def null(twin: Twin, job: JobId) -> None:
    twin.wait(TERMS.round_timeout_s)
    twin.do(twin.delegate, NullRound(job, twin.ledger.jobs[job].next_round))


def proof_of(twin: Twin, job: JobId, seat: int, number: int, step: int | None = None) -> SubmitProof:
    """A proof of this round and step, by whichever sample draws it."""
    worker = twin.ledger.jobs[job].seats[seat]
    for sample in range(twin.ledger.jobs[job].terms.samples):
        call = twin.prove(job, worker, sample)
        if call.evidence.round == number and step in (None, call.evidence.step):
            return call
    raise AssertionError("no sample draws it: take more")


def forge(call: SubmitProof, at: int, point: bytes) -> SubmitProof:
    """The proof with another commitment at byte `at`."""
    return replace(call, proof=call.proof[:at] + point + call.proof[at + 64 :])


# -- What counts -----------------------------------------------------------------------


def test_proved_steps_are_paid(proving: Station, terms: Terms) -> None:
    twin, job = proving.twin, proving.job
    for seat, worker in enumerate(twin.ledger.jobs[job].seats):
        for sample in range(terms.samples):
            call = twin.prove(job, worker, sample)
            (event,) = twin.do(twin.requester, call)
            at = call.evidence
            assert event == ProofAccepted(job, worker, sample, at.round, at.step, at.page, 0, earns=True)
            drawn = twin.world.read("Jobs", "sampleOf", job, worker, sample)
            assert drawn == (at.round, at.step, at.page)
            pages = pages_of_round(Digest(job), terms.pages, terms.seats, Seat(seat), at.round, terms.steps)
            assert at.page == pages[at.step]
    events = twin.do(twin.delegate, Settle(job))
    assert sum(isinstance(event, WorkerPaid) for event in events) == 3
    twin.audit()


def test_who_proves_half_its_steps_is_slashed(proving: Station, terms: Terms) -> None:
    twin, job = proving.twin, proving.job
    lazy, *honest = twin.ledger.jobs[job].seats
    twin.do(twin.requester, twin.prove(job, lazy, 1))
    for worker in honest:
        for sample in range(terms.samples):
            twin.do(twin.requester, twin.prove(job, worker, sample))
    twin.wait(terms.proof_window_s)
    assert WorkerSlashed(job, lazy, Wei(100)) in twin.do(twin.delegate, Settle(job))


def test_a_step_has_no_loss_to_be_bounded(twin: Twin) -> None:
    job = set_out(twin, replace(TRAINING, max_loss=1, rounds=1, samples=1))
    twin.do(twin.delegate, twin.commit(job))
    twin.wait(2)
    for instances in ((0,), (0,) * 9):
        worker = twin.ledger.jobs[job].seats[len(instances) // 9]
        (event,) = twin.do(twin.delegate, replace(twin.prove(job, worker, 0), instances=instances))
        assert isinstance(event, ProofAccepted)
        assert (event.loss, event.earns) == (0, True)


def test_public_networks_take_training_jobs_only() -> None:
    world = World(development=False)
    requester = world.deployer
    assert world.send(requester, Post(TERMS, NONCE), 1011) == Refused("UnprovedTraining")
    assert not isinstance(world.send(requester, Post(TRAINING, NONCE), 1011), Refused)


# -- Posting ---------------------------------------------------------------------------


def test_terms_of_a_training_job(twin: Twin) -> None:
    wrong = {
        "pages": replace(TRAINING, pages=2),
        "initial_commitment": replace(TRAINING, initial_commitment=WORD),
    }
    for name, terms in (*wrong.items(), ("initial_commitment", replace(TERMS, initial_commitment=Digest(b"c" * 32)))):
        call = Post(terms, NONCE)
        assert twin.refusal(twin.requester, call) == "BadTerms"
        assert twin.world.send(twin.requester.address, call, 1011) == Refused("BadTerms", (name,))
    twin.do(twin.requester, Post(replace(TRAINING, pages=3), NONCE))


# -- Where a round began -----------------------------------------------------------------


@pytest.mark.parametrize("history", ["c", "nc", "nnnc", "cc", "cnc", "cnnnc"])
def test_the_first_step_starts_where_the_round_did(twin: Twin, history: str) -> None:
    """c: certified, n: nulled. The last round is the one that is proved."""
    job = set_out(twin, replace(ONE_STEP, rounds=len(history), samples=32))
    certified = [number for number, kind in enumerate(history) if kind == "c"]
    for kind in history:
        if kind == "n":
            null(twin, job)
        else:
            twin.do(twin.delegate, twin.commit(job))
    twin.wait(2)
    call = proof_of(twin, job, 1, len(history) - 1)
    rounds = twin.ledger.jobs[job].rounds
    earlier = [BEGINNING, *(point_of(rounds[RoundNumber(number)].set_root) for number in certified[:-1])]
    assert call.proof[:64] == earlier[-1]
    last = point_of(rounds[RoundNumber(certified[-1])].set_root)
    for point in (*earlier[:-1], last, Commitment(bytes(64)), Commitment(b"mine" * 16)):
        forged = forge(call, 0, point)
        assert twin.refusal(twin.delegate, forged) == "WrongStart"
        claimed = replace(forged.evidence, start=hash_commitment(point))
        assert twin.refusal(twin.delegate, replace(forged, evidence=claimed)) == "NotInSet"
        assert twin.refusal(twin.delegate, replace(call, evidence=claimed)) == "NotInSet"
    twin.do(twin.delegate, call)
    twin.audit()


def test_a_receipt_that_begins_elsewhere_pays_nothing(twin: Twin) -> None:
    """The worker trained from weights of its own, and its receipt says so: no start of a round is there."""
    mine = Commitment(b"mine" * 16)
    twin.write_leaf = lambda job, worker, number, t, state: step_leaf(job, worker, number, t, state if t else mine)
    job = set_out(twin, replace(ONE_STEP, rounds=1, samples=1))
    twin.do(twin.delegate, twin.commit(job))
    twin.wait(2)
    call = proof_of(twin, job, 0, 0)
    assert twin.refusal(twin.delegate, call) == "NotInReceipt"
    assert twin.refusal(twin.delegate, forge(call, 0, mine)) == "WrongStart"


def test_later_steps_need_no_start_but_name_it(twin: Twin) -> None:
    job = set_out(twin, replace(TRAINING, rounds=1, samples=32))
    twin.do(twin.delegate, twin.commit(job))
    twin.wait(2)
    call = next(c for t in (1, 2, 3) if (c := proof_of(twin, job, 0, 0, t)))
    lie = replace(call.evidence, start=Digest(b"s" * 32))
    assert twin.refusal(twin.delegate, replace(call, evidence=lie)) == "NotInSet"
    twin.do(twin.delegate, call)


# -- What a proof is about -----------------------------------------------------------------


def test_proofs_of_steps_refused(proving: Station, terms: Terms) -> None:
    twin, job = proving.twin, proving.job
    good = twin.prove(job, twin.ledger.jobs[job].seats[1], 0)
    at, proof = good.evidence, good.proof
    state, x, y, after = (proof[i : i + 64] for i in (0, 64, 128, 192))
    wrong_state = "NotInReceipt" if at.step else "WrongStart"
    wrong: dict[str, list[SubmitProof]] = {
        wrong_state: [
            *(forge(good, 0, point) for point in (bytes(64), after, x, b"c" * 64)),
            *(replace(good, proof=bytes([proof[0] ^ bit]) + proof[1:]) for bit in (1, 128)),
        ],
        "NotInReceipt": [
            *(forge(good, 192, point) for point in (bytes(64), state, x, b"c" * 64)),
            replace(good, evidence=replace(at, leaf_path=at.next_path, next_path=at.leaf_path)),
            replace(good, evidence=replace(at, next_path=(*at.next_path, WORD))),
            replace(good, evidence=replace(at, next_path=at.next_path[1:] if at.next_path else at.leaf_path)),
            replace(good, evidence=replace(at, leaf_path=())),
        ],
        "NotInPages": [
            forge(forge(good, 64, y), 128, x),
            *(forge(good, place, bytes(64)) for place in (64, 128)),
            forge(forge(good, 64, TRAINED_PAGES[at.page - 1][0]), 128, TRAINED_PAGES[at.page - 1][1]),
            replace(good, evidence=replace(at, page_path=at.page_path[::-1])),
        ],
        "WrongDraw": [
            replace(good, evidence=replace(at, step=at.step + 1)),
            replace(good, evidence=replace(at, page=(at.page + 1) % terms.pages)),
            replace(good, evidence=replace(at, round=RoundNumber(1 - at.round))),
        ],
        "ProofTooShort": [replace(good, proof=proof[:319]), replace(good, proof=proof[:192]), replace(good, proof=b"")],
        "StepUnproved": [
            replace(good, instances=instances) for instances in ((), (1,), (0, 1), (1, 0), (FIELD_MODULUS, 0))
        ],
        "ProofInvalid": [replace(good, proof=proof[:-1] + INVALID)],
    }
    for name, calls in wrong.items():
        for call in calls:
            assert twin.refusal(twin.requester, call) == name
    # The hints are the verifier's business: what they are commits to nothing on chain.
    twin.do(twin.requester, forge(good, 256, b"h" * 64))
    twin.audit()


@pytest.mark.parametrize("stranger", ["job", "worker", "round", "step", "state"])
def test_a_leaf_of_another_is_none(twin: Twin, stranger: str) -> None:
    """The receipt was certified, but its leaves say another job, worker, round, place or state."""

    def write(job: JobId, worker: Address, number: RoundNumber, t: int, state: Commitment) -> bytes:
        match stranger:
            case "job":
                return step_leaf(JobId(b"o" * 32), worker, number, t, state)
            case "worker":
                return step_leaf(job, twin.requester.address, number, t, state)
            case "round":
                return step_leaf(job, worker, RoundNumber(number + 1), t, state)
            case "step":
                return step_leaf(job, worker, number, t + 1, state)
            case _:
                return step_leaf(job, worker, number, t, Commitment(state[::-1][:63] + b"!"))

    twin.write_leaf = write
    job = set_out(twin, replace(TRAINING, rounds=1))
    twin.do(twin.delegate, twin.commit(job))
    twin.wait(2)
    for worker in twin.ledger.jobs[job].seats:
        assert twin.refusal(twin.delegate, twin.prove(job, worker, 0)) == "NotInReceipt"


def test_half_a_receipt_is_none(twin: Twin) -> None:
    """The state after the step is another than the proof's: one honest neighbour is not enough."""
    job = set_out(twin, replace(TRAINING, rounds=1))
    honest = twin.write_leaf
    twin.write_leaf = lambda job, worker, number, t, state: honest(
        job, worker, number, t, state if t % 2 else Commitment(b"mine" * 16)
    )
    twin.do(twin.delegate, twin.commit(job))
    twin.wait(2)
    for worker in twin.ledger.jobs[job].seats:
        call = twin.prove(job, worker, 0)
        known = forge(call, 192 if call.evidence.step % 2 else 0, Commitment(b"mine" * 16))
        assert twin.refusal(twin.delegate, call) == "NotInReceipt"
        # With its own word for the even states both leaves are there; only the verifier can say no then.
        assert twin.refusal(twin.delegate, replace(known, proof=known.proof[:-1] + INVALID)) in (
            "ProofInvalid",
            "WrongStart",
        )


def test_proofs_of_other_workers_jobs_and_rounds_do_not_count(twin: Twin) -> None:
    job = set_out(twin, replace(TRAINING, samples=8))
    twin.do(twin.delegate, twin.commit(job))
    twin.do(twin.delegate, twin.commit(job))
    twin.wait(2)
    first, second, _ = twin.ledger.jobs[job].seats
    for sample in range(8):
        copied = replace(twin.prove(job, first, sample), worker=second)
        assert twin.refusal(twin.delegate, copied) in ("WrongDraw", "NotInSet")
        own = twin.prove(job, second, sample)
        # The right evidence, and another's commitments before it.
        stolen = replace(own, proof=twin.prove(job, first, sample).proof)
        assert twin.refusal(twin.delegate, stolen) in ("WrongStart", "NotInReceipt")
