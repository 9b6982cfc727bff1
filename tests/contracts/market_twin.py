"""`Market.sol` and `protocols/market.py` side by side: every call goes to both, and they must agree."""

from __future__ import annotations

from dataclasses import astuple, dataclass, field
from typing import Any

from contract_world import Done, Refused, World, make_account
from evm_backends import Account

from protocols.ids import Address, Wei
from protocols.market import (
    NATIVE,
    Answer,
    Buy,
    Facts,
    List,
    ListingId,
    Market,
    MarketCall,
    OrderId,
    RequestInference,
    Revert,
    Transaction,
    compute_liabilities,
    compute_listing_id,
    compute_order_id,
    step,
)

TOKENS = ("GoodToken", "SilentToken", "FeeToken", "HostileToken")
MINTED = 1_000_000
FEE_FROM = 100
"""`FeeToken` keeps a hundredth, rounded down: less than this arrives whole."""
MODEL_WORDS = tuple(range(24))


@dataclass
class MarketTwin:
    world: World = field(default_factory=World)
    people: tuple[Account, ...] = field(
        default_factory=lambda: tuple(make_account(name) for name in ("seller", "buyer", "creator", "stranger"))
    )

    def __post_init__(self) -> None:
        world = self.world
        world.deploy("Models", world.addresses["Verifiers"])
        world.deploy("Market", world.addresses["Models"])
        self.market = Market(world.chain_id, world.addresses["Market"])
        world.enrich(*self.people)
        for name in TOKENS:
            world.deploy(name)
            for person in self.people:
                self.token_call(name, world.deployer, "mint", person.address, MINTED)
                self.token_call(name, person.address, "approve", self.address, MINTED)
        self.watched = {
            (token, who): self.held(token, who)
            for token in (NATIVE, *map(self.token, TOKENS))
            for who in (*(p.address for p in self.people),)
        }

    # -- Names -------------------------------------------------------------------

    @property
    def address(self) -> Address:
        return self.world.addresses["Market"]

    def token(self, name: str) -> Address:
        return self.world.addresses[name]

    def token_call(self, name: str, sender: Address, function: str, *args: Any) -> Done | Refused:
        return self.world.transact(sender, self.token(name), self.world.interfaces[name].encode(function, args))

    def held(self, token: Address, who: Address) -> int:
        if token == NATIVE:
            return self.world.balance(who)
        name = next(n for n, a in self.world.addresses.items() if a == token)
        return int(self.world.read(name, "balanceOf", who))

    def listing_id(self, nonce: bytes) -> ListingId:
        return compute_listing_id(self.market, self.people[0].address, nonce)

    def order_id(self, buyer: Account, nonce: bytes) -> OrderId:
        return compute_order_id(self.market, buyer.address, nonce)

    # -- Both sides --------------------------------------------------------------

    def send(self, sender: Account, call: MarketCall, value_wei: int | None = None) -> str | None:
        """None where both accept, else the name by which both refuse."""
        value = self.price_of(call) if value_wei is None else value_wei
        facts = self._facts(call)
        tx = Transaction(sender.address, Wei(value), self.world.now_s, call, facts)
        expected = step(self.market, tx)
        function, args = translate(call)
        data = self.world.interfaces["Market"].encode(function, args)
        outcome = self.world.transact(sender.address, self.address, data, value)
        match expected, outcome:
            case Revert(name), Refused(real):
                assert name == real or (name == "NotPayable" and real == ""), f"{call}: {name} or {real}?"
                return name
            case Market() as market, Done():
                self.market = market
                return None
        raise AssertionError(f"{call}: the twin says {expected}, the contract {outcome}")

    def do(self, sender: Account, call: MarketCall) -> None:
        refusal = self.send(sender, call)
        assert refusal is None, f"{call}: {refusal}"

    def price_of(self, call: MarketCall) -> int:
        """What an honest sender pays along."""
        match call:
            case Buy(listing) if listing in self.market.offers:
                found = self.market.offers[listing].listing
                return int(found.price_wei) if found.token == NATIVE else 0
            case RequestInference(listing) if listing in self.market.offers:
                found = self.market.offers[listing].listing
                return int(found.inference_price_wei) if found.token == NATIVE else 0
        return 0

    def audit(self) -> None:
        """The contract holds exactly what it owes, in every token, and everybody can see their part of it."""
        for token in (NATIVE, *map(self.token, TOKENS)):
            assert self.held(token, self.address) == compute_liabilities(self.market, token)
            for person in self.people:
                owed = self.world.read("Market", "creditIn", token, person.address)
                assert owed == self.market.credits.get((token, person.address), 0)
        for order_id, order in self.market.orders.items():
            buyer, deadline_s, state, listing, wanted, amount = self.world.read("Market", "orderOf", order_id)
            assert (buyer.lower(), deadline_s, state) == (order.buyer.lower(), order.deadline_s, order.state)
            assert (listing, amount) == (order.listing, order.amount_wei)
            assert wanted == (order.input or bytes(32))

    def total(self, token: Address) -> int:
        """Of all that the people and the contract hold: no call changes it."""
        return sum(self.held(token, p.address) for p in self.people) + self.held(token, self.address)

    def _facts(self, call: MarketCall) -> Facts:
        match call:
            case List(listing):
                return Facts(is_inference_model=bool(self.world.read("Models", "isModel", listing.model)))
            case Buy(listing) | RequestInference(listing) if listing in self.market.offers:
                found = self.market.offers[listing].listing
                price_wei = found.price_wei if isinstance(call, Buy) else found.inference_price_wei
                return Facts(is_paid=found.token != self.token("FeeToken") or price_wei < FEE_FROM)
            case Answer(order, proof, instances) if order in self.market.orders:
                wanted = self.market.orders[order].input
                return Facts(proof_valid=is_valid(proof, instances, wanted))
        return Facts()


def is_valid(proof: bytes, instances: tuple[int, ...], wanted: bytes | None) -> bool:
    """What `Model` says where `VerifiersDouble` judges the rest."""
    from protocols.keccak import keccak256

    return (
        len(proof) > 128
        and len(instances) == OUTPUTS
        and keccak256(proof[:64]) == wanted
        and proof[64:128] == WEIGHTS
        and proof[-1:] == b"\x01"
    )


OUTPUTS = 2
WEIGHTS = b"w" * 64


def translate(call: MarketCall) -> tuple[str, tuple[Any, ...]]:
    match call:
        case List(listing, cid, nonce):
            return "list", (astuple(listing), cid, nonce)
        case Answer(order, proof, instances, words):
            return "answer", (order, proof, instances, [word.to_bytes(32, "big") for word in words])
    name = type(call).__name__
    return name[0].lower() + name[1:], astuple(call)
