"""A node's configuration: `node.toml` read into frozen dataclasses.

The one rule: every key is a field here, and stands in `configs/*.toml` with its comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import platformdirs

from node.errors import ConfigError
from node.name_server import parse_server
from node.secret import Secret
from node.toml_table import Check, between, parse, read_text
from protocols.abi import address_bytes, checksum_address
from protocols.dns_list import parse_url
from protocols.ids import Address, Wei
from protocols.verdict import Reject
from protocols.waku import MIN_OWN_CLUSTER

ADDRESS_FILE = "addresses.json"  # in a running node's folder: what it listens on
LEAST_MEMORY_MIB = 64  # the largest answer of a peer's has 32, and half of it may wait on its stream
NOTHING, TEN_MILLIETHER, ONE_ETHER = Wei(0), Wei(10**16), Wei(10**18)

# -- Checks --------------------------------------------------------------------


def _each(check: Check) -> Check:
    return lambda values: next((fault for value in values if (fault := check(value))), None)


def _some(check: Check) -> Check:
    return lambda values: _each(check)(values) if values else "is empty, but needs at least one"


def _multiaddr(value: str) -> str | None:
    # Whether the transport can use it is for the transport to say; this finds what was pasted wrong.
    if re.match(r"/(ip4|ip6|dns|dns4|dns6)/[^/]+/tcp/\d{1,5}(/|$)", value):
        return None
    return f"has {value!r}, which is no multiaddr like /ip4/127.0.0.1/tcp/30303"


def peer_address_fault(value: str) -> str | None:
    """What keeps `value` from being a peer's address, as the end of a sentence; None if nothing does."""
    return _multiaddr(value) or (
        None if re.search(r"/p2p/\w+$", value) else f"has {value!r}, which does not end in /p2p/PEER"
    )


def _node_list(value: str) -> str | None:
    url = parse_url(value)
    return f"has an entry that can't be used: {url.reason}" if isinstance(url, Reject) else None


def _name_server(value: str) -> str | None:
    try:
        parse_server(value)
    except ValueError:
        return f"has {value!r}, which is no server like 9.9.9.9 or 127.0.0.1:5353"
    return None


def _rpc_url(value: str) -> str | None:
    # The value is not shown: the path of such a URL is often an access token.
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    return None if usable else "has an entry that is no URL like http://127.0.0.1:8545"


def _ws_url(value: str) -> str | None:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    return None if usable else "has an entry that is no URL like ws://127.0.0.1:8545"


def address_fault(value: str) -> str | None:
    """What keeps `value` from being an address, as the end of a sentence; None if nothing does."""
    try:
        raw = address_bytes(Address(value))
    except ValueError:
        return f"is {value!r}, which is no address: 0x and 40 hex digits"
    has_checksum = value[2:] not in (value[2:].lower(), value[2:].upper())
    if has_checksum and checksum_address(raw) != value:
        return f"is {value!r}, whose checksum is wrong: a digit was mistyped"
    return None


def _network_name(value: str) -> str | None:
    return None if re.fullmatch(r"[a-z][a-z0-9-]{0,31}", value) else f"is {value!r}, not a short lower-case name"


# -- Sections ------------------------------------------------------------------


class RpcUrl:
    """A JSON-RPC endpoint: `reveal` is the whole URL, which may hold an access token; everything else its host."""

    __slots__ = ("_tail", "_url")

    def __init__(self, url: str) -> None:
        self._url = url
        # Kept as a secret, so that logs lose it even from a library's error message.
        self._tail = Secret(urlsplit(url)._replace(scheme="", netloc="").geturl().encode())

    def reveal(self) -> str:
        return self._url

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RpcUrl) and other._url == self._url

    def __hash__(self) -> int:
        return hash(self._url)

    def __repr__(self) -> str:
        parts = urlsplit(self._url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


@dataclass(frozen=True, slots=True)
class ChainConfig:
    rpc_urls: Annotated[tuple[RpcUrl, ...], _some(_rpc_url)]
    """The first that works is asked; of three or more, more than half must agree on a block before it is believed."""
    chain_id: Annotated[int, between(1, 2**64 - 1)]
    jobs: Annotated[Address | None, address_fault] = None
    """The Jobs contract; the others are asked of it. None: nobody has named one yet."""
    market: Annotated[Address | None, address_fault] = None
    """The Market contract, for those who sell or buy."""
    first_block: Annotated[int, between(0, 2**63)] = 0
    """The block of its deployment: no log before it is read."""
    confirmations: Annotated[int, between(0, 10_000)] = 0
    poll_s: Annotated[float, between(0.05, 600)] = 1.0
    ws_urls: Annotated[tuple[RpcUrl, ...], _each(_ws_url)] = ()
    """Websockets that announce new heads; without one, polling finds them."""
    max_fee_gwei: Annotated[float, between(0.001, 1_000_000)] = 500.0
    """Most per gas, tip included: dearer, and nothing is sent."""
    daily_limit_wei: Annotated[Wei, between(0, 2**128)] = NOTHING
    """Most that leaves the wallet in 24 hours: gas, stakes and budgets. 0 is no limit."""
    low_balance_wei: Annotated[Wei, between(0, 2**128)] = TEN_MILLIETHER
    """Below it the log warns."""
    development: bool = False
    """A chain for trying out: jobs paid on evaluation alone, an SRS made locally and a test beacon are accepted."""


@dataclass(frozen=True, slots=True)
class BeaconConfig:
    """Sources of drand's rounds, which draw seats and challenges, in the order that they are asked in."""

    folder: Path | None = None
    """Holds ROUND.json as drand's servers tell it."""
    command: tuple[str, ...] = ()
    """Gets the round's number as its last argument and prints the signature in hex, or what a server would tell."""
    urls: Annotated[tuple[RpcUrl, ...], _each(_rpc_url)] = ()
    """drand servers or their relays."""


@dataclass(frozen=True, slots=True)
class P2pConfig:
    listen: Annotated[tuple[str, ...], _each(_multiaddr)] = ("/ip4/127.0.0.1/tcp/0",)
    """Only a light node may listen nowhere."""
    announce: Annotated[tuple[str, ...], _each(_multiaddr)] = ()
    """Addresses that peers are told instead of those that we listen on."""
    bootstrap: Annotated[tuple[str, ...], _each(peer_address_fault)] = ()
    node_lists: Annotated[tuple[str, ...], _each(_node_list)] = ()
    """Signed lists of peers in DNS, enrtree://KEY@DOMAIN, besides `bootstrap`."""
    name_servers: Annotated[tuple[str, ...], _each(_name_server)] = ()
    """IP or IP:PORT, asked for node_lists; empty: the system's."""
    cluster: Annotated[int, between(MIN_OWN_CLUSTER, 2**16 - 1)] = 1717
    """Waku cluster: nodes of another one are not our peers."""
    shards: Annotated[int, between(1, 1024)] = 8
    role: Literal["full", "relay", "light"] = "full"
    """full: relays every shard and serves light peers; relay: relays only what it follows itself; light: relays
    nothing, full peers publish for it and push to it."""
    max_peers: Annotated[int, between(1, 10_000)] = 128
    """Connections in both directions."""
    max_peer_streams: Annotated[int, between(8, 1024)] = 64
    """Streams that one peer may have open to us."""
    max_prefix_peers: Annotated[int, between(1, 10_000)] = 16
    """Connections opened to us from one part of the internet (a /16, a /32 of IPv6); our own networks don't count."""
    max_peer_memory_mib: Annotated[int, between(LEAST_MEMORY_MIB, 2**20)] = 128
    """Held for one peer: bytes that wait on its streams, frames that are worked on, answers on their way."""
    max_memory_mib: Annotated[int, between(LEAST_MEMORY_MIB, 2**20)] = 1024
    """The same for all peers; at least max_peer_memory_mib."""
    relay_circuits: Annotated[int, between(0, 1024)] = 64
    """A full node hands on bytes between peers that can't dial each other, in so many circuits at a time."""
    relay_mib: Annotated[int, between(1, 2**20)] = 64
    """Of each circuit, which also ends after half an hour."""
    upload_kib_s: Annotated[int, between(0, 2**24)] = 0
    """To all peers together; 0 is as much as the line takes."""
    download_kib_s: Annotated[int, between(0, 2**24)] = 0
    tls_certificate: Path | None = None
    """Chain in PEM, for listening on addresses that end in /tls/ws."""
    tls_key: Path | None = None
    """Its key in PEM, where it isn't in the same file."""
    tls_authorities: Path | None = None
    """Whom to believe when dialling such addresses, in PEM; by default the system's authorities."""


@dataclass(frozen=True, slots=True)
class WorkConfig:
    offered: bool = True
    """Apply for jobs."""
    hosted: bool = True
    """Take packages and data from requesters that submit through this node."""
    max_jobs: Annotated[int, between(1, 64)] = 1
    min_pay_wei: Annotated[Wei, between(0, 2**128)] = NOTHING
    """Least pay of a seat: no application where budget // seats is below it."""
    tokens: Annotated[tuple[Address, ...], _each(address_fault)] = ()
    """ERC-20s that are taken as pay too, whatever the amount."""
    max_stake_wei: Annotated[Wei, between(0, 2**128)] = ONE_ETHER
    """Most stake to lock for one job."""
    memory_mib: Annotated[int, between(1024, 2**24)] = 16_384
    """Address space of each child; XLA maps a good deal more than it touches."""
    cpu_s: Annotated[int, between(1, 10**7)] = 14_400
    """Processor seconds of one request to a child."""
    threads: Annotated[int, between(0, 4096)] = 0
    """Of each child; 0 is one a processor."""


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    missing: Literal["refuse", "warn"] = "refuse"
    """Where this machine can't keep a stranger's model from files, network or processes: refuse the work, or warn."""


@dataclass(frozen=True, slots=True)
class KeysConfig:
    passphrase_file: Path | None = None
    """Holds the passphrase of the key files, mode 0600. SKYNET_PASSPHRASE goes before it."""


@dataclass(frozen=True, slots=True)
class WalletConfig:
    """A wallet whose key is elsewhere; without one the key file in the data folder signs."""

    address: Annotated[Address | None, address_fault] = None
    signer_url: Annotated[RpcUrl | None, _rpc_url] = None
    """JSON-RPC with eth_signTransaction and, for a worker, eth_signTypedData."""
    signer_command: tuple[str, ...] = ()
    """Gets the request as JSON on its standard input and prints what it signed in hex."""


@dataclass(frozen=True, slots=True)
class StoreConfig:
    blobs_mib: Annotated[int, between(64, 2**30)] = 20_480
    """Of all blobs together; beyond, nothing new is stored."""
    archive_mib: Annotated[int, between(1, 2**20)] = 256
    """Past messages that a full node keeps for others: their size, number and age; the oldest go first."""
    archive_messages: Annotated[int, between(1, 10**9)] = 1_000_000
    archive_hours: Annotated[float, between(0.01, 24 * 366)] = 48.0


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "pretty", "json"] = "auto"
    """auto: pretty on a terminal, JSON otherwise."""


@dataclass(frozen=True, slots=True)
class CacheConfig:
    dir: Path = Path(platformdirs.user_cache_dir("skynet"))
    """Finished circuits and SRS, shared by the nodes of this machine."""


@dataclass(frozen=True, slots=True)
class Config:
    network: Annotated[str, _network_name]
    chain: ChainConfig
    data_dir: Path = Path()
    """Keys, records and blobs. Relative to the file, like every path in it."""
    beacon: BeaconConfig = BeaconConfig()
    p2p: P2pConfig = P2pConfig()
    work: WorkConfig = WorkConfig()
    sandbox: SandboxConfig = SandboxConfig()
    keys: KeysConfig = KeysConfig()
    wallet: WalletConfig = WalletConfig()
    store: StoreConfig = StoreConfig()
    log: LogConfig = LogConfig()
    cache: CacheConfig = CacheConfig()


# -- Loading -------------------------------------------------------------------


def load_config(path: Path) -> Config:
    """Read a configuration file; paths in it come out absolute. Raises ConfigError."""
    missing = "make a node folder with `skynet-node init --dir DIR --network local`"
    return parse_config(read_text(path, missing=missing), path)


def parse_config(text: str, path: Path) -> Config:
    """Read `text` as if it lay at `path`. Raises ConfigError."""
    config = parse(Config, text, path)
    if config.data_dir == Path():
        config = replace(config, data_dir=path.parent.absolute())
    if not config.p2p.listen and config.p2p.role != "light":
        remedy = 'add an address like /ip4/0.0.0.0/tcp/4001, or set p2p.role = "light"'
        raise ConfigError(path, "p2p.listen is empty, but only a light node may listen nowhere", remedy)
    if config.p2p.max_memory_mib < config.p2p.max_peer_memory_mib:
        problem = f"p2p.max_memory_mib is {config.p2p.max_memory_mib}, less than p2p.max_peer_memory_mib"
        raise ConfigError(path, problem, "all peers together need at least what one may hold")
    chain = config.chain
    if chain.jobs is not None:
        config = replace(config, chain=replace(chain, jobs=checksum_address(address_bytes(chain.jobs))))
    if chain.market is not None:
        market = checksum_address(address_bytes(chain.market))
        config = replace(config, chain=replace(config.chain, market=market))
    tokens = tuple(checksum_address(address_bytes(token)) for token in config.work.tokens)
    config = replace(config, work=replace(config.work, tokens=tokens))
    return replace(config, wallet=_check_wallet(config.wallet, path))


def _check_wallet(wallet: WalletConfig, path: Path) -> WalletConfig:
    signers = (wallet.signer_url is not None) + bool(wallet.signer_command)
    if signers == 0 and wallet.address is None:
        return wallet
    if signers != 1:
        problem = "wallet.signer_url and wallet.signer_command are both there" if signers else "wallet.address is alone"
        raise ConfigError(path, problem, "name one signer for the address")
    if wallet.address is None:
        raise ConfigError(path, "wallet.address is missing", "say whose wallet the signer signs for")
    return replace(wallet, address=checksum_address(address_bytes(wallet.address)))


def jobs_address(config: Config, path: Path) -> Address:
    """Return the Jobs contract. Raises ConfigError where none is named."""
    if config.chain.jobs is None:
        problem = f"chain.jobs is missing: this file names no contracts on {config.network}"
        raise ConfigError(path, problem, "add the address of a Jobs contract, or deploy one with `skynet deploy`")
    return config.chain.jobs


def keys_folder(config: Config) -> Path:
    return config.data_dir / "keys"
