"""Logs: readable, structured, and never a secret (canaries are planted and searched for)."""

from __future__ import annotations

import base64
import copy
import io
import json
import logging
import pickle
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import structlog

from node.config import LogConfig, parse_config
from node.identity import Keys, NodeVault, create_keys, load_keys
from node.key_file import find_passphrase
from node.sealing import JobKey
from node.secret import HIDDEN, Secret, redact
from node.store import open_store
from node.telemetry import configure_logs, logger
from protocols.ids import JobId

CANARY = bytes(range(0x41, 0x61))  # printable, so that every form of it can be searched for


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def lines() -> io.StringIO:
    stream = io.StringIO()
    configure_logs(LogConfig(level="debug", format="json"), stream=stream, node="12D3KooX")
    return stream


def last(lines: io.StringIO) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(lines.getvalue().splitlines()[-1])
    return parsed


def forms(secret: bytes) -> list[str]:
    return [
        secret.hex(),
        secret.hex().upper(),
        base64.b64encode(secret).decode().rstrip("="),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        repr(secret)[2:-1],
        repr(secret)[2:-1].replace("\\", "\\\\"),  # as JSON writes it
        str(int.from_bytes(secret, "big")),
        str(list(secret))[1:-1],
    ]


def assert_clean(text: str, *secrets: bytes) -> None:
    for secret in secrets:
        for form in forms(secret):
            assert form not in text


# -- Shape ---------------------------------------------------------------------


def test_json_lines(lines: io.StringIO) -> None:
    logger("node.store").warning("broken_blob_dropped", content=b"\x01\x02", size_bytes=3, nested={"a": (1, None)})
    line = last(lines)
    assert line.pop("timestamp")
    assert line == {
        "event": "broken_blob_dropped",
        "logger": "skynet.node.store",
        "level": "warning",
        "node": "12D3KooX",
        "content": "0x0102",
        "size_bytes": 3,
        "nested": {"a": [1, None]},
    }


def test_levels_and_chatty_libraries(lines: io.StringIO) -> None:
    configure_logs(LogConfig(level="info", format="json"), stream=lines)
    logger("node.x").debug("unheard")
    logging.getLogger("httpx").info("HTTP Request: POST https://rpc.example/token")
    logging.getLogger("other").debug("unheard")
    assert lines.getvalue() == ""
    logging.getLogger("libp2p.swarm").warning("%s connections", 5)
    assert last(lines)["event"] == "5 connections"
    assert last(lines)["logger"] == "libp2p.swarm"


def test_a_terminal_gets_prose() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal, pipe = Terminal(), io.StringIO()
    configure_logs(LogConfig(), stream=terminal)
    logger("node.x").info("child_started", child="root/link")
    assert "child_started" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()
    configure_logs(LogConfig(), stream=pipe)
    logger("node.x").info("child_started", child="root/link")
    assert last(pipe)["child"] == "root/link"


def test_bound_context_is_on_each_line(lines: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(job="0xabc"):
        logger("node.x").info("hello")
    assert last(lines)["job"] == "0xabc"


# -- Secrets -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Holder:
    """What a careless author might log."""

    key: Secret
    raw: bytes


def test_a_secret_hides_itself() -> None:
    secret = Secret(CANARY)
    for shown in (repr(secret), str(secret), f"{secret}", "%s" % secret, repr([secret]), repr(JobKey(secret))):  # noqa: UP031
        assert_clean(shown, CANARY)
        assert HIDDEN in shown
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            copied(secret)
    with pytest.raises(TypeError):
        asdict(Holder(secret, b""))
    assert secret.matches(Secret(CANARY))
    assert not secret.matches(Secret(b"other"))


def test_redaction_removes_living_secrets_in_each_form() -> None:
    secret = Secret(CANARY)
    for form in forms(CANARY):
        if "\\\\" not in form:
            assert redact(f"before {form} after") == f"before {HIDDEN} after"
    phrase = Secret("schöne Füße".encode())
    assert redact("the schöne Füße of") == f"the {HIDDEN} of"
    del secret, phrase
    assert redact(CANARY.hex()) == CANARY.hex()  # nobody holds it any more, so it names nothing
    short = Secret(b"abc")
    assert redact("abcdef") == "abcdef"
    assert len(short.reveal()) == 3


@pytest.mark.parametrize("form", ["json", "pretty"])
def test_no_canary_in_any_log(form: str) -> None:
    stream = io.StringIO()
    configure_logs(LogConfig(level="debug", format=form), stream=stream)  # type: ignore[arg-type]
    secret = Secret(CANARY)
    log = logger("node.test")
    log.info("as a value", value=secret, holder=Holder(secret, CANARY), listed=[secret, CANARY, {"deep": CANARY}])
    log.info(f"in the message {CANARY.hex()}", number=int.from_bytes(CANARY, "big"), text=base64.b64encode(CANARY))
    log.info("in a key", **{CANARY.hex(): 1})
    log.info("positional %s", CANARY)
    log.info("by name", passphrase="hunter22", job_key="hunter22", auth_token="hunter22", tokens=5)
    logging.getLogger("library").warning("foreign %r %s", CANARY, CANARY.hex())
    structlog.contextvars.bind_contextvars(wallet_key="hunter22")
    try:
        raise RuntimeError(f"with {CANARY.hex()} in {CANARY!r}")
    except RuntimeError:
        log.exception("in an exception")
    text = stream.getvalue()
    assert "in an exception" in text
    assert "Traceback" in text
    assert "hunter22" not in text
    assert_clean(text, CANARY)


def test_no_canary_in_reprs_errors_and_tracebacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant keys, a passphrase, a job key and an access token; look at all that the house shows of itself."""
    monkeypatch.setenv("SKYNET_PASSPHRASE", "canary-passphrase")
    phrase = find_passphrase(None)
    planted = [bytes([i + 1]) * 31 + b"\x7f" for i in range(3)]
    draws = iter((planted[2], planted[0], planted[1]))
    create_keys(tmp_path / "keys", phrase, entropy=lambda _: next(draws))
    keys = load_keys(tmp_path / "keys", phrase)
    assert sorted(s.reveal() for s in keys.secrets) == planted
    shown = [repr(keys), repr(keys.secrets), str(keys.identity), repr(phrase)]
    with open_store(tmp_path / "data") as store:
        vault = NodeVault(keys, store)
        job = JobId(b"j" * 32)
        assert vault.unwrap(job, JobKey(Secret(CANARY)).wrap(job, vault.encryption_key))
        shown += [repr(vault), repr(vault._job_keys), repr(vault._node), repr(vault._wallet), repr(store)]
        shown += [_traceback(lambda: vault.seal(JobId(b"?" * 32), b"", context=b""))]
        shown += [_traceback(lambda: Keys(*keys.secrets[:2], Secret(bytes(32))))]
        shown += [_traceback(lambda: load_keys(tmp_path / "keys", Secret(b"wrong")))]
        on_disk = b"".join(f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
        for secret in (*planted, CANARY, b"canary-passphrase"):
            assert secret not in on_disk
            assert secret.hex().encode() not in on_disk
    toml = 'network = "local"\n[chain]\nrpc_urls = ["https://rpc.example/canary-token"]\nchain_id = true\n'
    shown += [_traceback(lambda: parse_config(toml, tmp_path))]
    config = parse_config(toml.replace("true", "1"), tmp_path)
    shown += [repr(config), redact("error for https://rpc.example/canary-token")]
    for text in shown:
        assert_clean(text, *planted, CANARY)
        assert "canary" not in text.replace(str(tmp_path), "")


def _traceback(act: object) -> str:
    assert callable(act)
    try:
        act()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
        return "".join(traceback.format_exception(error))
    raise AssertionError("nothing was raised")
