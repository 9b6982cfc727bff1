"""Random orders on the market: contract and twin agree on each call, and in the end everybody has what is theirs.

Two sellers' tokens misbehave as tokens do; buyers, sellers and strangers call whatever they like whenever they like.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from market_twin import MODEL_WORDS, TOKENS, MarketTwin
from test_market import ONE, POINT, PROOF, make_listing, model_of

from protocols.ids import Wei
from protocols.keccak import keccak256
from protocols.market import (
    NATIVE,
    Answer,
    Buy,
    Delist,
    DeliverKey,
    List,
    MarketCall,
    OrderState,
    Refund,
    RequestInference,
    WithdrawIn,
    compute_input_digest,
    compute_liabilities,
    compute_listing_id,
    compute_order_id,
)

EXAMPLES, STEPS = {"ci": (100, 60), "long": (2_000, 100)}.get(os.environ.get("SKYNET_PROFILE", ""), (10, 40))

people, nonces = st.integers(0, 3), st.integers(0, 3)
tokens = st.sampled_from(("", *TOKENS))
INPUT = compute_input_digest(POINT)  # type: ignore[arg-type]


def nonce_of(number: int) -> bytes:
    return bytes([number + 1]) * 32


class Walk(RuleBasedStateMachine):
    @initialize()
    def found(self) -> None:
        self.twin = MarketTwin()
        self.model = model_of(self.twin)
        self.tokens = (NATIVE, *map(self.twin.token, TOKENS))
        self.totals = {token: self.twin.total(token) for token in self.tokens}

    def send(self, person: int, call: MarketCall, value_wei: int | None = None) -> None:
        self.twin.send(self.twin.people[person], call, value_wei)

    def listing(self, seller: int, nonce: int) -> bytes:
        return compute_listing_id(self.twin.market, self.twin.people[seller].address, nonce_of(nonce))

    def order(self, buyer: int, nonce: int) -> bytes:
        return compute_order_id(self.twin.market, self.twin.people[buyer].address, nonce_of(nonce))

    # -- Moves -----------------------------------------------------------------------

    @rule(
        seller=people,
        nonce=nonces,
        token=tokens,
        prices=st.tuples(st.sampled_from((0, 1, 999)), st.sampled_from((0, 1, 10_000))),
        royalty=st.sampled_from((0, 1, 9_999, 10_000, 10_001)),
        creator=people,
        real=st.booleans(),
        window=st.sampled_from((0, 5, 20)),
    )
    def list(
        self,
        seller: int,
        nonce: int,
        token: str,
        prices: tuple[int, int],
        royalty: int,
        creator: int,
        real: bool,
        window: int,
    ) -> None:
        listing = make_listing(
            self.twin,
            token=self.twin.token(token) if token else NATIVE,
            price_wei=Wei(prices[0]),
            inference_price_wei=Wei(prices[1]),
            model=self.model if real else NATIVE,
            royalty=royalty,
            creator=self.twin.people[creator].address,
            window_s=window,
        )
        self.send(seller, List(listing, "bafy", nonce_of(nonce)))

    @rule(buyer=people, seller=people, nonce=nonces, at=nonces, value=st.sampled_from((None, None, None, 0, 1)))
    def buy(self, buyer: int, seller: int, nonce: int, at: int, value: int | None) -> None:
        self.send(buyer, Buy(self.listing(seller, at), b"k" * 32, nonce_of(nonce)), value)  # type: ignore[arg-type]

    @rule(buyer=people, seller=people, nonce=nonces, at=nonces)
    def request(self, buyer: int, seller: int, nonce: int, at: int) -> None:
        self.send(buyer, RequestInference(self.listing(seller, at), INPUT, b"", nonce_of(nonce)))  # type: ignore[arg-type]

    @rule(sender=people, buyer=people, nonce=nonces)
    def deliver(self, sender: int, buyer: int, nonce: int) -> None:
        self.send(sender, DeliverKey(self.order(buyer, nonce), b"sealed"))  # type: ignore[arg-type]

    @rule(sender=people, buyer=people, nonce=nonces, valid=st.booleans())
    def answer(self, sender: int, buyer: int, nonce: int, valid: bool) -> None:
        proof = PROOF if valid else PROOF[:-1] + b"\x00"
        self.send(sender, Answer(self.order(buyer, nonce), proof, (1, 2), MODEL_WORDS))  # type: ignore[arg-type]

    @rule(sender=people, seller=people, at=nonces)
    def delist(self, sender: int, seller: int, at: int) -> None:
        self.send(sender, Delist(self.listing(seller, at)))  # type: ignore[arg-type]

    @rule(sender=people, buyer=people, nonce=nonces)
    def refund(self, sender: int, buyer: int, nonce: int) -> None:
        self.send(sender, Refund(self.order(buyer, nonce)))  # type: ignore[arg-type]

    @rule(sender=people, token=tokens)
    def withdraw(self, sender: int, token: str) -> None:
        self.send(sender, WithdrawIn(self.twin.token(token) if token else NATIVE))

    @rule(seconds=st.integers(1, 12))
    def wait(self, seconds: int) -> None:
        self.twin.world.pass_time(self.twin.world.now_s + seconds)

    @rule(seller=people, listing=nonces, nonce=nonces, function=st.sampled_from(("buy", "withdrawIn", "refund")))
    def arm(self, seller: int, listing: int, nonce: int, function: str) -> None:
        """From now on the hostile token calls back in the middle of a transfer."""
        arguments = {
            "buy": (self.listing(seller, listing), b"k" * 32, nonce_of(nonce)),
            "withdrawIn": (self.twin.token("HostileToken"),),
            "refund": (keccak256(ONE),),
        }[function]
        data = self.twin.world.interfaces["Market"].encode(function, arguments)
        self.twin.token_call("HostileToken", self.twin.world.deployer, "arm", self.twin.address, data)

    # -- What always holds -------------------------------------------------------------

    @invariant()
    def it_holds_what_it_owes(self) -> None:
        for token in self.tokens:
            assert self.twin.held(token, self.twin.address) == compute_liabilities(self.twin.market, token)

    def teardown(self) -> None:
        """A stranger refunds what nobody filled, and everybody takes out all they can: nothing is left behind."""
        if not hasattr(self, "twin"):
            return
        twin = self.twin
        twin.audit()
        twin.world.pass_time(twin.world.now_s + 20)
        for order_id, order in twin.market.orders.items():
            if order.state is OrderState.PAID:
                twin.do(twin.people[3], Refund(order_id))
        for (token, account), owed in tuple(twin.market.credits.items()):
            if owed:
                twin.do(next(p for p in twin.people if p.address == account), WithdrawIn(token))
        assert all(twin.held(token, twin.address) == 0 for token in self.tokens)
        twin.audit()
        assert self.totals == {token: twin.total(token) for token in self.tokens}


def test_no_wei_is_lost_or_locked_up() -> None:
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    phases = (Phase.explicit, Phase.generate)  # shrinking a walk takes longer than a test may
    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, phases=phases, suppress_health_check=quiet
        ),
    )
