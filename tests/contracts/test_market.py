"""Market.sol and Models.sol: what is sold, to whom the money goes, and what tokens and strangers try."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest
from contract_world import Done, Refused
from market_twin import MODEL_WORDS, OUTPUTS, WEIGHTS, MarketTwin

from protocols.ids import Address, ContentId, Digest, Wei
from protocols.keccak import keccak256
from protocols.market import (
    NATIVE,
    Answer,
    Buy,
    Delist,
    DeliverKey,
    List,
    Listing,
    OrderState,
    Refund,
    RequestInference,
    Ware,
    WithdrawIn,
    compute_input_digest,
)

ONE, TWO = b"1" * 32, b"2" * 32
POINT = b"x" * 64
KEY_DIGEST = keccak256(b"".join(word.to_bytes(32, "big") for word in MODEL_WORDS))
FIXING = (KEY_DIGEST, keccak256(WEIGHTS), 0, 13, 13, OUTPUTS)
PROOF = POINT + WEIGHTS + b"the rest\x01"


@pytest.fixture
def twin() -> MarketTwin:
    return MarketTwin()


def fix(twin: MarketTwin, fixing: tuple[object, ...] = FIXING) -> Done | Refused:
    data = twin.world.interfaces["Models"].encode("fix", (fixing,))
    return twin.world.transact(twin.world.deployer, twin.world.addresses["Models"], data)


def model_of(twin: MarketTwin, fixing: tuple[object, ...] = FIXING) -> Address:
    assert isinstance(fix(twin, fixing), Done)
    return Address(twin.world.read("Models", "addressOf", fixing))


def make_listing(twin: MarketTwin, **changes: object) -> Listing:
    listing = Listing(
        ware=Ware.MODEL,
        content=ContentId(keccak256(b"content")),
        terms=Digest(keccak256(b"terms")),
        token=NATIVE,
        price_wei=Wei(1_000),
        inference_price_wei=Wei(0),
        model=NATIVE,
        window_s=60,
        creator=twin.people[2].address,
        royalty=250,
    )
    return replace(listing, **changes)  # type: ignore[arg-type]


def put_up(twin: MarketTwin, **changes: object) -> bytes:
    twin.do(twin.people[0], List(make_listing(twin, **changes), "bafy", ONE))
    return twin.listing_id(ONE)


# -- Keys ----------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "GoodToken", "SilentToken"])
def test_a_key_in_time_pays_seller_and_creator(twin: MarketTwin, token: str) -> None:
    seller, buyer, creator, _ = twin.people
    paid_in = twin.token(token) if token else NATIVE
    listing = put_up(twin, token=paid_in)
    total, before = twin.total(paid_in), twin.held(paid_in, seller.address)
    twin.do(buyer, Buy(listing, b"k" * 32, ONE))
    twin.audit()
    twin.do(seller, DeliverKey(twin.order_id(buyer, ONE), b"sealed"))
    twin.audit()
    for person in (seller, creator):
        twin.do(person, WithdrawIn(paid_in))
        assert twin.send(person, WithdrawIn(paid_in)) == "NothingOwed"
    assert twin.held(paid_in, seller.address) == before + 975
    assert twin.held(paid_in, twin.address) == 0
    assert twin.total(paid_in) == total
    twin.audit()


def test_without_a_key_in_time_the_buyer_has_it_all_back(twin: MarketTwin) -> None:
    seller, buyer, _, stranger = twin.people
    listing, order = put_up(twin), twin.order_id(buyer, ONE)
    before = twin.held(NATIVE, buyer.address)
    twin.do(buyer, Buy(listing, b"k" * 32, ONE))
    twin.world.pass_time(twin.world.now_s + 59)
    assert twin.send(stranger, Refund(order)) == "TooEarly"
    twin.world.pass_time(twin.world.now_s + 1)
    assert twin.send(seller, DeliverKey(order, b"sealed")) == "TooLate"
    twin.do(stranger, Refund(order))
    assert twin.send(stranger, Refund(order)) == "WrongOrder"
    twin.do(buyer, WithdrawIn(NATIVE))
    assert twin.held(NATIVE, buyer.address) == before
    twin.audit()


def test_an_order_is_filled_once_and_by_its_seller(twin: MarketTwin) -> None:
    seller, buyer, _, stranger = twin.people
    listing, order = put_up(twin), twin.order_id(buyer, ONE)
    assert twin.send(seller, DeliverKey(order, b"sealed")) == "WrongOrder"
    twin.do(buyer, Buy(listing, b"k" * 32, ONE))
    assert twin.send(buyer, Buy(listing, b"k" * 32, ONE)) == "OrderExists"
    assert twin.send(stranger, DeliverKey(order, b"sealed")) == "NotSeller"
    assert twin.send(seller, DeliverKey(order, b"")) == "EmptyKey"
    assert twin.send(seller, Answer(order, PROOF, (1, 2), MODEL_WORDS)) == "NotForSale"
    twin.do(seller, DeliverKey(order, b"sealed"))
    assert twin.send(seller, DeliverKey(order, b"sealed")) == "WrongOrder"
    twin.world.pass_time(twin.world.now_s + 60)
    assert twin.send(buyer, Refund(order)) == "WrongOrder"
    twin.audit()


def test_a_delisted_ware_takes_no_more_orders_and_fills_the_paid_ones(twin: MarketTwin) -> None:
    seller, buyer, _, stranger = twin.people
    listing = put_up(twin)
    twin.do(buyer, Buy(listing, b"k" * 32, ONE))
    assert twin.send(stranger, Delist(listing)) == "NotSeller"
    twin.do(seller, Delist(listing))
    assert twin.send(buyer, Buy(listing, b"k" * 32, TWO)) == "NotForSale"
    twin.do(seller, DeliverKey(twin.order_id(buyer, ONE), b"sealed"))
    twin.audit()


def test_what_can_not_be_listed_or_bought(twin: MarketTwin) -> None:
    seller, buyer = twin.people[:2]

    def refused(**changes: object) -> str | None:
        return twin.send(seller, List(make_listing(twin, **changes), "bafy", TWO))

    assert refused(content=ContentId(bytes(32))) == "NoContent"
    assert refused(price_wei=Wei(0)) == "NothingForSale"
    assert refused(window_s=0) == "NoWindow"
    assert refused(royalty=10_001) == "BadRoyalty"
    assert refused(creator=NATIVE) == "BadRoyalty"
    assert refused(inference_price_wei=Wei(1)) == "UnknownModel"
    listing = put_up(twin)
    assert twin.send(seller, List(make_listing(twin), "bafy", ONE)) == "ListingExists"
    assert twin.send(buyer, Buy(twin.listing_id(TWO), b"k" * 32, ONE)) == "UnknownListing"
    assert twin.send(buyer, Buy(listing, bytes(32), ONE)) == "EmptyKey"
    assert twin.send(buyer, Buy(listing, b"k" * 32, ONE), 999) == "WrongValue"
    assert twin.send(buyer, Buy(listing, b"k" * 32, ONE), 1_001) == "WrongValue"
    assert twin.send(buyer, RequestInference(listing, Digest(ONE), b"", ONE)) == "NotForSale"
    assert twin.send(buyer, Refund(twin.order_id(buyer, ONE))) == "WrongOrder"
    twin.audit()


# -- Inference -----------------------------------------------------------------------


def test_inference_is_paid_on_a_verified_proof_of_this_model_and_this_input(twin: MarketTwin) -> None:
    seller, buyer, _, stranger = twin.people
    listing = put_up(twin, price_wei=Wei(0), inference_price_wei=Wei(40), model=model_of(twin))
    order = twin.order_id(buyer, ONE)
    assert twin.send(buyer, RequestInference(listing, Digest(bytes(32)), b"", ONE)) == "EmptyKey"
    twin.do(buyer, RequestInference(listing, compute_input_digest(POINT), b"sealed input", ONE))  # type: ignore[arg-type]
    good = Answer(order, PROOF, (1, 2), MODEL_WORDS)
    bent = (
        replace(good, proof=b"y" * 64 + PROOF[64:]),  # another input
        replace(good, proof=POINT + b"v" * 64 + PROOF[128:]),  # other weights
        replace(good, proof=PROOF[:-1] + b"\x00"),  # no proof
        replace(good, proof=PROOF[:127]),
        replace(good, instances=(1,)),
        replace(good, instances=(1, 2, 3)),
    )
    for call in bent:
        assert twin.send(seller, call) == "ProofInvalid", call
    assert twin.send(seller, DeliverKey(order, b"sealed")) == "NotForSale"
    twin.do(stranger, good)  # anybody's transaction, but the seller's money
    assert twin.market.credits[NATIVE, seller.address] == 39
    assert twin.market.orders[order].state is OrderState.FILLED
    assert twin.send(stranger, good) == "WrongOrder"
    twin.audit()


def test_an_instance_has_one_reading(twin: MarketTwin) -> None:
    listing = put_up(twin, inference_price_wei=Wei(40), model=model_of(twin))
    twin.do(twin.people[1], RequestInference(listing, compute_input_digest(POINT), b"", ONE))  # type: ignore[arg-type]
    order = twin.order_id(twin.people[1], ONE)
    field = 21888242871839275222246405745257275088548364400416034343698204186575808495617
    words = [word.to_bytes(32, "big") for word in MODEL_WORDS]
    data = twin.world.interfaces["Market"].encode("answer", (order, PROOF, (1, field), words))
    assert twin.world.transact(twin.people[0].address, twin.address, data) == Refused("ProofInvalid")


def test_a_model_is_where_what_it_fixes_puts_it(twin: MarketTwin) -> None:
    world = twin.world
    address = model_of(twin)
    assert isinstance(fix(twin), Done)  # again: harmless
    world.interfaces["Model"] = __import__("contract_world").read_artifact("Model")[1]
    world.addresses["Model"] = address
    assert world.read("Model", "fixing") == FIXING
    others = [(*FIXING[:at], value, *FIXING[at + 1 :]) for at, value in enumerate((ONE, ONE, 1, 14, 14, 3))]
    assert len({world.read("Models", "addressOf", other) for other in (FIXING, *others)}) == 7
    assert fix(twin, (*FIXING[:5], 0)) == Refused("NoOutputs")
    assert fix(twin, (bytes(32), *FIXING[1:])) == Refused("UnknownKey", (bytes(32),))


def test_only_models_made_here_about_inference_can_answer(twin: MarketTwin) -> None:
    evaluation = model_of(twin, (*FIXING[:2], 1, *FIXING[3:]))
    for model in (evaluation, twin.people[3].address, twin.token("GoodToken")):
        listing = make_listing(twin, inference_price_wei=Wei(40), model=model)
        data = twin.world.interfaces["Market"].encode("list", (astuple(listing), "bafy", ONE))
        assert twin.world.transact(twin.people[0].address, twin.address, data) == Refused("UnknownModel")


# -- Tokens --------------------------------------------------------------------------


def test_a_token_that_keeps_a_fee_is_refused(twin: MarketTwin) -> None:
    listing = put_up(twin, token=twin.token("FeeToken"))
    assert twin.send(twin.people[1], Buy(listing, b"k" * 32, ONE)) == "WrongValue"
    assert twin.send(twin.people[1], Buy(listing, b"k" * 32, ONE), 1_000) == "WrongValue"
    twin.audit()


def test_a_token_whose_fee_rounds_to_nothing_is_taken(twin: MarketTwin) -> None:
    listing = put_up(twin, token=twin.token("FeeToken"), price_wei=Wei(99))
    twin.do(twin.people[1], Buy(listing, b"k" * 32, ONE))
    twin.audit()


def test_native_money_sent_along_with_a_token_is_refused(twin: MarketTwin) -> None:
    listing = put_up(twin, token=twin.token("GoodToken"))
    assert twin.send(twin.people[1], Buy(listing, b"k" * 32, ONE), 1) == "WrongValue"


def test_a_token_that_calls_back_gets_nothing_twice(twin: MarketTwin) -> None:
    seller, buyer = twin.people[:2]
    hostile = twin.token("HostileToken")
    listing, market = put_up(twin, token=hostile), twin.world.interfaces["Market"]
    for inner in (
        market.encode("buy", (listing, b"k" * 32, TWO)),
        market.encode("withdrawIn", (hostile,)),
    ):
        twin.token_call("HostileToken", seller.address, "arm", twin.address, inner)
        twin.do(buyer, Buy(listing, b"k" * 32, keccak256(inner)))
        twin.do(seller, DeliverKey(twin.order_id(buyer, keccak256(inner)), b"sealed"))
        twin.do(seller, WithdrawIn(hostile))
    assert twin.world.read("HostileToken", "succeeded") == 0
    twin.audit()


def test_a_stuck_token_sticks_alone(twin: MarketTwin) -> None:
    seller, buyer = twin.people[:2]
    hostile = twin.token("HostileToken")
    listing = put_up(twin, token=hostile)
    twin.do(buyer, Buy(listing, b"k" * 32, ONE))
    twin.do(seller, DeliverKey(twin.order_id(buyer, ONE), b"sealed"))
    twin.do(seller, List(make_listing(twin), "bafy", TWO))
    twin.do(buyer, Buy(twin.listing_id(TWO), b"k" * 32, TWO))
    twin.do(seller, DeliverKey(twin.order_id(buyer, TWO), b"sealed"))
    twin.token_call("HostileToken", seller.address, "stick", True)
    data = twin.world.interfaces["Market"].encode("withdrawIn", (hostile,))
    assert isinstance(twin.world.transact(seller.address, twin.address, data), Refused)
    twin.do(seller, WithdrawIn(NATIVE))
    twin.token_call("HostileToken", seller.address, "stick", False)
    twin.do(seller, WithdrawIn(hostile))
    twin.audit()
