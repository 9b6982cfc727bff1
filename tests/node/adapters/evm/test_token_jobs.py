"""A job paid in a token: by permit, by allowance, and what a wallet is told that hasn't got it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from eth_abi.abi import encode
from evm_net import Net
from test_evm_chain import TERMS, do, events_since
from typed import Typed, make_typed

from actors.ports import Mined
from node import wallet_file
from node.adapters.evm import EvmChain, LocalSigner, connect, open_endpoint
from node.adapters.evm.sending import Request, Sender
from node.adapters.evm.signing import compute_contract_address
from node.adapters.evm.token import Token
from node.client.jobspec import TokenSpec
from node.client.ledger import Ledger
from node.errors import CallReverted, ConfigError
from protocols.chain import JobPosted, RegisterKey, Terms
from protocols.chain_follow import Head
from protocols.evidence import compute_job_id
from protocols.ids import Address, Wei
from protocols.job import compute_key_digest, compute_price
from protocols.keccak import keccak256

pytestmark = pytest.mark.parametrize("net", ["devchain"], indirect=True)  # which chain it is, others try

ARTIFACTS = Path(__file__).parents[3] / "contracts" / "artifacts"
WORDS = tuple(range(1, 41))
WHOLE = 10**18


async def deploy_token(net: Net, name: str, holder: Address, amount: int) -> Address:
    """Deployed and minted by the net's first account."""
    code = bytes.fromhex(json.loads((ARTIFACTS / f"{name}.json").read_text())["bytecode"].removeprefix("0x"))
    async with open_endpoint(net.url) as endpoint:
        sender = Sender(endpoint, net.signers[0], net.chain_id)
        address = compute_contract_address(net.signers[0].wallet, await sender.next_nonce())
        assert isinstance(await sender.send(Request(None, code)), Mined)
        data = keccak256(b"mint(address,uint256)")[:4] + encode(["address", "uint256"], [holder, amount])
        assert isinstance(await sender.send(Request(address, data)), Mined)
        return address


async def post(chain: EvmChain, token: Address) -> tuple[Terms, int]:
    """Post a job in the token; return its terms, and by how many transactions."""
    await do(chain, RegisterKey(WORDS))
    terms = replace(TERMS, vk_digest=compute_key_digest(WORDS), token=token)
    head = await chain.head()
    assert isinstance(head, Head)
    await Ledger(chain, 0, 0).post(terms, keccak256(token.encode()))
    (posted,) = [e for e in await events_since(chain, head.number + 1) if isinstance(e, JobPosted)]
    assert posted.terms == terms
    after = await chain.head()
    assert isinstance(after, Head)
    return terms, sum([await _transactions(chain, n) for n in range(head.number + 1, after.number + 1)])


async def _transactions(chain: EvmChain, number: int) -> int:
    block: Any = await chain._endpoint.request("eth_getBlockByNumber", hex(number), False)
    return len(block["transactions"])


@pytest.mark.parametrize(("name", "transactions"), [("GoodToken", 1), ("SilentToken", 2)])
async def test_a_job_is_posted_by_permit_or_else_by_allowance(net: Net, name: str, transactions: int) -> None:
    signer = net.signers[5]
    price = compute_price(TERMS)
    token = await deploy_token(net, name, signer.wallet, 2 * price)
    async with connect(net.url, jobs=net.contracts.jobs, signer=signer) as chain:
        _, sent = await post(chain, token)
        assert sent == transactions
        assert await chain.token_balance(token) == price
        assert await chain.allow(token, Wei(5)) is not None  # nothing was left allowed
        assert await chain.allow(token, Wei(5)) is None
        assert isinstance(await chain.allow(token, Wei(9)), Mined)


async def test_prices_are_in_whole_tokens_and_found_too_high_before_anything_is_sent(net: Net) -> None:
    signer = net.signers[6]
    token = await deploy_token(net, "GoodToken", signer.wallet, 3 * WHOLE)
    async with connect(net.url, jobs=net.contracts.jobs, signer=signer) as chain:
        ledger = Ledger(chain, 0, 0)
        lower = Address(token.lower())
        price = await ledger.price_in(TokenSpec(lower, "2.5", "0.25"))
        assert price.token == Token(token, "GOOD", 18)
        assert (price.budget, price.move_fee, price.total) == (25 * WHOLE // 10, WHOLE // 4, 3 * WHOLE)
        with pytest.raises(CallReverted, match=r"holds 3 GOOD, but this job takes 3\.000001 GOOD"):
            await ledger.price_in(TokenSpec(lower, "2.500001", "0.25"))
        with pytest.raises(ConfigError, match=r"token\.budget: .* at most 18 decimals"):
            await ledger.price_in(TokenSpec(lower, "0.0000000000000000001", "0"))
        with pytest.raises(CallReverted, match="is no ERC-20"):
            await ledger.price_in(TokenSpec(net.contracts.jobs, "1", "0"))
    coin = Token(token, "USD", 6)
    assert [coin.text(n) for n in (0, 1, 1_500_000, 10**9)] == ["0 USD", "0.000001 USD", "1.5 USD", "1000 USD"]
    assert Token(token, "OLD", 0).text(7) == "7 OLD"


@pytest.fixture
def typed(tmp_path: Path, net: Net, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    return make_typed(tmp_path, net, capsys, monkeypatch.chdir)


def test_a_job_in_a_token_is_listed_and_called_off_in_it(typed: Typed) -> None:
    wallet = typed.make("a")
    secret, _ = wallet_file.read_wallet(typed.folder / "a/keys/wallet.json", None)
    job, token = trio.run(_post_one, typed.net, LocalSigner(secret))
    units = f"{TERMS.budget_wei} units of {token[:8]}"
    assert units in typed.run("job list --config a/node.toml")
    refunded = typed.run(f"job cancel 0x{job.hex()} --config a/node.toml")
    assert f"{compute_price(TERMS)} units of {token[:8]}" in refunded
    assert typed.run(f"wallet withdraw --token {token} --config a/node.toml") == f"0 GOOD withdrawn to {wallet}\n"
    assert "no address" in _usage(typed, "wallet withdraw --token 0x1 --config a/node.toml")


async def _post_one(net: Net, signer: LocalSigner) -> tuple[bytes, Address]:
    token = await deploy_token(net, "GoodToken", signer.wallet, compute_price(TERMS))
    async with connect(net.url, jobs=net.contracts.jobs, signer=signer) as chain:
        await post(chain, token)
        job = compute_job_id(net.chain_id, net.contracts.jobs, signer.wallet, keccak256(token.encode()))
        assert await chain.token_balance(token) == 0
        return job, token


def _usage(typed: Typed, line: str) -> str:
    with pytest.raises(SystemExit):
        typed.run(line)
    return typed.capture.readouterr().err
