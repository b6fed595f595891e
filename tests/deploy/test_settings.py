"""`deployment.toml` says who runs what, strictly, and only to whom it belongs."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fedseg.deploy.settings import (
    FILE,
    Address,
    NodeDeployment,
    NodeTerms,
    ServerDeployment,
    ServerTerms,
    parse_address,
    parse_host,
    terms_of,
    write_terms,
)
from fedseg.deploy.users import caller
from fedseg.errors import DeploymentError, SettingsError

NODE = {"unit": "north", "unit_key": "k", "server": "seg.example:8443", "network_user": "a", "data_user": "b"}
SERVER = {"server_key": "k", "hosts": ["seg.example"], "listen": "0.0.0.0:8443", "server_user": "a", "proxy_user": "b"}


def node_directory(path: Path) -> Path:
    write_terms(path, terms_of(NodeTerms, {"role": "node", **NODE}), caller())
    return path


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("seg.example:8443", Address("seg.example", 8443)),
        ("10.0.0.1:1", Address("10.0.0.1", 1)),
        ("[::1]:65535", Address("::1", 65535)),
        ("[2001:DB8::1]:8443", Address("2001:db8::1", 8443)),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, meant: Address) -> None:
    assert parse_address(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":1",
        "host:0",
        "host:65536",
        "host:080",
        "::1:80",
        "[host]:80x",
        "a b:80",
        "a;b:80",
        "a\n:80",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|neither|stands"):
        parse_address(text)


@pytest.mark.parametrize("text", ["-a", "a-", "a..b", "a" * 64, "a_b", "ä.example", "a/b", "*.example"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        parse_host(text)


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    found = NodeDeployment.open(node_directory(tmp_path))

    assert found.terms == NodeTerms.model_validate(NODE)
    assert not found.single_user
    assert found.noise == "system"


def test_a_server_is_no_node_and_the_other_way_round(tmp_path: Path) -> None:
    write_terms(tmp_path, terms_of(ServerTerms, {"role": "server", **SERVER}), caller())

    assert ServerDeployment.open(tmp_path).terms.hosts == ("seg.example",)
    with pytest.raises(DeploymentError) as raised:
        NodeDeployment.open(tmp_path)
    assert raised.value.what == f"{tmp_path} is not the directory of a node"
    assert raised.value.fix == f"fedseg server status {tmp_path}"


def test_a_directory_without_the_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError) as raised:
        NodeDeployment.open(tmp_path)

    assert raised.value.fix.startswith(f"fedseg node init {tmp_path} ")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "\nnew_key = 1\n",
        lambda text: text.replace('network_user = "a"', "network_user = 1"),
        lambda text: text.replace('network_user = "a"', 'network_user = "a b"'),
        lambda text: text.replace('unit = "north"', 'unit = "North"'),
        lambda text: text.replace('server = "seg.example:8443"', 'server = "seg.example"'),
        lambda text: text.replace('server = "seg.example:8443"\n', ""),
        lambda text: text + '\nrehearsal_seed = "3"\n',
        lambda text: text.replace("version = 1", "version = 2"),
        lambda text: text + "\nversion =",
    ],
)
def test_a_file_that_is_not_exactly_right_starts_nothing(change: Callable[[str], str], tmp_path: Path) -> None:
    file = node_directory(tmp_path) / FILE
    changed = change(file.read_text("utf-8"))
    assert changed != file.read_text("utf-8")
    file.write_text(changed, "utf-8")

    with pytest.raises(DeploymentError, match="cannot be used"):
        NodeDeployment.open(tmp_path)


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_change_starts_nothing(mode: int, tmp_path: Path) -> None:
    (node_directory(tmp_path) / FILE).chmod(mode)

    with pytest.raises(DeploymentError, match="others may change"):
        NodeDeployment.open(tmp_path)


def test_a_file_of_another_user_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node_directory(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    with pytest.raises(DeploymentError, match="belongs to another user"):
        NodeDeployment.open(tmp_path)


def test_what_the_command_line_asks_for_wrongly_is_named() -> None:
    with pytest.raises(SettingsError) as raised:
        terms_of(ServerTerms, {"role": "server", **SERVER, "listen": "seg.example:8443"})

    assert raised.value.what == "listen cannot be used"
