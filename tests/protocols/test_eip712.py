import json
from typing import Any

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from protocols.abi import checksum_address
from protocols.eip712 import Binding, Domain, Receipt, Vote, compute_digest, describe
from protocols.ids import ContentId, Digest, JobId, RoundNumber

words = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(checksum_address)
numbers = st.integers(0, 2**32 - 1)
domains = st.builds(Domain, st.integers(1, 2**64), addresses)


def reference_digest(domain: Domain, name: str, types: str, message: dict[str, Any]) -> bytes:
    fields = [dict(zip(("type", "name"), field.split(), strict=True)) for field in types.split(",")]
    signable = encode_typed_data(
        {"name": "SkyNet", "version": "1", "chainId": domain.chain_id, "verifyingContract": domain.contract},
        {name: fields},
        message,
    )
    return bytes(_hash_eip191_message(signable))


@given(domains, words, addresses, numbers, words, words)
def test_receipt(domain: Domain, job: bytes, worker: Any, number: int, update: bytes, leaves: bytes) -> None:
    ours = Receipt(JobId(job), worker, RoundNumber(number), ContentId(update), Digest(leaves))
    types = "bytes32 job,address worker,uint32 round,bytes32 update,bytes32 leaves"
    message = {"job": job, "worker": worker, "round": number, "update": update, "leaves": leaves}
    assert compute_digest(domain, ours) == reference_digest(domain, "Receipt", types, message)


@given(
    domains,
    st.tuples(words, words, words, words, words),
    st.tuples(numbers, numbers, numbers),
    st.integers(0, 2**64 - 1),
)
def test_vote(domain: Domain, hashes: tuple[bytes, ...], counts: tuple[int, int, int], participants: int) -> None:
    job, parent, set_root, state, commitment = hashes
    epoch, number, view = counts
    ours = Vote(
        JobId(job),
        epoch,
        RoundNumber(number),
        view,
        Digest(parent),
        Digest(set_root),
        participants,
        ContentId(state),
        Digest(commitment),
    )
    types = (
        "bytes32 job,uint32 epoch,uint32 round,uint32 view,bytes32 parent,bytes32 set,uint64 participants,"
        "bytes32 state,bytes32 commitment"
    )
    message = {"job": job, "epoch": epoch, "round": number, "view": view}
    message |= {
        "parent": parent,
        "set": set_root,
        "participants": participants,
        "state": state,
        "commitment": commitment,
    }
    assert compute_digest(domain, ours) == reference_digest(domain, "Vote", types, message)


@given(domains, addresses, words, words, words)
def test_binding(domain: Domain, wallet: Any, node: bytes, encryption: bytes, capabilities: bytes) -> None:
    ours = Binding(wallet, node, encryption, Digest(capabilities))
    types = "address wallet,bytes32 nodeKey,bytes32 encryptionKey,bytes32 capabilities"
    message = {"wallet": wallet, "nodeKey": node, "encryptionKey": encryption, "capabilities": capabilities}
    assert compute_digest(domain, ours) == reference_digest(domain, "Binding", types, message)


def test_a_round_that_no_contract_can_hold_is_refused() -> None:
    word = bytes(32)
    receipt = Receipt(JobId(word), checksum_address(bytes(20)), RoundNumber(2**32), ContentId(word), Digest(word))
    with pytest.raises(ValueError, match="uint32"):
        compute_digest(Domain(1, checksum_address(bytes(20))), receipt)


@given(domains, st.tuples(words, words, words, words, words), addresses, numbers, st.integers(0, 2**64 - 1))
def test_a_signer_elsewhere_is_told_the_same(domain: Domain, said: Any, who: Any, n: int, bits: int) -> None:
    job, one, two, three, four = said
    number = RoundNumber(n)
    for statement in (
        Receipt(JobId(job), who, number, ContentId(one), Digest(two)),
        Vote(JobId(job), n, number, n, Digest(one), Digest(two), bits, ContentId(three), Digest(four)),
        Binding(who, one, two, Digest(three)),
    ):
        told = json.loads(json.dumps(describe(domain, statement)))
        assert bytes(_hash_eip191_message(encode_typed_data(full_message=told))) == compute_digest(domain, statement)
