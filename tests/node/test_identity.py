"""Identity: key files, the vault, boxes. Compared with libp2p, eth-account and published vectors."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from actors.ports import Vault
from node.errors import ExitCode, KeyFileError
from node.identity import (
    JOB_KEY,
    Identity,
    Keys,
    NodeVault,
    create_keys,
    has_keys,
    load_identity,
    load_keys,
    node_key_of,
    peer_id,
    recover,
)
from node.key_file import find_passphrase, read_secret
from node.sealing import JobKey, open_from, seal_to, unwrap
from node.secret import Secret
from node.store import DiskStore, open_store
from protocols.ids import Digest, JobId, PeerId

JOB, OTHER = JobId(b"j" * 32), JobId(b"o" * 32)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
PASSPHRASE = Secret(b"correct horse battery staple")


def some_keys(seed: int = 1) -> Keys:
    return Keys(*(Secret(bytes([seed * 10 + i]) * 32) for i in range(3)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    with open_store(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
def vault(store: DiskStore) -> NodeVault:
    return NodeVault(some_keys(), store)


# -- Peer ids ------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32))
def test_peer_id_is_libp2ps(seed: bytes) -> None:
    from libp2p.crypto.ed25519 import Ed25519PrivateKey
    from libp2p.peer.id import ID

    public = Ed25519PrivateKey.new(seed).get_public_key()
    peer = peer_id(public.to_bytes())
    assert peer == ID.from_pubkey(public).to_base58()
    assert peer.startswith("12D3Koo")
    assert node_key_of(peer) == public.to_bytes()


@given(
    st.one_of(st.text(max_size=80), st.text("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", max_size=80))
)
def test_what_is_no_peer_id_names_no_key(text: str) -> None:
    key = node_key_of(PeerId(text))
    assert key is None or peer_id(key) == text


def test_peer_id_of_what_is_no_key() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        peer_id(b"short")


# -- Key files -----------------------------------------------------------------


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_keys_come_back(tmp_path: Path, passphrase: Secret | None) -> None:
    folder = tmp_path / "keys"
    identity = create_keys(folder, passphrase)
    keys = load_keys(folder, passphrase)
    assert keys.identity == identity == load_identity(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(f.stat().st_mode) == 0o600 for f in folder.iterdir())
    content = b"".join(f.read_bytes() for f in folder.iterdir())
    assert all((s.reveal().hex().encode() in content) == (passphrase is None) for s in keys.secrets)


def test_the_wallet_is_ethereums(tmp_path: Path) -> None:
    keys = some_keys()
    assert keys.identity.wallet == Account.from_key(keys.wallet.reveal()).address


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    create_keys(tmp_path)
    assert has_keys(tmp_path)
    (tmp_path / "node.json").unlink()
    assert not has_keys(tmp_path)
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    with pytest.raises(KeyFileError, match=r"encryption.json: is there already"):
        create_keys(tmp_path)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_seeded_entropy_makes_the_same_keys(tmp_path: Path) -> None:
    def entropy(seed: int) -> Identity:
        numbers = iter(range(seed, 256))
        return create_keys(tmp_path / str(len(list(tmp_path.iterdir()))), entropy=lambda n: bytes([next(numbers)]) * n)

    assert entropy(1) == entropy(1) != entropy(9)


def test_an_impossible_wallet_key_is_drawn_again(tmp_path: Path) -> None:
    draws = iter((bytes(32), b"\xff" * 32, b"\x07" * 32, b"\x08" * 32, b"\x09" * 32))
    create_keys(tmp_path, entropy=lambda _: next(draws))
    assert load_keys(tmp_path).wallet.reveal() == b"\x07" * 32


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    create_keys(tmp_path)
    (tmp_path / "wallet.json").chmod(mode)
    with pytest.raises(KeyFileError, match=r"wallet.json: others can read it \(mode 06\d\d\); run: chmod 600"):
        load_keys(tmp_path)


def test_faults_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"node.json: no such file; make a node folder") as caught:
        load_keys(tmp_path)
    assert caught.value.code == ExitCode.KEYS
    create_keys(tmp_path, PASSPHRASE)
    with pytest.raises(KeyFileError, match=r"node.json: the passphrase does not open it"):
        load_keys(tmp_path, Secret(b"wrong"))


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"format": "skynet-key-1", "kind": "ed25519"}',
        b'{"format": "skynet-key-1", "kind": "ed25519", "public": 5, "secret": 7}',
        b'{"format": "skynet-key-1", "kind": "ed25519", "public": "00", "secret": "00"}',
        b'{"format": "skynet-key-1", "kind": "ed25519", "public": "00", "sealed": "AA==", "sealing": {"log2_n": 60}}',
    ],
)
def test_a_damaged_file_is_said_to_be(tmp_path: Path, damage: bytes) -> None:
    create_keys(tmp_path)
    (tmp_path / "node.json").write_bytes(damage)
    for load in (load_keys, load_identity):
        with pytest.raises(KeyFileError, match=r"node.json: is damaged, or another key's file"):
            load(tmp_path)


def test_a_swapped_or_edited_file_is_refused(tmp_path: Path) -> None:
    create_keys(tmp_path)
    node, encryption = tmp_path / "node.json", tmp_path / "encryption.json"
    content = json.loads(node.read_text())
    node.write_text(encryption.read_text())
    with pytest.raises(KeyFileError, match="another key's file"):
        load_keys(tmp_path)
    node.write_text(json.dumps(content | {"secret": "11" * 32}))
    with pytest.raises(KeyFileError, match="is damaged"):
        load_keys(tmp_path)


def test_the_wallet_may_be_an_ethereum_keystore(tmp_path: Path) -> None:
    create_keys(tmp_path, PASSPHRASE)
    account = Account.from_key(b"\x05" * 32)
    wallet = tmp_path / "wallet.json"
    wallet.write_text(json.dumps(account.encrypt(PASSPHRASE.reveal().decode(), iterations=2)))
    assert load_identity(tmp_path).wallet == account.address
    assert load_keys(tmp_path, PASSPHRASE).identity.wallet == account.address
    with pytest.raises(KeyFileError, match="the passphrase does not open it"):
        read_secret(wallet, "secp256k1", Secret(b"wrong"))


def test_passphrases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "passphrase"
    file.touch(0o600)
    assert find_passphrase(None) is None
    with pytest.raises(KeyFileError, match="is empty"):
        find_passphrase(file)
    file.write_text("from the file\n")
    found = find_passphrase(file)
    assert found is not None
    assert found.reveal() == b"from the file"
    monkeypatch.setenv("SKYNET_PASSPHRASE", "from outside")
    found = find_passphrase(file)
    assert found is not None
    assert found.reveal() == b"from outside"
    monkeypatch.delenv("SKYNET_PASSPHRASE")
    file.chmod(0o644)
    with pytest.raises(KeyFileError, match="others can read it"):
        find_passphrase(file)


# -- Signatures ----------------------------------------------------------------


def test_the_vault_is_the_port(vault: NodeVault) -> None:
    port: Vault = vault
    assert port.node_key == some_keys().identity.node_key
    assert port.wallet == some_keys().identity.wallet
    assert port.encryption_key == some_keys().identity.encryption_key


def test_node_signatures(vault: NodeVault) -> None:
    signature = vault.sign(b"hello")
    assert vault.verify(vault.node_key, b"hello", signature)
    assert not vault.verify(vault.node_key, b"hullo", signature)
    assert not vault.verify(some_keys(2).identity.node_key, b"hello", signature)
    assert not vault.verify(b"short", b"hello", signature)
    assert not vault.verify(vault.node_key, b"hello", b"")


def test_wallet_signatures_are_ethereums(vault: NodeVault) -> None:
    for i in range(32):
        digest = Digest(hashlib.sha256(bytes([i])).digest())
        signature = vault.sign_digest(digest)
        assert signature == bytes(Account.unsafe_sign_hash(digest, some_keys().wallet.reveal()).signature)
        assert int.from_bytes(signature[32:64], "big") <= ORDER // 2
        assert recover(digest, signature) == vault.wallet


def test_recover_is_strict(vault: NodeVault) -> None:
    digest = Digest(b"d" * 32)
    good = vault.sign_digest(digest)
    assert vault.recover(digest, good) == vault.wallet
    high_s = ORDER - int.from_bytes(good[32:64], "big")
    for bad in (
        good[:32] + high_s.to_bytes(32, "big") + bytes([55 - good[64]]),  # valid for ecrecover, but malleable
        good[:64] + bytes([good[64] - 27]),
        good[:64],
        good + b"\0",
        b"",
        bytes(64) + b"\x1b",
        b"\xff" * 32 + good[32:],
    ):
        assert vault.recover(digest, bad) is None
    assert vault.recover(Digest(b"short"), good) is None


@given(st.binary(max_size=80), st.binary(min_size=32, max_size=32))
def test_recover_never_raises(signature: bytes, digest: bytes) -> None:
    recover(Digest(digest), signature)
    recover(Digest(digest), signature.ljust(65, b"\x1b")[:64] + b"\x1b")


# -- Boxes ---------------------------------------------------------------------


def test_a_box_is_the_point_and_the_ciphertext() -> None:
    """To the recipient of RFC 9180, A.2.1, whose public key is published with its secret."""
    recipient = Secret(bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"))
    public = bytes.fromhex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a")
    assert X25519PrivateKey.from_private_bytes(recipient.reveal()).public_key().public_bytes_raw() == public
    sealed = seal_to(public, b"Beauty is truth", context=b"Ode on a Grecian Urn")
    assert len(sealed) == 32 + 15 + 16
    assert open_from(recipient, sealed, context=b"Ode on a Grecian Urn") == b"Beauty is truth"


def test_a_box_opens_for_its_recipient_in_its_context_only() -> None:
    keys, others = some_keys(), some_keys(2)
    sealed = seal_to(keys.identity.encryption_key, b"result", context=b"a")
    assert open_from(keys.encryption, sealed, context=b"a") == b"result"
    assert open_from(keys.encryption, sealed, context=b"b") is None
    assert open_from(others.encryption, sealed, context=b"a") is None
    for i in range(0, len(sealed), 7):
        assert open_from(keys.encryption, sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :], context=b"a") is None
    assert open_from(keys.encryption, b"", context=b"a") is None


@pytest.mark.parametrize("key", [bytes(32), b"", bytes(31), b"\x01" + bytes(31)])
def test_an_unusable_key_gets_an_empty_box(key: bytes) -> None:
    assert seal_to(key, b"x", context=b"") == b""


def test_job_keys_seal_by_context() -> None:
    key = JobKey.generate()
    sealed = key.seal(b"page", context=b"page")
    assert len(sealed) == 12 + 4 + 16
    assert key.open(sealed, context=b"page") == b"page"
    assert key.open(sealed, context=b"update") is None
    assert JobKey.generate().open(sealed, context=b"page") is None
    assert key.open(b"short", context=b"page") is None
    assert key.seal(b"page", context=b"page") != sealed


def test_a_wrap_is_for_one_job_and_one_member() -> None:
    keys = some_keys()
    key = JobKey.generate()
    wrapped = key.wrap(JOB, keys.identity.encryption_key)
    again = unwrap(keys.encryption, JOB, wrapped)
    assert again is not None
    assert again.open(key.seal(b"x", context=b""), context=b"") == b"x"
    assert unwrap(keys.encryption, OTHER, wrapped) is None
    assert unwrap(some_keys(2).encryption, JOB, wrapped) is None
    short = seal_to(keys.identity.encryption_key, b"short", context=b"skynet job key " + JOB)
    assert unwrap(keys.encryption, JOB, short) is None


# -- Job keys in the vault -----------------------------------------------------


async def test_job_keys_survive_and_are_never_in_the_clear(tmp_path: Path) -> None:
    requester_keys, worker_keys = some_keys(1), some_keys(2)
    with open_store(tmp_path / "r") as store:
        requester = NodeVault(requester_keys, store)
        await requester.create_job_key(JOB)
        sealed = requester.seal(JOB, b"page", context=b"page")
        await requester.create_job_key(JOB)
        assert requester.open(JOB, sealed, context=b"page") == b"page"
        wrapped = requester.wrap_job_key(JOB, worker_keys.identity.encryption_key)
    with open_store(tmp_path / "w") as store:
        worker = NodeVault(worker_keys, store)
        assert worker.open(JOB, sealed, context=b"page") is None
        assert not worker.unwrap(OTHER, wrapped)
        assert not worker.unwrap(JOB, b"garbage")
        assert not worker.holds(JOB)
        assert worker.unwrap(JOB, wrapped)
        assert worker.unwrap(JOB, wrapped)
    with open_store(tmp_path / "w") as store:  # a restart
        worker = NodeVault(worker_keys, store)
        assert worker.holds(JOB)
        assert worker.open(JOB, sealed, context=b"page") == b"page"
        assert store.read_sync(JOB_KEY, JOB) == wrapped
        await worker.forget(JOB)
        assert not worker.holds(JOB)
    with open_store(tmp_path / "w") as store:
        assert not NodeVault(worker_keys, store).holds(JOB)
        assert NodeVault(some_keys(3), store).open(JOB, sealed, context=b"page") is None


async def test_sealing_for_a_job_without_a_key_is_our_fault(vault: NodeVault) -> None:
    with pytest.raises(KeyError):
        vault.seal(JOB, b"x", context=b"")


def test_results_are_opened_by_the_requester(vault: NodeVault) -> None:
    sealed = vault.seal_to(vault.encryption_key, b"state", context=b"result" + JOB)
    assert vault.open_from(sealed, context=b"result" + JOB) == b"state"
    assert vault.open_from(sealed, context=b"result" + OTHER) is None


def test_entropy_is_the_systems(tmp_path: Path) -> None:
    assert create_keys(tmp_path / "a") != create_keys(tmp_path / "b")
    assert len(os.listdir(tmp_path)) == 2
