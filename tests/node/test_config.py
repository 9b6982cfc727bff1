"""Configuration: what ships is right, and every fault is one line that names file and key."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import initial
from node.config import Config, RpcUrl, jobs_address, keys_folder, load_config, parse_config
from node.errors import ConfigError, Escalated, ExitCode, KeyFileError, exit_code_table, find_error
from node.identity import load_keys
from node.initial import read_shipped, set_keys, shipped_networks, write_initial
from node.program import check_tls
from node.secret import Secret
from node.toml_table import all_keys

FILE = Path("/somewhere/node.toml")
CHAIN = 'rpc_urls = ["http://127.0.0.1:8545"]\nchain_id = 31337\n'
MINIMAL = f'network = "local"\n[chain]\n{CHAIN}'

# -- What ships ----------------------------------------------------------------

CHAIN_IDS = {"local": 31337, "scroll": 534352, "scroll-sepolia": 534351, "arbitrum": 42161, "arbitrum-sepolia": 421614}


def test_every_network_ships() -> None:
    assert set(shipped_networks()) == set(CHAIN_IDS)


@pytest.mark.parametrize("network", sorted(CHAIN_IDS))
def test_a_shipped_file_is_right_and_whole(network: str) -> None:
    text = read_shipped(network)
    config = parse_config(text, FILE)
    assert config.network == network
    assert config.chain.chain_id == CHAIN_IDS[network]
    assert config.chain.development == (network not in ("scroll", "arbitrum"))
    assert config.data_dir == FILE.parent
    missing = [key for key in all_keys(Config) if f"{key.rpartition('.')[2]} = " not in text]
    assert missing == []
    assert all(len(line) <= 120 for line in text.splitlines())


@pytest.mark.parametrize("network", sorted(CHAIN_IDS))
def test_a_shipped_file_holds_the_defaults_but_for_what_it_says(network: str) -> None:
    shipped, default = parse_config(read_shipped(network), FILE), parse_config(MINIMAL, FILE)
    assert shipped.work == default.work
    assert shipped.store == default.store
    assert shipped.log == default.log
    assert shipped.cache == default.cache


def test_networks_do_not_meet() -> None:
    clusters = [parse_config(read_shipped(n), FILE).p2p.cluster for n in CHAIN_IDS]
    assert len(set(clusters)) == len(clusters)


# -- Faults --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("network = 'a", "not TOML"),
        ("", "network is missing; add it, a string"),
        ('network = "local"', "[chain] is missing; add it, a section"),
        ('network = "Local Net"', "[chain] is missing"),
        (MINIMAL.replace("rpc_urls", "rpc_url"), "unknown key chain.rpc_url; did you mean chain.rpc_urls?"),
        ("rpc_urls = []\n" + MINIMAL, "unknown key rpc_urls; did you mean chain.rpc_urls?"),
        (MINIMAL + "[wrok]\n", "unknown key wrok; did you mean work?"),
        (MINIMAL + "zzz = 1\n", "unknown key chain.zzz; the keys here are rpc_urls, chain_id,"),
        (MINIMAL.replace("31337", '"31337"'), "chain.chain_id is a string; make it a whole number"),
        (MINIMAL.replace("31337", "true"), "chain.chain_id is true; make it a whole number"),
        (MINIMAL.replace("31337", "0"), "chain.chain_id is 0, but must lie in 1 …"),
        (MINIMAL + "poll_s = nan\n", "chain.poll_s is nan, but must lie in 0.05 … 600"),
        (MINIMAL.replace('["http://127.0.0.1:8545"]', '"http://127.0.0.1:8545"'), "make it a list of strings"),
        (MINIMAL.replace('["http://127.0.0.1:8545"]', "[]"), "chain.rpc_urls is empty, but needs at least one"),
        (MINIMAL.replace("http:", "ftp:"), "chain.rpc_urls has an entry that is no URL like"),
        (MINIMAL.replace("8545", "99999"), "chain.rpc_urls has an entry that is no URL like"),
        (MINIMAL + 'jobs = "0x12"\n', "chain.jobs is '0x12', which is no address"),
        (MINIMAL + f'jobs = "0x{"aB" * 20}"\n', "whose checksum is wrong: a digit was mistyped"),
        (MINIMAL + "[p2p]\nlisten = []\n", "p2p.listen is empty, but only a light node may listen nowhere"),
        (MINIMAL + '[p2p]\nlisten = ["127.0.0.1:4001"]\n', "p2p.listen has '127.0.0.1:4001', which is no multiaddr"),
        (MINIMAL + '[p2p]\nbootstrap = ["/ip4/1.2.3.4/tcp/1"]\n', "p2p.bootstrap has '/ip4/1.2.3.4/tcp/1', which does"),
        (MINIMAL + "[p2p]\ncluster = 1\n", "p2p.cluster is 1, but must lie in 1024 … 65535"),
        (MINIMAL + '[log]\nlevel = "loud"\n', "log.level is 'loud'; make it one of \"debug\","),
        ("log = 5\n" + MINIMAL, "log is 5; make it a section"),
        (MINIMAL + "[cache]\ndir = []\n", "cache.dir is a list; make it a path"),
    ],
)
def test_a_fault_names_file_and_key(text: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, FILE)
    message = str(caught.value)
    assert message.startswith(f"{FILE}: ")
    assert line in message
    assert "\n" not in message
    assert caught.value.code == ExitCode.CONFIG


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"node.toml: no such file; make a node folder with `skynet-node init"):
        load_config(tmp_path / "node.toml")


def test_what_is_no_configuration_file(tmp_path: Path) -> None:
    binary, huge = tmp_path / "binary", tmp_path / "huge"
    binary.write_bytes(b"\xff\xfe")
    huge.write_bytes(b"#" * 300_000)
    for path, problem in ((tmp_path, "is a directory"), (binary, "not a text file"), (huge, "larger than")):
        with pytest.raises(ConfigError, match=problem):
            load_config(path)


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text, FILE)


def test_without_contracts_there_is_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"chain.jobs is missing: .* on local; add the address .*`skynet deploy`"):
        jobs_address(parse_config(MINIMAL, FILE), FILE)


def test_values_come_out_typed(tmp_path: Path) -> None:
    text = MINIMAL + f'poll_s = 2\njobs = "0x{"ab" * 20}"\n[cache]\ndir = "../cache"\n'
    config = parse_config(text, tmp_path / "a" / "node.toml")
    assert config.chain.poll_s == 2.0
    assert isinstance(config.chain.poll_s, float)
    assert jobs_address(config, FILE) == "0xABaBaBaBABabABabAbAbABAbABabababaBaBABaB"
    assert config.cache.dir == tmp_path / "cache"
    assert keys_folder(config) == tmp_path / "a" / "keys"


def test_an_rpc_url_shows_its_host_only() -> None:
    text = MINIMAL.replace("http://127.0.0.1:8545", "https://user:hunter2@rpc.example:8443/v2/s3cr3t-t0ken?key=abc")
    config = parse_config(text, FILE)
    (url,) = config.chain.rpc_urls
    assert url.reveal().endswith("s3cr3t-t0ken?key=abc")
    assert str(url) == "https://rpc.example:8443"
    assert str(RpcUrl("http://[::1]:8545/x")) == "http://[::1]:8545"
    for shown in (repr(config), f"{url}", str(config.chain)):
        assert not any(secret in shown for secret in ("hunter2", "t0ken", "abc"))


# -- A new folder --------------------------------------------------------------


def test_init_makes_a_folder_that_loads(tmp_path: Path) -> None:
    made = write_initial(tmp_path / "deep" / "node", "local", {"p2p.listen": ("/ip4/127.0.0.1/tcp/4001",)})
    config = load_config(made.path)
    assert config == made.config
    assert config.p2p.listen == ("/ip4/127.0.0.1/tcp/4001",)
    assert load_keys(keys_folder(config)).identity == made.identity
    for path in made.path.parent.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert "# jobs" in made.path.read_text()  # comments stay


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    first = write_initial(tmp_path, "local")
    with pytest.raises(ConfigError, match=r"node.toml: is there already; choose another folder"):
        write_initial(tmp_path, "scroll")
    first.path.unlink()
    assert write_initial(tmp_path, "scroll").identity == first.identity  # a wallet is kept


def test_init_refuses_before_it_writes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'scrol' is not known; did you mean scroll"):
        write_initial(tmp_path / "a", "scrol")
    with pytest.raises(ConfigError, match=r"unknown key p2p.lisen; did you mean p2p.listen\?"):
        write_initial(tmp_path / "a", "local", {"p2p.lisen": ("/ip4/127.0.0.1/tcp/1",)})
    assert not (tmp_path / "a").exists()


def test_init_with_a_passphrase(tmp_path: Path) -> None:
    write_initial(tmp_path / "a", "local", passphrase=Secret(b"correct horse"))
    with pytest.raises(KeyFileError, match="is sealed with a passphrase; set SKYNET_PASSPHRASE"):
        load_keys(tmp_path / "a" / "keys")
    load_keys(tmp_path / "a" / "keys", Secret(b"correct horse"))


VALUES = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=30),
    st.integers(-(2**62), 2**62),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=3).map(tuple),
)


@given(st.sampled_from(sorted(all_keys(Config))), VALUES)
def test_set_keys_sets_that_key_and_no_other(key: str, value: initial.Setting) -> None:
    before, after = tomllib.loads(read_shipped("local")), tomllib.loads(set_keys(read_shipped("local"), {key: value}))
    section, _, name = key.rpartition(".")
    there = after[section] if section else after
    assert there.pop(name) == (list(value) if isinstance(value, tuple) else value)
    (before[section] if section else before).pop(name, None)
    assert before == after


# -- Exit codes ----------------------------------------------------------------


def test_exit_codes_are_distinct_and_documented() -> None:
    assert len({int(code) for code in ExitCode}) == len(ExitCode)
    table = exit_code_table()
    assert all(f"| {code.value} | {code.name} | {code.meaning} |" in table for code in ExitCode)
    assert int(ExitCode.CONFIG) == 3


def test_a_user_error_is_found_wherever_it_sits() -> None:
    fault = ConfigError("x", "is\nwrong", "mend it")
    escalated = Escalated("root", "link", 4, 30.0)
    escalated.__cause__ = ExceptionGroup("inner", [ValueError(), fault])
    assert find_error(BaseExceptionGroup("outer", [KeyboardInterrupt(), escalated])) is fault
    assert str(fault) == "x: is wrong; mend it"
    alone = Escalated("root", "link", 4, 30.0)
    assert find_error(ExceptionGroup("outer", [alone])) is alone
    assert find_error(ValueError()) is None


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("", "but p2p.tls_certificate is missing"),
        ('tls_certificate = "nowhere.pem"\n', "p2p.tls_certificate can't be used: .*No such file"),
        ('tls_certificate = "node.toml"\n', "p2p.tls_certificate can't be used"),
        ('tls_certificate = "CERTIFICATE"\ntls_authorities = "node.toml"\n', "p2p.tls_authorities can't be used"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path, certificate: Path, keys: str, problem: str) -> None:
    path = tmp_path / "node.toml"
    listen = 'listen = ["/ip4/127.0.0.1/tcp/0/tls/ws"]\n'
    path.write_text(MINIMAL + "[p2p]\n" + listen + keys.replace("CERTIFICATE", str(certificate)))
    with pytest.raises(ConfigError, match=problem):
        check_tls(load_config(path), path)


def test_a_certificate_that_fits_is_no_fault(tmp_path: Path, certificate: Path) -> None:
    path = tmp_path / "node.toml"
    listen = 'listen = ["/ip4/127.0.0.1/tcp/0/tls/ws"]\n'
    path.write_text(MINIMAL + "[p2p]\n" + listen + f'tls_certificate = "{certificate}"\n')
    check_tls(load_config(path), path)
