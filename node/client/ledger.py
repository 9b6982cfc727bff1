"""What a wallet sees of the contracts, and does there: no peers, no data folder, so a node may run beside it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from actors.ports import Mined, Outcome, Reverted, Unreachable
from node.adapters.evm import EvmChain, ExternalSigner, LocalSigner, Signer
from node.adapters.evm.token import NoToken, Token
from node.chain_link import connect_chain
from node.client.feed import Feed
from node.client.jobspec import TokenSpec, to_units
from node.client.progress import Happened, TakenBack
from node.config import Config, jobs_address, keys_folder
from node.errors import CallReverted, ChainError, ConfigError, JobFailed, split_advice
from node.identity import load_keys
from node.key_file import find_passphrase
from node.signer import open_signer, wallet_of
from protocols.abi import ZERO_ADDRESS, address_bytes, checksum_address
from protocols.chain import (
    Assigned,
    Call,
    JobEnded,
    JobPosted,
    JobState,
    KeysDelivered,
    Post,
    ProvingStarted,
    Terms,
    TrainingStarted,
    Withdraw,
    WithdrawIn,
    WorkerEvent,
)
from protocols.chain_follow import Head
from protocols.ids import Address, Digest, JobId, Wei
from protocols.job import compute_price

POLL_S = 0.25
DRAW_S = 120  # the beacon's margin, and time for two movers to fetch, post and draw
PERMIT_S = 3600  # that a permit is good for: as long as a transaction may wait for its block

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ListedJob:
    job: JobId
    requester: Address
    state: JobState
    budget_wei: int
    token: Address = ZERO_ADDRESS


@dataclass(frozen=True, slots=True)
class TokenPrice:
    token: Token
    budget: Wei
    """In the token's smallest unit, as the fee."""
    move_fee: Wei

    @property
    def total(self) -> int:
        """Budget and two moves."""
        return self.budget + 2 * self.move_fee


class Ledger:
    """The contracts, for one wallet. Errors are `UserError`s."""

    def __init__(self, chain: EvmChain, first_block: int, confirmations: int) -> None:
        self.chain = chain
        self._first_block = first_block
        self._confirmations = confirmations

    # -- Reading

    async def past_events(self, job: JobId | None = None) -> tuple[Happened, ...]:
        """Return what the chain has so far, of one job or of all. Raises ChainError."""
        head = await self.chain.head()
        last = head.number if isinstance(head, Head) else self._first_block
        events = await self.chain.traced_events(self._first_block, last, job)
        if isinstance(events, Unreachable):
            raise ChainError("chain", events.reason, "check chain.rpc_urls and try again")
        kept = ((e, gas) for e, gas in events if not isinstance(e, WorkerEvent))
        return tuple(Happened(e, gas) for e, gas in kept if job is None or e.job == job)

    async def job_events(self, job: JobId) -> tuple[Happened, ...]:
        """Return what the chain has of a job. Raises JobFailed if it has no such job."""
        events = await self.past_events(job)
        if not events:
            problem = f"chain {self.chain.chain_id} has no such job"
            raise JobFailed(f"job 0x{job.hex()}", problem, "check the id (`skynet job list`) and chain.rpc_urls")
        return events

    async def jobs(self) -> tuple[ListedJob, ...]:
        """Return every job of the chain, oldest first."""
        found: dict[JobId, ListedJob] = {}
        for happened in await self.past_events():
            match happened.event:
                case JobPosted(job, requester, terms):
                    found[job] = ListedJob(job, requester, JobState.OPEN, terms.budget_wei, terms.token)
                case Assigned(job):
                    found[job] = replace(found[job], state=JobState.ASSIGNED)
                case TrainingStarted(job):
                    found[job] = replace(found[job], state=JobState.TRAINING)
                case ProvingStarted(job):
                    found[job] = replace(found[job], state=JobState.PROVING)
                case JobEnded(job, state):
                    found[job] = replace(found[job], state=state)
                case _:
                    pass
        return tuple(found.values())

    async def posted_terms(self, job: JobId) -> Terms:
        """Return what the job's requester fixed. Raises JobFailed if the chain has no such job."""
        return (await self._posted(job)).terms

    async def awaits_our_keys(self, job: JobId) -> bool:
        """Whether this wallet posted the job and its workers have no keys yet. Raises JobFailed for no such job."""
        events = await self.job_events(job)
        is_ours = any(isinstance(h.event, JobPosted) and h.event.requester == self.chain.wallet for h in events)
        return is_ours and not any(isinstance(h.event, KeysDelivered | JobEnded) for h in events)

    async def _posted(self, job: JobId) -> JobPosted:
        return next(h.event for h in await self.job_events(job) if isinstance(h.event, JobPosted))

    def follow_chain(self, job: JobId) -> AsyncGenerator[Happened | TakenBack, None]:
        """Yield the job's events from its posting on, for ever, and what a reorganisation takes back."""
        return Feed(self.chain, job, self._first_block, self._confirmations, POLL_S).follow()

    # -- Sending

    async def send(self, call: Call) -> Mined:
        """Send a call of the requester's. Raises CallReverted or ChainError."""
        return require_mined(type(call).__name__, await self.chain.send(call))

    async def withdraw(self, token: Address = ZERO_ADDRESS) -> Wei:
        """Pull what the contract owes this wallet, natively or in a token; return how much."""
        credit_wei = require(await self.chain.credit(self.chain.wallet, token))
        if credit_wei:
            await self.send(Withdraw() if token == ZERO_ADDRESS else WithdrawIn(token))
        return credit_wei

    async def post(self, terms: Terms, nonce: bytes) -> Mined:
        """Post a job and pay for it; in a token by permit where that works, else by an allowance."""
        if terms.token != ZERO_ADDRESS:
            price = compute_price(terms)
            deadline_s = require(await self.chain.head()).timestamp_s + PERMIT_S
            outcome = await self.chain.post_with_permit(terms, nonce, price, deadline_s)
            if isinstance(outcome, Mined):
                return outcome
            # A permit in a form of the token's own, or what ails the terms: the plain call will say.
            allowed = await self.chain.allow(terms.token, price)
            if allowed is not None:
                require_mined("approve", allowed)
        return await self.send(Post(terms, nonce))

    async def token(self, address: Address) -> Token:
        """Raises CallReverted for what is no ERC-20."""
        return _require_token(address, await self.chain.token(address))

    async def price_in(self, spec: TokenSpec) -> TokenPrice:
        """What a job takes in its token. Raises ConfigError, and CallReverted where the wallet has less."""
        token = await self.token(checksum_address(address_bytes(spec.address)))
        budget = to_units(spec.budget, token.decimals, "token.budget", token.symbol)
        price = TokenPrice(token, budget, to_units(spec.move_fee, token.decimals, "token.move_fee", token.symbol))
        held = _require_token(spec.address, await self.chain.token_balance(token.address))
        if held < price.total:
            problem = f"holds {token.text(held)}, but this job takes {token.text(price.total)}"
            raise CallReverted(f"wallet {self.chain.wallet}", problem, "send it more, or offer less")
        return price

    async def require_time_to_draw(self, ready_window_s: int) -> None:
        """Raise ConfigError for a job that might expire before a public beacon's round can draw its seats."""
        if require(await self.chain.is_test_beacon()) or ready_window_s >= DRAW_S:
            return
        problem = f"is {ready_window_s}, but drand's round for the seats comes half a minute after the join window"
        raise ConfigError("terms.ready_window_s", problem, f"make it {DRAW_S} or more")

    async def require_balance(self, wanted_wei: Wei, purpose: str) -> None:
        """Raise CallReverted if the wallet has less: before the work, not after it."""
        balance_wei = require(await self.chain.balance(self.chain.wallet))
        if balance_wei < wanted_wei:
            problem = f"holds {balance_wei} wei, but {purpose} takes {wanted_wei} wei and gas"
            raise CallReverted(f"wallet {self.chain.wallet}", problem, "send it more, or offer less")


def _require_token(address: Address, answer: T | NoToken | Unreachable) -> T:
    if isinstance(answer, NoToken):
        raise CallReverted(f"token {address}", f"is no ERC-20 ({answer})", "correct the address")
    return require(answer)


def require(answer: T | Unreachable) -> T:
    """What the chain said. Raises ChainError where it said nothing."""
    if isinstance(answer, Unreachable):
        raise ChainError("chain", answer.reason, "check chain.rpc_urls and try again")
    return answer


def require_mined(what: str, outcome: Outcome) -> Mined:
    """Raises CallReverted or ChainError."""
    match outcome:
        case Mined() as mined:
            return mined
        case Reverted(reason, detail):
            if detail:
                raise CallReverted(f"{what} ({reason})", *split_advice(detail))
            remedy = "check the wallet (`skynet wallet show`) and the job (`skynet job show`)"
            raise CallReverted(what, f"the contract refuses it: {reason}", remedy)
        case Unreachable(reason):
            raise ChainError("chain", reason, "check chain.rpc_urls and try again")


# -- Opening -------------------------------------------------------------------


@asynccontextmanager
async def open_ledger(config: Config, path: Path, *, signs: bool = False) -> AsyncIterator[Ledger]:
    """Open the contracts only, without the data folder: a node may be using it. To send calls, `signs`."""
    async with open_signer(config) as elsewhere:
        signer: Signer | ExternalSigner = elsewhere or _Onlooker(wallet_of(config))
        if signs and elsewhere is None:
            keys = load_keys(keys_folder(config), find_passphrase(config.keys.passphrase_file))
            signer = LocalSigner(keys.wallet)
        async with connect_chain(config, jobs_address(config, path), signer) as chain:
            yield Ledger(chain, config.chain.first_block, config.chain.confirmations)


class _Onlooker:
    """A wallet that is only looked at: its key stays locked."""

    def __init__(self, wallet: Address) -> None:
        self.wallet = wallet

    def sign_digest(self, digest: Digest) -> bytes:
        raise AssertionError("looking signs nothing")
