"""For every test: hypothesis profiles, a certificate, and no skip without a reason that is written down."""

from __future__ import annotations

import datetime
import fnmatch
import ipaddress
import os
import tomllib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, settings

# Deadlines measure the machine: two cores shared with child programs make any of them lie.
QUIET = [HealthCheck.too_slow]
# What was green stays green: only the long run draws new cases each time.
settings.register_profile("dev", max_examples=40, deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile("ci", max_examples=150, deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile("long", max_examples=5_000, deadline=None, suppress_health_check=QUIET)
settings.load_profile(os.environ.get("SKYNET_PROFILE", "dev"))

ALLOWED: dict[str, str] = tomllib.loads(Path(__file__).with_name("skips.toml").read_text())["skips"]
"""Pattern of test ids to reason."""

_unlisted: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    is_listed = any(fnmatch.fnmatchcase(report.nodeid, pattern) and why for pattern, why in ALLOWED.items())
    if report.skipped and not hasattr(report, "wasxfail") and not is_listed:
        _unlisted.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _unlisted:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for test in _unlisted:
        terminalreporter.write_line(f"SKIPPED without a reason in tests/skips.toml: {test}", red=True)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node of a test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "node.pem"
    pem, pkcs8, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, pkcs8, plain))
    return path
