import pytest
from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from hypothesis import given
from hypothesis import strategies as st

from protocols.abi import ZERO_ADDRESS, address_bytes, checksum_address, encode_words
from protocols.ids import Address


@given(st.integers(0, 2**256 - 1), st.binary(min_size=32, max_size=32), st.binary(min_size=20, max_size=20))
def test_words_are_those_of_solidity(number: int, digest: bytes, raw: bytes) -> None:
    address = checksum_address(raw)
    expected = encode(["uint256", "bytes32", "address", "bool"], [number, digest, address, True])
    assert encode_words(number, digest, address, True) == expected


@given(st.binary(min_size=20, max_size=20))
def test_checksum_form(raw: bytes) -> None:
    address = checksum_address(raw)
    assert address == to_checksum_address(raw)
    assert address_bytes(address) == raw


@pytest.mark.parametrize(
    "bad", [-1, 2**256, b"short", bytes(33), "0x12", "12" * 21, "0x" + "zz" * 20, "0x " + "1" * 39]
)
def test_what_fits_no_word_is_refused(bad: int | bytes | str) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode_words(bad)


def test_zero_address() -> None:
    assert address_bytes(ZERO_ADDRESS) == bytes(20)
    with pytest.raises(ValueError, match="20 bytes"):
        checksum_address(bytes(19))
    with pytest.raises(ValueError, match="not an address"):
        address_bytes(Address("0x" + "é" * 40))
