"""The proxy's configuration names every path that may pass, and no other."""

import re
from pathlib import Path

import pytest
import tomli_w

from fedseg.deploy.proxy import IDLE_BODY_BYTES, body_limit, limits_conf, name_servers, nginx_conf
from fedseg.deploy.settings import ServerDeployment, ServerTerms
from fedseg.federation.flower.messages import largest_body_bytes
from fedseg.ledger.keys import SigningKey
from fedseg.plan import Plan, parse_plan
from tests.small_federation import plan_terms

ALLOWED = {
    "/health",
    *(
        f"/v1/fleet/{name}"
        for name in [
            *("activate-node", "deactivate-node", "send-node-heartbeat", "get-run", "get-fab"),
            *("pull-messages", "push-messages", "pull-object", "push-object", "confirm-message-received"),
        ]
    ),
}


TERMS = ServerTerms(server_key="k", hosts=("seg.example",), listen="[::]:8443", server_user="link", proxy_user="nginx")


@pytest.fixture
def text() -> str:
    return nginx_conf(ServerDeployment(Path("/srv/seg"), TERMS)).decode()


def plan(width: int) -> Plan:
    """A plan of as many segments as there can be, with so many features."""
    one = plan_terms([])["features"][0]
    features = [{**one, "name": f"feature_{number}"} for number in range(width)]
    units = [{"name": "north", "public_key": SigningKey.generate().public.to_text()}]
    return parse_plan(tomli_w.dumps(plan_terms(units, k=512, features=features)).encode())


def test_every_path_is_matched_exactly_and_passed_on_as_written(text: str) -> None:
    exact = re.findall(r"location = (\S+) \{", text)
    passed = re.findall(r"proxy_pass http://link(\S+);", text)

    assert set(exact) == ALLOWED
    assert passed == exact
    assert re.findall(r"location (?!= )(\S+) \{", text) == ["/"]


def test_who_belongs_is_for_the_operator_to_say(text: str) -> None:
    assert "register" not in text


def test_the_way_out_leads_to_the_named_witnesses_and_nowhere_else(tmp_path: Path) -> None:
    assert "witness" not in nginx_conf(ServerDeployment(tmp_path, TERMS)).decode()
    named = {"one.example/w": "https://one.example:8466", "two": "http://10.0.0.7/w/"}
    terms = ServerTerms.model_validate(TERMS.model_dump() | {"witnesses": named})
    out = nginx_conf(ServerDeployment(tmp_path, terms)).decode().partition("# The way out")[2]
    assert re.findall(r"location = (\S+) \{", out) == [
        *("/0/add-checkpoint", "/0/checkpoint", "/1/add-checkpoint", "/1/checkpoint")
    ]
    assert re.findall(r"set \$witness (\S+);", out) == 2 * ["https://one.example:8466"] + 2 * ["http://10.0.0.7/w"]
    assert set(re.findall(r"proxy_pass (\S+);", out)) == {
        "$witness/add-checkpoint",
        "$witness/checkpoint$is_args$args",
    }
    assert re.findall(r"listen (\S+);", out) == [f"unix:{tmp_path}/witnesses/post.sock"]


@pytest.mark.parametrize(
    "url",
    ["witness.example", "ftp://witness.example", "https://a.example;", "https://$host", "https://a b", "https://"],
)
def test_what_is_no_address_of_a_witness_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="witness"):
        ServerTerms.model_validate(TERMS.model_dump() | {"witnesses": {"w": url}})


def test_the_machines_name_servers_are_asked_and_none_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    assert name_servers(file) == []
    file.write_text(
        "# a comment\nnameserver 10.0.0.1\nnameserver fe80::1\nnameserver\nnameserver no;thing\nsearch a\n", "utf-8"
    )
    assert name_servers(file) == ["10.0.0.1", "[fe80::1]"]


def test_only_the_newest_tls_is_spoken_and_nothing_is_recorded(text: str) -> None:
    assert re.findall(r"ssl_protocols (.+);", text) == ["TLSv1.3"]
    assert re.findall(r"access_log (.+);", text) == ["off"]
    assert re.findall(r"listen (.+);", text) == ["[::]:8443 ssl"]


def test_everything_of_nginx_lies_in_its_own_directory(text: str) -> None:
    paths = re.findall(r"(?<!unix:)(/srv/seg/\S+?)[;\s]", text)
    assert len(paths) == 9
    assert all(path.startswith("/srv/seg/proxy/") for path in paths)
    assert "unix:/srv/seg/run/link.sock;" in text


def test_before_any_plan_little_may_be_sent() -> None:
    assert body_limit([]) == IDLE_BODY_BYTES == 16384
    assert limits_conf(16384) == b"client_max_body_size 16384;\n"


def test_a_plan_gets_a_tenth_more_than_its_nodes_send() -> None:
    small, large = plan(1), plan(40)
    for plans, longest in (
        ([small], largest_body_bytes(small)),
        ([small, large], largest_body_bytes(large)),
        ([large, small], largest_body_bytes(large)),
    ):
        assert longest * 1.1 <= body_limit(plans) < longest * 1.1 + 1
