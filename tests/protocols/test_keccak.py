import pytest
from Crypto.Hash import keccak as reference
from hypothesis import given
from hypothesis import strategies as st

from protocols.keccak import keccak256


@pytest.mark.parametrize(
    ("data", "digest"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
        (b"testing", "5f16f4c7f149ac4f9510d9cf8cf384038ad348b3bcdc01915f95de12df9d1b02"),
    ],
)
def test_published_vectors(data: bytes, digest: str) -> None:
    assert keccak256(data).hex() == digest


@pytest.mark.parametrize("size", [*range(130, 140), 271, 272, 273, 4096])
def test_block_edges_agree_with_another_implementation(size: int) -> None:
    data = bytes(i * 7 % 256 for i in range(size))
    assert keccak256(data) == reference.new(digest_bits=256, data=data).digest()


@given(st.binary(max_size=600))
def test_agrees_with_another_implementation(data: bytes) -> None:
    assert keccak256(data) == reference.new(digest_bits=256, data=data).digest()
