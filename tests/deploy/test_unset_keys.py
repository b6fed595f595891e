"""Nothing that decides about privacy has a silent default: a key that is left out of a unit's files starts nothing."""

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from ruamel.yaml import YAML

from fedseg.deploy.settings import FILE, NodeDeployment
from fedseg.errors import DeploymentError, PolicyDocumentError, SettingsError
from fedseg.node.home import NodeHome
from fedseg.policy.document import load_policy
from tests.deploy.conftest import ROOT

LEAST = ROOT / "policies/minimal.yaml"
NODE = {
    "version": 1,
    "unit": "north",
    "source": {"path": "/srv/customers.csv", "format": "csv", "subject": "customer_id"},
}
DEPLOYMENT = {
    "version": 1,
    "role": "node",
    "unit": "north",
    "unit_key": "k",
    "server": "seg.example:8443",
    "network_user": "a",
    "data_user": "b",
}


def yaml() -> YAML:
    reader = YAML()
    reader.preserve_quotes = True
    reader.width = 4096
    return reader


def keys(values: Mapping[str, Any], *before: str) -> Iterator[tuple[str, ...]]:
    for name, value in values.items():
        yield (*before, name)
        if isinstance(value, Mapping):
            yield from keys(value, *before, name)


def without(values: Any, path: tuple[str, ...]) -> Any:
    inner = values
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return values


def copy_of(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: copy_of(value) if isinstance(value, Mapping) else value for name, value in values.items()}


def written(policy: Any) -> bytes:
    out = io.BytesIO()
    yaml().dump(policy, out)
    return out.getvalue()


def test_the_least_policy_can_be_read_as_it_is_written_here() -> None:
    assert load_policy(written(yaml().load(LEAST))).id == "minimal"


@pytest.mark.parametrize("path", [*keys(yaml().load(LEAST))], ids=".".join)
def test_the_least_policy_has_no_key_that_could_be_left_out(path: tuple[str, ...]) -> None:
    with pytest.raises(PolicyDocumentError):
        load_policy(written(without(yaml().load(LEAST), path)))


@pytest.mark.parametrize("path", [*keys(NODE)], ids=".".join)
def test_a_units_settings_have_no_key_that_could_be_left_out(path: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(tomli_w.dumps(NODE), encoding="utf-8")
    assert NodeHome.open(tmp_path).settings.unit == "north"
    (tmp_path / "node.toml").write_text(tomli_w.dumps(without(copy_of(NODE), path)), encoding="utf-8")

    with pytest.raises(SettingsError, match=r"node\.toml cannot be used"):
        NodeHome.open(tmp_path)


@pytest.mark.parametrize("path", [*keys(DEPLOYMENT)], ids=".".join)
def test_who_runs_what_is_said_or_nothing_starts(path: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(tomli_w.dumps(without(copy_of(DEPLOYMENT), path)), encoding="utf-8")

    if path[0] in {"version", "role"}:  # one version, and which kind it is says the command
        assert not NodeDeployment.open(tmp_path).single_user
        return
    with pytest.raises(DeploymentError, match="cannot be used"):
        NodeDeployment.open(tmp_path)


def test_the_settings_of_a_node_fit_on_a_screen() -> None:
    lines = tomli_w.dumps(NODE).splitlines() + tomli_w.dumps(DEPLOYMENT).splitlines()
    assert len(lines) < 24
    assert not re.search("epsilon|delta|rho|seed", "\n".join(lines)), "what decides about privacy is in the policy"
