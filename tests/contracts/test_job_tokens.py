"""Jobs paid in ERC-20s: good ones, old ones, and those that steal, call back or stick."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import pytest
from contract_world import Done, Refused, sign
from evm_backends import Account
from job_author import NONCE, TERMS
from job_twin import Station, Twin
from test_jobs import prove_all

from protocols.abi import encode_words
from protocols.chain import Apply, Assign, Cancel, DeliverKeys, Post, Ready, Settle, Terms, Withdraw, WithdrawIn
from protocols.ids import Address, Wei
from protocols.job import compute_price, compute_token_liabilities
from protocols.keccak import keccak256

MINTED = 10_000


def call(twin: Twin, token: str, sender: Account | Address, function: str, *args: Any) -> Done | Refused:
    address = sender.address if isinstance(sender, Account) else sender
    world = twin.world
    return world.transact(address, world.addresses[token], world.interfaces[token].encode(function, args))


def held(twin: Twin, token: str, who: Address) -> int:
    return int(twin.world.read(token, "balanceOf", who))


def pay_in(twin: Twin, token: str, *, approved: int = MINTED) -> Terms:
    """Terms in a token that the requester holds and has approved."""
    twin.world.deploy(token)
    assert isinstance(call(twin, token, twin.world.deployer, "mint", twin.requester.address, MINTED), Done)
    assert isinstance(call(twin, token, twin.requester, "approve", twin.world.jobs, approved), Done)
    return replace(TERMS, token=twin.world.addresses[token])


def audit(twin: Twin, token: str) -> None:
    twin.audit()
    address = twin.world.addresses[token]
    assert held(twin, token, twin.world.jobs) == compute_token_liabilities(twin.ledger, address)
    for account in twin.accounts:
        owed = twin.world.read("Jobs", "creditIn", address, account)
        assert owed == twin.ledger.token_credits.get((address, account), 0)


@pytest.mark.parametrize("token", ["GoodToken", "SilentToken"])
def test_a_whole_job_in_a_token(twin: Twin, token: str) -> None:
    terms, job = pay_in(twin, token), twin.job_id()
    native = twin.world.balance(twin.world.jobs)
    twin.do(twin.requester, Post(terms, NONCE))
    audit(twin, token)
    for worker in twin.crew[:4]:
        twin.do(worker, Apply(job))
    twin.wait(11)
    twin.do(twin.delegate, Assign(job))
    twin.do(twin.requester, DeliverKeys(job, (b"w",) * 3))
    for seat in twin.seats(job)[:2]:
        twin.do(seat, Ready(job))
    for _ in range(terms.rounds):
        twin.do(twin.delegate, twin.commit(job))
    twin.wait(2)
    prove_all(twin, job, 0, 1, 2)
    twin.do(twin.delegate, Settle(job))
    audit(twin, token)
    assert twin.refusal(twin.delegate, Withdraw()) == "NothingOwed"  # nothing native
    for account in (*twin.seats(job), twin.requester, twin.delegate):
        twin.do(account, WithdrawIn(terms.token))
        assert twin.refusal(account, WithdrawIn(terms.token)) == "NothingOwed"
    audit(twin, token)
    assert held(twin, token, twin.world.jobs) == 0
    assert held(twin, token, twin.seats(job)[0].address) == TERMS.budget_wei // 3
    assert twin.world.balance(twin.world.jobs) == native == 0


def test_the_whole_price_or_nothing(twin: Twin) -> None:
    terms = pay_in(twin, "GoodToken", approved=compute_price(TERMS) - 1)
    outcome = twin.world.send(twin.requester.address, Post(terms, NONCE))
    assert isinstance(outcome, Refused)
    assert outcome.name == "ERC20InsufficientAllowance"
    call(twin, "GoodToken", twin.requester, "approve", twin.world.jobs, compute_price(TERMS))
    assert twin.refusal(twin.requester, Post(terms, NONCE), 1) == "WrongValue"  # native money besides
    twin.do(twin.requester, Post(terms, NONCE))
    audit(twin, "GoodToken")


def test_a_token_that_keeps_a_fee_is_refused(twin: Twin) -> None:
    terms = pay_in(twin, "FeeToken")
    price = compute_price(TERMS)
    assert twin.world.send(twin.requester.address, Post(terms, NONCE)) == Refused("WrongValue", (price,))
    assert held(twin, "FeeToken", twin.requester.address) == MINTED


def test_what_is_no_token_is_refused(twin: Twin) -> None:
    for address in (twin.requester.address, twin.world.workers):
        terms = replace(TERMS, token=address)
        assert isinstance(twin.world.send(twin.requester.address, Post(terms, NONCE)), Refused)


def test_a_token_that_calls_back_gets_nothing_twice(twin: Twin) -> None:
    """In the middle of the transfer: a second job, the first one's cancellation, a withdrawal."""
    terms, jobs = pay_in(twin, "HostileToken"), twin.world.interfaces["Jobs"]
    inner = (
        jobs.encode("post", (astuple(terms), b"2" * 32)),
        jobs.encode("withdrawIn", (terms.token,)),
        jobs.encode("cancel", (twin.job_id(),)),
    )
    for number, data in enumerate(inner):
        nonce = bytes([number + 5]) * 32
        call(twin, "HostileToken", twin.requester, "arm", twin.world.jobs, data)
        twin.do(twin.requester, Post(terms, nonce))
        twin.do(twin.requester, Cancel(twin.job_id(nonce)))
        twin.do(twin.requester, WithdrawIn(terms.token))
    assert twin.world.read("HostileToken", "succeeded") == 0
    assert held(twin, "HostileToken", twin.requester.address) == MINTED
    audit(twin, "HostileToken")


def test_a_stuck_token_sticks_alone(opened: Station) -> None:
    """A job in it still settles; who is owed native money has it."""
    twin = opened.twin
    terms = pay_in(twin, "HostileToken")
    twin.do(twin.requester, Post(terms, b"2" * 32))
    call(twin, "HostileToken", twin.requester, "stick", True)
    twin.do(twin.requester, Cancel(opened.job))
    twin.do(twin.requester, Cancel(twin.job_id(b"2" * 32)))
    assert isinstance(twin.world.send(twin.requester.address, WithdrawIn(terms.token)), Refused)
    twin.do(twin.requester, Withdraw())
    call(twin, "HostileToken", twin.requester, "stick", False)
    twin.do(twin.requester, WithdrawIn(terms.token))
    audit(twin, "HostileToken")


# -- Permit --------------------------------------------------------------------------


def permit(twin: Twin, value: int) -> tuple[int, int, bytes, bytes]:
    """EIP-2612, by hand."""
    address, owner = twin.world.addresses["GoodToken"], twin.requester
    kind = keccak256(b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
    deadline_s = twin.now_s + 60
    statement = keccak256(encode_words(kind, owner.address, twin.world.jobs, value, 0, deadline_s))
    domain = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    separator = keccak256(
        encode_words(keccak256(domain), keccak256(b"Good"), keccak256(b"1"), twin.world.chain_id, address)
    )
    signature = sign(owner, keccak256(b"\x19\x01" + separator + statement))
    return deadline_s, signature[64], signature[:32], signature[32:64]


def post_with_permit(twin: Twin, terms: Terms, allowance: tuple[int, int, bytes, bytes]) -> Done | Refused:
    data = twin.world.interfaces["Jobs"].encode("postWithPermit", (astuple(terms), NONCE, allowance))
    return twin.world.transact(twin.requester.address, twin.world.jobs, data)


def test_posting_with_a_permit_needs_no_approval(twin: Twin) -> None:
    terms = pay_in(twin, "GoodToken", approved=0)
    allowance = permit(twin, compute_price(TERMS))
    assert isinstance(post_with_permit(twin, terms, allowance), Done)
    assert held(twin, "GoodToken", twin.world.jobs) == compute_price(TERMS)
    assert twin.world.read("Jobs", "summaryOf", twin.job_id())[1].lower() == twin.requester.address.lower()


def test_a_permit_that_somebody_else_used_first_still_posts(twin: Twin) -> None:
    terms = pay_in(twin, "GoodToken", approved=0)
    allowance = permit(twin, compute_price(TERMS))
    arguments = (twin.requester.address, twin.world.jobs, compute_price(TERMS), *allowance)
    assert isinstance(call(twin, "GoodToken", twin.delegate, "permit", *arguments), Done)
    assert isinstance(post_with_permit(twin, terms, allowance), Done)


def test_a_bent_permit_posts_nothing(twin: Twin) -> None:
    terms = pay_in(twin, "GoodToken", approved=0)
    bent = permit(twin, compute_price(TERMS) + 1)
    assert isinstance(post_with_permit(twin, terms, bent), Refused)
    refused = post_with_permit(twin, replace(TERMS), permit(twin, 1))  # the native token takes none
    assert isinstance(refused, Refused)
    assert Wei(held(twin, "GoodToken", twin.world.jobs)) == 0
