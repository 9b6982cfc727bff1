"""What is said to the contracts and heard from them: terms, calls and events.

A `Call` is an intention, encoded to calldata by the chain adapter; a `ChainEvent` is one decoded log.
The rules between them are `protocols/job` and, on chain, `contracts/src/Jobs.sol`.
Spec: protocols/README.md, "Contracts".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from protocols.abi import ZERO_ADDRESS
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, RoundNumber, Wei

# -- Terms ---------------------------------------------------------------------


class ProofPolicy(IntEnum):
    EVALUATION = 0
    """Statement E: quality of drawn weights. Says nothing about the work: `training: unproved`."""
    TRAINING = 1
    """Statement T: drawn inner steps of the worker's own training. `training: proved`."""


class JobState(IntEnum):
    """The life of a job, numbered as in `Jobs.sol`."""

    NONE = 0
    OPEN = 1
    ASSIGNED = 2
    TRAINING = 3
    PROVING = 4
    SETTLED = 5
    CANCELLED = 6
    EXPIRED = 7


@dataclass(frozen=True, slots=True)
class Terms:
    """What a requester fixes when it posts. Field order is the ABI order of `Jobs.Terms`."""

    package: ContentId
    """The model package's manifest."""
    data: ContentId
    """The dataset's manifest; the pages that it names are sealed to the job."""
    initial_state: ContentId
    """θ_0, int32 little-endian."""
    srs: ContentId
    requester_key: bytes
    """X25519 public key, 32 bytes: results are sealed to it."""
    initial_commitment: Digest
    """H(C(θ_0)); zero in evaluation jobs."""
    pages_root: Digest
    """Merkle root over pages (index, C(x), C(y)): challenge pages, in training jobs those that are trained on."""
    vk_digest: Digest
    """Verifying key as registered in `Verifiers`."""
    delegate: Address
    """May deliver keys besides the requester; the zero address for nobody."""
    pages: int
    """Number of pages under `pages_root`; in training jobs at least one a seat."""
    seats: int
    max_applicants: int
    """The join window closes early when so many have applied; at least `seats`."""
    rounds: int
    steps: int
    """Inner steps H a round: the weights after the last are step leaf H."""
    samples: int
    """Proofs asked of each worker (q)."""
    proof_policy: ProofPolicy
    join_window_s: int
    ready_window_s: int
    round_timeout_s: int
    proof_window_s: int
    stake_wei: Wei
    budget_wei: Wei
    move_fee_wei: Wei
    """Paid from the reserve to whoever performs `assign` and `settle`."""
    max_loss: int
    """A proof with a larger public loss (instance value) earns nothing; 0 is no bound. No step has a loss."""
    token: Address = ZERO_ADDRESS
    """What budget and move fees are paid in; the zero address is the native token. Stakes are always native."""


# -- Evidence ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One worker's update in a round's certified set."""

    worker: Address
    update: ContentId
    leaves: Digest
    """Merkle root of the worker's step leaves: the receipt root."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """A quorum's word on one round; `signatures` are EIP-712 `Vote`s, ordered by seat."""

    round: RoundNumber
    view: int
    parent: Digest
    """`certificate_digest` of the last certified round; zero for the first."""
    set_root: Digest
    state: ContentId
    commitment: Commitment
    """C(θ_{r+1})."""
    participants: int
    """Bit i set: seat i has an entry in the set."""
    signers: int
    """Bit i set: seat i signed."""
    signatures: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Binds a proof to what is on chain: entry in set, leaves in receipt, page in root."""

    round: RoundNumber
    start: Digest
    """H(C(θ_r)) of the state that the round began with; zero in evaluation jobs."""
    update: ContentId
    leaves: Digest
    set_path: tuple[Digest, ...]
    step: int
    """The drawn inner step t, 0-based; in evaluation jobs the terms' `steps`: the last leaf."""
    leaf_path: tuple[Digest, ...]
    """Of leaf t; empty in evaluation jobs, whose receipt is one leaf."""
    next_path: tuple[Digest, ...]
    """Of leaf t + 1, up to where its way joins that of leaf t; empty in evaluation jobs."""
    page: int
    page_path: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class Ballot:
    """What one vote says besides its round and parent."""

    view: int
    set_root: Digest
    participants: int
    state: ContentId
    commitment: Commitment
    signature: bytes


@dataclass(frozen=True, slots=True)
class Equivocation:
    """Two votes of one seat for one round on one parent: an honest worker signs one set a round, in whatever view."""

    round: RoundNumber
    parent: Digest
    first: Ballot
    second: Ballot


# -- Calls ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Register:
    """`Workers.register`: binds wallet, node key and encryption key, and deposits stake."""

    node_key: bytes
    """Ed25519 public key, 32 bytes."""
    encryption_key: bytes
    """X25519 public key, 32 bytes."""
    capabilities: Digest
    binding: bytes
    """EIP-712 `Binding` signed by the wallet."""
    stake_wei: Wei


@dataclass(frozen=True, slots=True)
class RegisterKey:
    """`Verifiers.register`: a verifying key by its words (each 32 bytes, big-endian)."""

    words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Post:
    terms: Terms
    nonce: bytes
    """32 bytes; the job's id is keccak of (chain, contract, requester, nonce)."""


@dataclass(frozen=True, slots=True)
class Apply:
    job: JobId


@dataclass(frozen=True, slots=True)
class Assign:
    job: JobId


@dataclass(frozen=True, slots=True)
class DeliverKeys:
    """The job key wrapped (HPKE) to each seated worker, in seat order."""

    job: JobId
    wraps: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    job: JobId


@dataclass(frozen=True, slots=True)
class CommitRound:
    job: JobId
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class NullRound:
    job: JobId
    round: RoundNumber


@dataclass(frozen=True, slots=True)
class Dissent:
    """A seat computed another state than a round's certificate says."""

    job: JobId
    round: RoundNumber
    state: ContentId


@dataclass(frozen=True, slots=True)
class ReportEquivocation:
    job: JobId
    worker: Address
    votes: Equivocation


@dataclass(frozen=True, slots=True)
class SubmitProof:
    job: JobId
    worker: Address
    """Who is credited; anyone may submit."""
    sample: int
    evidence: Evidence
    proof: bytes
    instances: tuple[int, ...]
    key_words: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Settle:
    job: JobId


@dataclass(frozen=True, slots=True)
class Cancel:
    job: JobId


@dataclass(frozen=True, slots=True)
class Expire:
    job: JobId


@dataclass(frozen=True, slots=True)
class Release:
    """Unlock the stake of an applicant or worker whose job is over (or who drew no seat)."""

    job: JobId
    worker: Address


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Pull what `Jobs` owes the sender in the native token."""


@dataclass(frozen=True, slots=True)
class WithdrawIn:
    """Pull what `Jobs` owes the sender in a token."""

    token: Address


@dataclass(frozen=True, slots=True)
class TopUp:
    """`Workers.topUp`: more stake."""

    amount_wei: Wei


@dataclass(frozen=True, slots=True)
class Unbond:
    """`Workers.unbond`: free stake on its way out."""

    amount_wei: Wei


@dataclass(frozen=True, slots=True)
class WithdrawStake:
    """`Workers.withdraw` of stake whose time of unbonding is over."""


Call = (
    Register
    | RegisterKey
    | Post
    | Apply
    | Assign
    | DeliverKeys
    | Ready
    | CommitRound
    | NullRound
    | Dissent
    | ReportEquivocation
    | SubmitProof
    | Settle
    | Cancel
    | Expire
    | Release
    | Withdraw
    | WithdrawIn
    | TopUp
    | Unbond
    | WithdrawStake
)

# -- Events --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerRegistered:
    worker: Address
    node_key: bytes
    encryption_key: bytes


@dataclass(frozen=True, slots=True)
class StakeAdded:
    worker: Address
    amount_wei: Wei


@dataclass(frozen=True, slots=True)
class StakeUnbonding:
    worker: Address
    amount_wei: Wei
    unbonded_at_s: int
    """When all that is unbonding can be taken out."""


@dataclass(frozen=True, slots=True)
class StakeWithdrawn:
    worker: Address
    amount_wei: Wei


@dataclass(frozen=True, slots=True)
class JobPosted:
    job: JobId
    requester: Address
    terms: Terms
    join_deadline_s: int


@dataclass(frozen=True, slots=True)
class Applied:
    job: JobId
    worker: Address


@dataclass(frozen=True, slots=True)
class JoinClosed:
    """As many have applied as the terms allow: the window ends now."""

    job: JobId
    join_deadline_s: int


@dataclass(frozen=True, slots=True)
class Assigned:
    job: JobId
    workers: tuple[Address, ...]
    """In seat order."""
    ready_deadline_s: int


@dataclass(frozen=True, slots=True)
class KeysDelivered:
    job: JobId
    wraps: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class WorkerReady:
    job: JobId
    worker: Address


@dataclass(frozen=True, slots=True)
class TrainingStarted:
    job: JobId
    round_deadline_s: int


@dataclass(frozen=True, slots=True)
class RoundCommitted:
    job: JobId
    round: RoundNumber
    view: int
    set_root: Digest
    state: ContentId
    commitment: Commitment
    participants: int
    certificate: Digest
    round_deadline_s: int
    """Of the next round."""


@dataclass(frozen=True, slots=True)
class RoundNulled:
    job: JobId
    round: RoundNumber
    round_deadline_s: int


@dataclass(frozen=True, slots=True)
class Dissented:
    job: JobId
    worker: Address
    round: RoundNumber
    state: ContentId


@dataclass(frozen=True, slots=True)
class EquivocationProved:
    job: JobId
    worker: Address
    round: RoundNumber
    reporter: Address


@dataclass(frozen=True, slots=True)
class ProvingStarted:
    job: JobId
    beacon_round: int
    proof_deadline_s: int


@dataclass(frozen=True, slots=True)
class ProofAccepted:
    job: JobId
    worker: Address
    sample: int
    round: RoundNumber
    step: int
    """As in the `Evidence`."""
    page: int
    loss: int
    """0 in training jobs."""
    earns: bool
    """False where `loss` exceeds the terms' `max_loss`."""


@dataclass(frozen=True, slots=True)
class WorkerPaid:
    job: JobId
    worker: Address
    amount_wei: Wei


@dataclass(frozen=True, slots=True)
class WorkerSlashed:
    job: JobId
    worker: Address
    amount_wei: Wei


@dataclass(frozen=True, slots=True)
class FeePaid:
    job: JobId
    to: Address
    amount_wei: Wei


@dataclass(frozen=True, slots=True)
class JobEnded:
    """Settled, cancelled or expired; `refund_wei` is credited to the requester."""

    job: JobId
    state: JobState
    refund_wei: Wei


WorkerEvent = WorkerRegistered | StakeAdded | StakeUnbonding | StakeWithdrawn
"""Of `Workers`: about no job."""

ChainEvent = (
    WorkerEvent
    | JobPosted
    | Applied
    | JoinClosed
    | Assigned
    | KeysDelivered
    | WorkerReady
    | TrainingStarted
    | RoundCommitted
    | RoundNulled
    | Dissented
    | EquivocationProved
    | ProvingStarted
    | ProofAccepted
    | WorkerPaid
    | WorkerSlashed
    | FeePaid
    | JobEnded
)
