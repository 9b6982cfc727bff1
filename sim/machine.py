"""A simulated computer: keys and a disk that last, and processes on it that are started and killed."""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog
import trio

from actors.ports import Mined
from node.wiring import House, Settings, World
from protocols.chain import Register
from protocols.eip712 import Binding, Domain, compute_digest
from protocols.ids import Digest, PeerId, Wei
from sim.beacon import SERVERS
from sim.chain import CHAIN_ID, WORKERS, SimChain, SimWallet
from sim.clock import time_s
from sim.compute import SimCompute
from sim.determinism import draws
from sim.life import Life
from sim.network import Internet, address_of, open_host
from sim.prover import SimProver
from sim.store import Disk, SimStore
from sim.trace import Trace
from sim.vault import Keyring, SimVault, make_identity

ETHER = 10**18
RICHES_WEI = 10 * ETHER
CAPABILITIES = Digest(bytes(32))


@dataclass(frozen=True, slots=True)
class Realm:
    """What all machines share."""

    seed: int
    trace: Trace
    keyring: Keyring
    internet: Internet
    chain: SimChain
    off_chain: set[PeerId] = field(default_factory=set)
    """Whose JSON-RPC endpoint does not answer."""


@dataclass(frozen=True, slots=True)
class Process:
    """One life of the node program."""

    life: Life
    vault: SimVault
    wallet: SimWallet
    house: House
    scope: trio.CancelScope


class Machine:
    def __init__(self, realm: Realm, name: str, settings: Settings, compute: type[SimCompute] = SimCompute) -> None:
        self.name = name
        self._compute = compute
        self.identity = make_identity(realm.seed, name)
        self.disk = Disk()
        self._realm = realm
        self._settings = settings
        self._boots = 0
        self._pace = draws(realm.seed, name, "pace").uniform(0.7, 1.6)
        realm.keyring.add(self.identity)
        realm.chain.fund(self.identity.wallet, RICHES_WEI)

    @property
    def peer(self) -> PeerId:
        return self.identity.peer

    @property
    def address(self) -> str:
        return address_of(self.peer)

    def boot(self) -> Process:
        """Return a new process over the same keys and disk."""
        self._boots += 1
        realm, peer, life = self._realm, self.peer, Life()
        entropy = draws(realm.seed, self.name, "entropy", self._boots).randbytes
        vault = SimVault(realm.keyring, self.identity, entropy)
        wallet = SimWallet(realm.chain, self.identity.wallet, life, lambda: peer not in realm.off_chain)
        store = SimStore(self.disk, life)
        world = World(
            peer=peer,
            open_network=lambda arrivals, peers: open_host(realm.internet, peer, life, arrivals, peers),
            chain=wallet,
            vault=vault,
            store=store,
            compute=self._compute(store, life, self._pace),
            prover=SimProver(store, life, self._pace),
            entropy=entropy,
            time_s=time_s,
            beacon_sources=() if realm.chain.posted is None else SERVERS,
        )
        return Process(life, vault, wallet, House(world, self._settings), trio.CancelScope())


class SimNode:
    """A worker's node: what its operator does, and what befalls it."""

    def __init__(self, realm: Realm, machine: Machine, nursery: trio.Nursery) -> None:
        self.machine = machine
        self._realm = realm
        self._nursery = nursery
        self._process: Process | None = None

    async def register(self, stake_wei: int) -> None:
        """Once, before the first start: `skynet-node init` and a deposit."""
        process, keys = self.machine.boot(), self.machine.identity
        statement = Binding(keys.wallet, keys.node_key, keys.encryption_key, CAPABILITIES)
        binding = process.vault.sign_digest(compute_digest(Domain(CHAIN_ID, WORKERS), statement))
        call = Register(keys.node_key, keys.encryption_key, CAPABILITIES, binding, Wei(stake_wei))
        outcome = await process.wallet.send(call)
        assert isinstance(outcome, Mined), outcome  # nothing stands in the way of it here

    @property
    def house(self) -> House | None:
        """Of the process that runs."""
        return self._process.house if self._process else None

    def start(self) -> None:
        assert self._process is None, f"{self.machine.name} runs already"
        self._process = self.machine.boot()
        self._nursery.start_soon(self._run, self._process)

    def kill(self) -> None:
        """`kill -9`: no farewell, no last write."""
        assert self._process is not None, f"{self.machine.name} does not run"
        process, self._process = self._process, None
        process.life.kill()
        self._realm.internet.switch_off(self.machine.peer)
        process.scope.cancel()

    async def _run(self, process: Process) -> None:
        structlog.contextvars.bind_contextvars(node=self.machine.name)
        with process.scope:
            await process.house.run()
