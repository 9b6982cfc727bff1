"""The program: a configuration becomes adapters, adapters become a world, and the house runs in it.

`run_node` is `skynet-node --config FILE`; `open_session` is a requester's part of the same house.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import trio

from actors.ports import BeaconSource, Gossip, Mined, Network, NoAnswer, Outbox, PeerEvent, Reverted, Unreachable
from node.adapters import compute as compute_adapter
from node.adapters import prover as prover_adapter
from node.adapters.compute import ChildCompute
from node.adapters.drand import open_sources
from node.adapters.evm import EvmChain, ExternalSigner, Journal, Signer
from node.adapters.libp2p import LibP2PConfig, Role, load_client_tls, load_server_tls, open_network
from node.adapters.prover import ChildProver
from node.adapters.sandbox_probe import probe_sandbox
from node.archive import MessageArchive, Retention, open_archive
from node.chain_link import connect_chain
from node.client.pack import Report
from node.client.rotation import CAPABILITIES
from node.client.session import Session
from node.config import Config, jobs_address, keys_folder
from node.errors import CallReverted, ChainError, ConfigError, split_advice
from node.identity import Keys, NodeVault, load_keys, peer_id
from node.key_file import find_passphrase
from node.sandbox.policy import describe, describe_applied, describe_missing, find_lacking
from node.signer import Voice, open_signer
from node.standing import keep_standing
from node.store import DiskStore, open_store
from node.supervision.supervisor import Supervisor
from node.wiring import House, Settings, World
from protocols.chain import Register
from protocols.circuit import CircuitLimits
from protocols.eip712 import Binding, Domain
from protocols.ids import Wei
from protocols.message import NAMES
from protocols.waku import content_topic

log = structlog.get_logger("skynet.node.program")

MIB = 1024 * 1024
FIRST_ROUND = 1  # of drand: every server has it
GAS_RESERVE_WEI = 10**16  # below it a worker may be unable to send its proof

# -- Parts ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parts:
    """What both programs need, opened."""

    config: Config
    vault: NodeVault
    store: DiskStore
    chain: EvmChain
    compute: ChildCompute
    prover: ChildProver
    keys: Keys
    role: Role
    archive: MessageArchive | None
    beacon_sources: tuple[BeaconSource, ...] = ()

    def house(self, *, offers_work: bool, hosts_jobs: bool) -> House:
        config = self.config
        settings = Settings(
            cluster=config.p2p.cluster,
            shards=config.p2p.shards,
            bootstrap=config.p2p.bootstrap,
            offers_work=offers_work,
            hosts_jobs=hosts_jobs,
            max_jobs=config.work.max_jobs,
            min_pay_wei=config.work.min_pay_wei,
            max_stake_wei=config.work.max_stake_wei,
            tokens=config.work.tokens,
            poll_s=config.chain.poll_s,
            confirmations=config.chain.confirmations,
            first_block=config.chain.first_block,
            carries_all=self.role is Role.FULL,
            node_lists=config.p2p.node_lists,
        )
        world = World(
            peer_id(self.vault.node_key),
            self._open_network,
            self.chain,
            self.vault,
            self.store,
            self.compute,
            self.prover,
            os.urandom,
            time.time,
            self.beacon_sources,
        )
        return House(world, settings)

    def _open_network(self, gossip: Outbox[Gossip], events: Outbox[PeerEvent]) -> AbstractAsyncContextManager[Network]:
        return open_network(
            _network_config(self.config, self.role), self.keys.node.reveal(), gossip, events, self.archive
        )


def _network_config(config: Config, role: Role) -> LibP2PConfig:
    p2p = config.p2p
    return LibP2PConfig(
        listen=p2p.listen,
        announce=p2p.announce,
        cluster=p2p.cluster,
        shards=p2p.shards,
        name_servers=p2p.name_servers,
        max_peers=p2p.max_peers,
        max_peer_streams=p2p.max_peer_streams,
        max_prefix_peers=p2p.max_prefix_peers,
        max_peer_memory_mib=p2p.max_peer_memory_mib,
        max_memory_mib=p2p.max_memory_mib,
        upload_kib_s=p2p.upload_kib_s,
        download_kib_s=p2p.download_kib_s,
        tls_certificate=p2p.tls_certificate,
        tls_key=p2p.tls_key,
        tls_authorities=p2p.tls_authorities,
        circuits=CircuitLimits(circuits=p2p.relay_circuits, bytes=p2p.relay_mib * MIB),
        role=role,
        content_topics=tuple(content_topic(kind) for kind in sorted({"job", *NAMES.values()})),
    )


def check_tls(config: Config, path: Path) -> None:
    """Raises ConfigError: what would otherwise fail at every restart of the transport."""
    network, certificate = _network_config(config, Role.RELAY), config.p2p.tls_certificate
    secure = [address for address in config.p2p.listen if address.endswith(("/tls/ws", "/wss"))]
    if secure and certificate is None:
        problem = f"p2p.listen has {secure[0]}, but p2p.tls_certificate is missing"
        raise ConfigError(path, problem, "name a certificate in PEM, or listen on /ws")
    for key, load in (("tls_certificate", load_server_tls), ("tls_authorities", load_client_tls)):
        try:
            load(network)
        except OSError as error:
            raise ConfigError(
                path, f"p2p.{key} can't be used: {error}", "name files in PEM that fit together"
            ) from None


@asynccontextmanager
async def _open_parts(config: Config, path: Path, role: Role) -> AsyncIterator[Parts]:
    check_tls(config, path)
    keys = load_keys(keys_folder(config), find_passphrase(config.keys.passphrase_file))
    jobs = jobs_address(config, path)
    with open_store(config.data_dir, blobs_mib=config.store.blobs_mib) as store, _scratch(config) as scratch:
        async with (
            _open_vault(config, keys, store) as (vault, signer),
            connect_chain(config, jobs, signer, Journal(store)) as chain,
            trio.open_nursery() as children,
        ):
            cpu, memory = config.work.cpu_s, config.work.memory_mib * MIB
            threads, demanded = config.work.threads, config.sandbox.missing == "refuse"
            training = compute_adapter.Settings(memory, cpu, threads or 1, is_sandbox_demanded=demanded)
            proving = prover_adapter.Settings(memory, cpu, threads, is_sandbox_demanded=demanded)
            compute = ChildCompute(children, store, store.blob_path, scratch / "compute", _child_log, training)
            prover = ChildProver(
                children, store, store.blob_path, scratch / "prover", config.cache.dir, _child_log, proving
            )
            with _open_archive(config, role) as archive:
                async with _open_beacon(config, chain) as sources:
                    yield Parts(config, vault, store, chain, compute, prover, keys, role, archive, sources)
            children.cancel_scope.cancel()


@asynccontextmanager
async def _open_vault(
    config: Config, keys: Keys, store: DiskStore
) -> AsyncIterator[tuple[NodeVault, Signer | ExternalSigner]]:
    """The vault, and who signs transactions."""
    async with open_signer(config) as elsewhere:
        vault = NodeVault(keys, store, None if elsewhere is None else Voice(elsewhere))
        yield vault, elsewhere or vault


@asynccontextmanager
async def _open_beacon(config: Config, chain: EvmChain) -> AsyncIterator[tuple[BeaconSource, ...]]:
    """Where this node has a public beacon's rounds from; nothing for a test beacon."""
    if await chain.is_test_beacon() is True:
        yield ()
        return
    urls = [url.reveal() for url in config.beacon.urls]
    async with open_sources(urls, config.beacon.folder, config.beacon.command) as sources:
        if not sources:
            log.warning("no source of drand's rounds: others have to post them", key="beacon.urls")
        yield sources


@contextmanager
def _open_archive(config: Config, role: Role) -> Iterator[MessageArchive | None]:
    if role is not Role.FULL:
        yield None
        return
    granted = config.store
    retention = Retention(granted.archive_mib * MIB, granted.archive_hours * 3600.0, granted.archive_messages)
    with open_archive(config.data_dir / "archive.sqlite3", retention, time.time) as archive:
        yield archive


@contextmanager
def _scratch(config: Config) -> Iterator[Path]:
    """Folders for children, empty: what a killed node's left there would keep blobs on the disk."""
    path = config.data_dir / "scratch"
    shutil.rmtree(path, ignore_errors=True)
    for name in ("compute", "prover"):
        (path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    yield path


def _child_log(line: str) -> None:
    log.info("child", line=line)


# -- A node --------------------------------------------------------------------


async def run_node(config: Config, path: Path) -> None:
    """Run until cancelled. Raises UserError for what its operator can mend, Escalated when restarts did not help."""
    async with _open_parts(config, path, Role(config.p2p.role)) as parts, trio.open_nursery() as nursery:
        nursery.start_soon(_report_sandbox, config)
        if config.work.offered:
            await _require_voice(parts, path)
            await _register(parts)
        house = parts.house(offers_work=config.work.offered, hosts_jobs=config.work.hosted)
        await nursery.start(_start, house)
        nursery.start_soon(keep_standing, config.data_dir, house.link)
        log.info("listening", peer=house.link.peer, addresses=house.link.addresses, wallet=parts.vault.wallet)


async def _report_sandbox(config: Config) -> None:
    """Log what holds strangers' models in, and as a warning what does not."""
    findings = await probe_sandbox()
    if isinstance(findings, str):
        log.warning("sandbox", problem=findings)
    elif lacking := find_lacking(findings):
        then = "jobs are refused" if config.sandbox.missing == "refuse" else "working without"
        log.warning("sandbox", lacking=lacking, then=then, in_force=describe_applied(findings))
    else:
        log.info("sandbox", in_force=describe_applied(findings), not_here=describe_missing(findings) or None)


async def _start(runs: House | Supervisor, *, task_status: Any) -> None:
    await runs.run(task_status=task_status)


async def _require_voice(parts: Parts, path: Path) -> None:
    """Raises ConfigError where the wallet's signer does not sign what a worker says in every round."""
    chain, vault = parts.chain, parts.vault
    binding = Binding(vault.wallet, vault.node_key, vault.encryption_key, CAPABILITIES)
    if await vault.sign_statement(Domain(chain.chain_id, chain.addresses.workers), binding) is None:
        problem = f"the signer in [wallet] signs no typed data for {vault.wallet}, and a worker votes by it every round"
        raise ConfigError(path, problem, "let it sign without asking, or set work.offered = false")


async def _register(parts: Parts) -> None:
    """Bind wallet and keys on chain and deposit the stake, unless that was done."""
    chain, vault = parts.chain, parts.vault
    registered = await chain.worker_keys(vault.wallet)
    if isinstance(registered, Unreachable):
        raise ChainError("chain", registered.reason, "check chain.rpc_urls")
    stake_wei = await chain.free_stake(vault.wallet)
    ours = registered == (vault.node_key, vault.encryption_key)
    if ours and not isinstance(stake_wei, Unreachable) and stake_wei >= parts.config.work.max_stake_wei:
        return
    wanted_wei = Wei(parts.config.work.max_stake_wei - (stake_wei if isinstance(stake_wei, int) else 0))
    balance_wei = await chain.balance(vault.wallet)
    if isinstance(balance_wei, int) and balance_wei < wanted_wei + GAS_RESERVE_WEI:
        if ours:
            return  # part of the stake is locked in jobs, or spent: it works with what is there
        problem = f"holds {balance_wei} wei, but registering takes {wanted_wei} wei of stake and gas"
        raise CallReverted(f"wallet {vault.wallet}", problem, "send it more, or lower work.max_stake_wei")
    await _send_registration(parts, Wei(max(wanted_wei, 0)))


async def _send_registration(parts: Parts, stake_wei: Wei) -> None:
    chain, vault = parts.chain, parts.vault
    binding = Binding(vault.wallet, vault.node_key, vault.encryption_key, CAPABILITIES)
    signature = await vault.sign_statement(Domain(chain.chain_id, chain.addresses.workers), binding)
    call = Register(vault.node_key, vault.encryption_key, CAPABILITIES, signature or b"", stake_wei)
    match await chain.send(call):
        case Mined(_, gas_used):
            log.info("registered", wallet=vault.wallet, stake_wei=stake_wei, gas=gas_used)
        case Reverted(reason, detail):
            problem, remedy = split_advice(detail or f"{reason}: check the wallet's balance and keys")
            raise CallReverted("registration", problem, remedy)
        case Unreachable(reason):
            raise ChainError("chain", reason, "check chain.rpc_urls")


async def check_node(config: Config, path: Path) -> AsyncIterator[str]:
    """Yield a line for each thing that works. Raises the UserError of the first that doesn't."""
    yield f"{path}: configuration for {config.network}"
    for line in describe(await probe_sandbox(), is_demanded=config.sandbox.missing == "refuse"):
        yield line
    async with _open_parts(config, path, Role(config.p2p.role)) as parts:
        chain, wallet = parts.chain, parts.vault.wallet
        yield f"{config.data_dir}: keys and data folder open, nobody else uses them"
        yield f"chain {chain.chain_id}: Jobs contract {chain.jobs_address} answers"
        balance_wei, stake_wei = await chain.balance(wallet), await chain.free_stake(wallet)
        registered = await chain.worker_keys(wallet)
        yield f"wallet {wallet}: balance {balance_wei} wei, free stake {stake_wei} wei"
        yield f"worker: {'registered' if registered else 'not registered yet; the first run does it'}"
        for source in parts.beacon_sources:
            found = await source.fetch(FIRST_ROUND)
            yield f"drand at {source.name}: {found.reason if isinstance(found, NoAnswer) else 'answers'}"
        if not parts.beacon_sources:
            is_test = await chain.is_test_beacon()
            yield f"beacon: {'a test beacon' if is_test else 'no source of its rounds (beacon.urls); others post them'}"
        development = await chain.is_development()
        yield f"development network: {development} (evaluation jobs are accepted there only; training: unproved)"


# -- A requester ---------------------------------------------------------------


@asynccontextmanager
async def open_session(config: Config, path: Path, report: Report) -> AsyncIterator[Session]:
    """Join the network as a requester, with the wallet and the folder of `config`."""
    # A session is too short to serve anybody.
    role = Role.LIGHT if config.p2p.role == "light" else Role.RELAY
    async with _open_parts(config, path, role) as parts, trio.open_nursery() as nursery:
        house = parts.house(offers_work=False, hosts_jobs=False)
        await nursery.start(_start, house.supervise_link())
        session = Session(
            house, parts.chain, parts.vault, parts.compute, parts.prover, config.chain.first_block,
            config.chain.confirmations, report,
        )  # fmt: skip
        yield session
        nursery.cancel_scope.cancel()
