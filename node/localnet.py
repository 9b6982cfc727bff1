"""A whole network on this machine, of real processes: one development chain, funded wallets, nodes.

What `skynet devchain` and `skynet demo` start and the end-to-end tests drive. The processes share TCP
sockets and the cache folder, nothing else; each is ended by its pid when the block ends.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import trio

from node.adapters.evm import LocalSigner, deploy, open_endpoint
from node.adapters.evm.fund import transfer
from node.config import ADDRESS_FILE
from node.devchain.journal import FILE as JOURNAL_FILE
from node.errors import ChainError, DataError, PeerUnreachable
from node.initial import Setting, write_initial
from node.processes import ChainProcess, open_chain, open_process
from node.secret import Secret
from protocols.ids import Address, Wei

CHAIN_FILE = "chain.json"
CONFIG_FILE = "node.toml"
START_S = 60.0
FUND_WEI = Wei(5 * 10**18)

# -- The chain -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChainInfo:
    """What `chain.json` in a development chain's folder holds."""

    url: str
    chain_id: int
    jobs: Address
    accounts: str
    """File of funded accounts."""
    market: Address = Address("")  # noqa: RUF009 - a NewType call is the identity
    """Empty where an older version deployed."""


def read_chain_info(folder: Path) -> ChainInfo:
    """Raises DataError if no development chain wrote this folder."""
    path = folder / CHAIN_FILE
    try:
        return ChainInfo(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        raise DataError(path, "is no description of a chain", f"start one: `skynet devchain --dir {folder}`") from None


@asynccontextmanager
async def open_devchain(folder: Path, *, port: int = 0) -> AsyncIterator[ChainInfo]:
    """Start a development chain with the contracts on it, and describe it in the folder.

    One that ran in this folder goes on where it was, at its port: the nodes' configurations stay true.
    """
    known = read_chain_info(folder) if (folder / CHAIN_FILE).exists() else None
    if not port and known is not None:
        port = urlsplit(known.url).port or 0
    async with open_chain(folder, port=port) as chain:
        yield await set_up_chain(chain, known)


async def set_up_chain(chain: ChainProcess, known: ChainInfo | None = None) -> ChainInfo:
    """Deploy the contracts on a chain that starts, unless it has them, and describe it in its folder.

    Raises ChainError.
    """
    info = await _deploy(await _first_line(chain), known)
    await trio.Path(chain.folder / CHAIN_FILE).write_text(json.dumps(asdict(info)) + "\n")
    return info


async def _first_line(chain: ChainProcess) -> Mapping[str, object]:
    stdout, line = chain.process.stdout, b""
    assert stdout is not None
    with trio.move_on_after(START_S + _replay_s(chain.folder)):
        while not line.endswith(b"\n") and (chunk := await stdout.receive_some(4096)):
            line += chunk
    try:
        ready: Mapping[str, object] = json.loads(line)
    except ValueError:
        last = (chain.log.read_text(errors="replace").strip().splitlines() or ["no word"])[-1].removeprefix("error: ")
        raise ChainError("development chain", f"did not start: {last}", f"its log is {chain.log}") from None
    return ready


def _replay_s(folder: Path) -> float:
    """How long a chain that is there may take to come back: at a hundred bytes a block, 10 ms each."""
    journal = folder / JOURNAL_FILE
    return journal.stat().st_size / 10_000 if journal.exists() else 0.0


async def _deploy(ready: Mapping[str, object], known: ChainInfo | None) -> ChainInfo:
    url, accounts = str(ready["url"]), str(ready["accounts"])
    async with open_endpoint(url) as endpoint:
        if known is not None and await endpoint.request("eth_getCode", known.jobs, "latest") not in (None, "0x"):
            return replace(known, url=url, accounts=accounts)
        deployed = await deploy(endpoint, dev_signer(accounts, 0), development=True)
    return ChainInfo(url, deployed.chain_id, deployed.jobs, accounts, deployed.market)


def dev_signer(accounts: str, number: int) -> LocalSigner:
    """Return one of the chain's funded accounts; everybody knows their keys. Raises DataError if there are none."""
    try:
        listed = json.loads(Path(accounts).read_text())["accounts"]
    except (OSError, ValueError, KeyError):
        problem = "holds no accounts of a development chain"
        raise DataError(accounts or CHAIN_FILE, problem, "name a file with the key of a wallet that pays") from None
    return LocalSigner(Secret(bytes.fromhex(listed[number]["private_key"].removeprefix("0x"))))


async def fund(
    info: ChainInfo, wallets: Sequence[Address], amount_wei: Wei = FUND_WEI, signer: LocalSigner | None = None
) -> None:
    """Give money to wallets: of `signer`, else of a development account."""
    async with open_endpoint(info.url) as endpoint:
        await transfer(endpoint, signer or dev_signer(info.accounts, 0), wallets, amount_wei)


# -- Nodes ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LocalNode:
    folder: Path
    wallet: Address

    @property
    def config(self) -> Path:
        return self.folder / CONFIG_FILE


def make_node(folder: Path, info: ChainInfo, values: Mapping[str, Setting]) -> LocalNode:
    """Make a node's folder for this chain."""
    chain: dict[str, Setting] = {
        "chain.rpc_urls": (info.url,),
        "chain.chain_id": info.chain_id,
        "chain.jobs": info.jobs,
        "log.format": "json",
    }
    if info.market:
        chain["chain.market"] = info.market
    return LocalNode(folder, write_initial(folder, "local", {**chain, **values}).identity.wallet)


@asynccontextmanager
async def open_node(node: LocalNode) -> AsyncIterator[trio.Process]:
    """Run `skynet-node` on a folder; its log is `node.log` there."""
    (node.folder / ADDRESS_FILE).unlink(missing_ok=True)
    command = ["-m", "node.cli.node", "--config", str(node.config)]
    async with open_process(command, node.folder / "node.log") as process:
        yield process


async def wait_listening(node: LocalNode, process: trio.Process) -> tuple[str, ...]:
    """Return the addresses that the node left in its folder. Raises PeerUnreachable if it doesn't come up."""
    path = trio.Path(node.folder / ADDRESS_FILE)
    with trio.move_on_after(START_S):
        while process.returncode is None:
            if await path.exists():
                return tuple(json.loads(await path.read_text())["addresses"])
            await trio.sleep(0.05)
    raise PeerUnreachable(f"node {node.folder}", "did not start", f"see {node.folder / 'node.log'}")
