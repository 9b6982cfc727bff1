import pytest

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


def test_block_edges_agree_with_another_implementation() -> None:
    """Around one, two and thirty blocks of 136 bytes; the expected digest of the digests is by plain Python."""
    digests = [keccak256(bytes(i * 7 % 256 for i in range(n))) for n in (*range(130, 140), 271, 272, 273, 4096)]
    assert keccak256(b"".join(digests)).hex() == "f096d9a0f566fe5bfd95263c5c8ac3aa9a7dcf14273ee7432bb769bb7d629581"
