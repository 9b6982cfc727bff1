"""Ports: everything that an actor may ask of the world, as protocols.

The node plugs adapters in, the simulator twins; an actor can't tell which. Ports raise only for our
own faults (a full disk, a dead child after its restarts): what a peer or a chain does wrong comes back
as a value. Tensors travel as content ids; the bytes lie in the `Store`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import trio

from protocols.abi import ZERO_ADDRESS
from protocols.autonat import Reachability
from protocols.chain import Call
from protocols.chain_follow import Head, Located
from protocols.eip712 import Domain, Statement
from protocols.ids import Address, Commitment, ContentId, Digest, JobId, PeerId, PubsubTopic, RoundNumber, Wei
from protocols.package import Page
from protocols.verdict import Verdict

Mail_co = TypeVar("Mail_co", covariant=True)
Mail_contra = TypeVar("Mail_contra", contravariant=True)

# -- Channels ------------------------------------------------------------------


class Inbox(Protocol[Mail_co]):
    """A bounded mailbox of the wiring's; each incarnation of an actor reads from a clone of its own."""

    def reader(self) -> trio.MemoryReceiveChannel[Mail_co]: ...


class Outbox(Protocol[Mail_contra]):
    """The other end; what happens when it is full is the wiring's choice."""

    async def send(self, mail: Mail_contra) -> None: ...


# -- Network -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerConnected:
    peer: PeerId


@dataclass(frozen=True, slots=True)
class PeerLost:
    peer: PeerId


PeerEvent = PeerConnected | PeerLost


@dataclass(frozen=True, slots=True)
class Gossip:
    """One message that passed its topic's validator, from us or from a peer, at most once."""

    topic: PubsubTopic
    data: bytes
    """An encoded WakuMessage."""


Validator = Callable[[PeerId, bytes], Verdict]
"""Judges a message before it is forwarded; must not block or raise."""

Responder = Callable[[PeerId, bytes], Awaitable[bytes | None]]
"""Answers one request; None closes the stream without an answer."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A peer could not be reached, closed early, was too slow or answered too much."""

    reason: str


class Network(Protocol):
    """A libp2p host with Waku relay."""

    @property
    def peer(self) -> PeerId: ...
    @property
    def addresses(self) -> tuple[str, ...]:
        """Multiaddrs that end in /p2p/<peer>."""

    @property
    def record(self) -> str:
        """Our signed node record, `enr:…`; empty where there is none."""

    @property
    def reachability(self) -> Reachability:
        """Whether others can dial us, as they say."""

    def connected(self) -> tuple[PeerId, ...]:
        """Sorted."""

    async def dial(self, address: str, *, timeout_s: float = 10.0) -> PeerId | NoAnswer: ...
    async def ask_peers(self, peer: PeerId) -> Sequence[str] | NoAnswer:
        """Ask a connected peer for addresses of others, itself included (Waku peer exchange)."""

    async def read_list(self, url: str) -> Sequence[str] | NoAnswer:
        """Read a list of nodes in DNS, `enrtree://KEY@DOMAIN`, to addresses."""

    async def subscribe(self, topic: PubsubTopic, validate: Validator) -> None:
        """Idempotent. Messages arrive on the `Gossip` channel given at construction."""

    async def unsubscribe(self, topic: PubsubTopic) -> None: ...
    async def publish(self, topic: PubsubTopic, data: bytes) -> int:
        """Return the number of mesh peers it was offered to; 0 is not an error, the outbox resends."""

    async def history(self, topic: PubsubTopic, first_s: float, last_s: float) -> Sequence[bytes] | NoAnswer:
        """Ask archives for the encoded WakuMessages of a topic that were sent in that time, oldest first."""

    async def request(
        self, peer: PeerId, protocol: str, payload: bytes, *, limit_bytes: int, timeout_s: float
    ) -> bytes | NoAnswer: ...
    def respond(self, protocol: str, responder: Responder, *, limit_bytes: int) -> None:
        """Serve `protocol`: one length-prefixed request, one reply of any size."""


# -- Chain ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mined:
    """The call's transaction is in a block and did not revert."""

    transaction: bytes
    gas_used: int


@dataclass(frozen=True, slots=True)
class Reverted:
    reason: str
    """The custom error's name, or what the node said."""
    detail: str = field(default="", compare=False)
    """The same as a sentence that says what to do; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    reason: str


Outcome = Mined | Reverted | Unreachable


class Chain(Protocol):
    """The contracts, seen from one wallet."""

    @property
    def chain_id(self) -> int: ...
    @property
    def jobs_address(self) -> Address: ...
    @property
    def wallet(self) -> Address: ...
    async def head(self) -> Head | Unreachable: ...
    async def header(self, number: int) -> Head | Unreachable | None:
        """The block of this number; None if there is none (yet)."""

    async def wait_head(self, timeout_s: float) -> None:
        """Return when a new head is announced, at the latest after `timeout_s`."""

    async def read(self, first: int, last: int, pin: bytes) -> Sequence[Located] | Unreachable:
        """Decoded logs of our contracts in blocks first … last, in order, while block `last` has the hash `pin`."""

    async def send(self, call: Call) -> Outcome:
        """Simulate, record, send and wait until it is mined. A simulation that reverts is not sent.

        The same call while it is under way is the same transaction, also after a restart.
        """

    async def balance(self, address: Address) -> Wei | Unreachable: ...
    async def credit(self, address: Address, token: Address = ZERO_ADDRESS) -> Wei | Unreachable:
        """What `Jobs` owes the address, natively or in a token."""

    async def free_stake(self, address: Address) -> Wei | Unreachable: ...
    async def beacon(self, number: int) -> Digest | Unreachable | None:
        """Randomness of a beacon round; None before it is out."""

    async def post_beacon(self, number: int, signature: bytes) -> Outcome:
        """Post a round of a public beacon, 64 bytes. One that is not signed is refused before gas is spent."""

    async def worker_keys(self, address: Address) -> tuple[bytes, bytes] | Unreachable | None:
        """(node key, encryption key) as registered."""


class BeaconSource(Protocol):
    """One place that has the rounds of the contracts' public beacon."""

    @property
    def name(self) -> str: ...
    async def fetch(self, number: int) -> bytes | NoAnswer:
        """The round's signature, as the place tells it: unchecked."""


# -- Keys ----------------------------------------------------------------------


class Vault(Protocol):
    """Holds the node's three keys and the job keys. Nothing here returns a secret."""

    @property
    def node_key(self) -> bytes:
        """Ed25519 public key, 32 bytes."""

    @property
    def encryption_key(self) -> bytes:
        """X25519 public key, 32 bytes."""

    @property
    def wallet(self) -> Address: ...
    def sign(self, message: bytes) -> bytes:
        """Ed25519 by the node key."""

    def verify(self, node_key: bytes, message: bytes, signature: bytes) -> bool: ...
    async def sign_statement(self, domain: Domain, statement: Statement) -> bytes | None:
        """65 bytes r ‖ s ‖ v by the wallet key, low s; None where a signer elsewhere refuses or does not answer."""

    def recover(self, digest: Digest, signature: bytes) -> Address | None: ...
    def unwrap(self, job: JobId, wrapped: bytes) -> bool:
        """Install a job key that was wrapped to our encryption key; False if it isn't for us."""

    def holds(self, job: JobId) -> bool: ...
    def seal(self, job: JobId, plaintext: bytes, *, context: bytes) -> bytes:
        """AEAD under the job key with a fresh nonce; `context` is authenticated."""

    def open(self, job: JobId, sealed: bytes, *, context: bytes) -> bytes | None: ...
    def seal_to(self, encryption_key: bytes, plaintext: bytes, *, context: bytes) -> bytes:
        """HPKE to one recipient."""


# -- Store ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """A row: what must survive a kill. Kinds are listed in protocols/README.md, "Records"."""

    kind: str
    key: bytes
    value: bytes | None
    """None deletes."""


class Store(Protocol):
    """Records in SQLite, blobs in files; a write has reached the disk when it returns."""

    async def write(self, *records: Record) -> None:
        """All or nothing."""

    async def read(self, kind: str, key: bytes) -> bytes | None: ...
    async def scan(self, kind: str, prefix: bytes = b"") -> Sequence[tuple[bytes, bytes]]:
        """(key, value) ordered by key."""

    async def put_blob(self, data: bytes, *, public: bool, durable: bool = True) -> ContentId:
        """Public blobs are served to any peer that asks; private ones never leave.

        A blob that can be had again (a page, a package) need not be durable: it survives a kill, and after a
        power cut it is missing rather than wrong.
        """

    async def blob(self, content: ContentId) -> bytes | None: ...
    async def is_public(self, content: ContentId) -> bool:
        """Whether it is here and may be served."""

    async def has_blob(self, content: ContentId) -> bool: ...


# -- Compute -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refused:
    """The child found the package unfit, crashed on it, or outran its limits."""

    reason: str


@dataclass(frozen=True, slots=True)
class Train:
    job: JobId
    round: RoundNumber
    state: ContentId
    """θ_r, int32 little-endian."""
    error: ContentId | None
    """Error feedback e_r, int32 little-endian; None is zero."""
    pages: tuple[ContentId, ...]
    """Opened pages, one an inner step."""


@dataclass(frozen=True, slots=True)
class Trained:
    weights: ContentId
    """w_H on the grid, int32 little-endian."""
    states: ContentId | None
    """T jobs: the state (weights ‖ moments) before each step and after the last, one after the other."""
    update: ContentId
    """Encoded update."""
    error: ContentId
    """e_{r+1} if the update is counted: what the codec left out."""
    carried: ContentId
    """e_{r+1} if it is not: the whole delta and the old error."""
    loss: float


@dataclass(frozen=True, slots=True)
class Aggregate:
    job: JobId
    state: ContentId
    """θ_r, followed by the outer optimizer's state if it has one: all that θ_{r+1} depends on."""
    updates: tuple[ContentId, ...]
    """In seat order."""
    seats: int
    """Of the job, whether or not they sent an update: fewer than a third of them may lie."""


@dataclass(frozen=True, slots=True)
class Aggregated:
    state: ContentId
    """θ_{r+1}, the same bytes on every platform."""
    outliers: tuple[int, ...]
    """Positions of the updates that the rule found far off, the same on every platform too."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    loss: float
    accuracy: float


class Compute(Protocol):
    """JAX in a child of the job's own. Content ids name blobs in the node's Store."""

    async def open(self, job: JobId, package: ContentId) -> Refused | None:
        """Start the child, load and compile the package; its blobs are in the Store."""

    async def train(self, request: Train) -> Trained | Refused: ...
    async def land(self, job: JobId, state: ContentId, update: ContentId) -> ContentId | Refused:
        """Return θ_r + u: where the steps of an update ended, if its codec is `exact`."""

    async def check_update(self, job: JobId, update: ContentId) -> Verdict:
        """Whether it decodes to a vector of the package's length."""

    async def aggregate(self, request: Aggregate) -> Aggregated | Refused: ...

    async def evaluate(self, job: JobId, state: ContentId, pages: tuple[ContentId, ...]) -> Evaluated | Refused: ...
    async def close(self, job: JobId) -> None: ...


# -- Prover --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Keys:
    vk_digest: Digest
    words: tuple[int, ...]
    """The verifying key as `Verifiers.register` takes it."""


@dataclass(frozen=True, slots=True)
class Proof:
    proof: bytes
    """Begins with commitments, 64 bytes each, see `protocols/statement.py`."""
    instances: tuple[int, ...]
    """E: (loss,). T: zeros."""
    prove_s: float


class Prover(Protocol):
    """ezkl in a child of the job's own."""

    async def open(self, job: JobId, package: ContentId) -> Keys | Refused:
        """Rebuild circuit and keys from the package, or take them from the cache."""

    async def commit(self, job: JobId, vector: ContentId) -> Commitment | Refused:
        """C(θ) of weights or of a global state, int32 little-endian: a momentum that follows θ is left out."""

    async def commit_path(self, job: JobId, states: ContentId) -> tuple[Commitment, ...] | Refused:
        """C of each state of `Trained.states`: the leaves of a T job's receipt."""

    async def prove(self, job: JobId, state: ContentId, page: ContentId) -> Proof | Refused:
        """Statement E of weights on one opened page, or T of the step that leads on from a state with it."""

    async def check_pages(self, job: JobId, pages: tuple[Page, ...]) -> Refused | None:
        """Recompute the commitments of opened pages: a wrong one would cost us the stake."""

    async def close(self, job: JobId) -> None: ...


# -- All of them ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ports:
    """What the wiring hands out; `gossip` and `peers` are fed by the network."""

    network: Network
    gossip: Inbox[Gossip]
    peers: Inbox[PeerEvent]
    chain: Chain
    vault: Vault
    store: Store
    compute: Compute
    prover: Prover
    entropy: Callable[[int], bytes]
    """n random bytes."""
    time_s: Callable[[], float]
    """Seconds since the epoch."""
    beacon_sources: tuple[BeaconSource, ...] = ()
    """Of a public beacon, whose rounds somebody has to post; a test beacon needs none."""
