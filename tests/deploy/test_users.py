"""Who runs the two processes: two users, neither of them root, or one who says so."""

import os
from pathlib import Path

import pytest

from fedseg.deploy import users
from fedseg.deploy.users import Account, account, choose, confined, environment, program, python
from fedseg.errors import DeploymentError, SettingsError

OPTIONS = ("--network-user", "--data-user")
NOBODY = "nobody"
DAEMON = "daemon"


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def as_alice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)


@pytest.mark.parametrize(
    ("first", "second", "single_user"),
    [(None, None, False), (NOBODY, None, False), (None, NOBODY, False), (NOBODY, DAEMON, True), (NOBODY, None, True)],
)
def test_the_command_must_say_who(first: str | None, second: str | None, *, single_user: bool) -> None:
    with pytest.raises(SettingsError) as raised:
        choose(first, second, single_user=single_user, options=OPTIONS)

    assert "--network-user" in raised.value.fix


@pytest.mark.usefixtures("as_root")
def test_root_names_two_users() -> None:
    first, second = choose(NOBODY, DAEMON, single_user=False, options=OPTIONS)
    assert (first.name, second.name) == (NOBODY, DAEMON)


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(("first", "second"), [(NOBODY, NOBODY), ("root", NOBODY), (NOBODY, "root")])
def test_two_users_are_two_and_neither_is_root(first: str, second: str) -> None:
    with pytest.raises(DeploymentError, match="must be two"):
        choose(first, second, single_user=False, options=OPTIONS)


@pytest.mark.usefixtures("as_root")
def test_root_is_no_single_user() -> None:
    with pytest.raises(DeploymentError, match="own the whole machine"):
        choose(None, None, single_user=True, options=OPTIONS)


@pytest.mark.usefixtures("as_alice")
def test_two_users_take_root() -> None:
    with pytest.raises(DeploymentError) as raised:
        choose(NOBODY, DAEMON, single_user=False, options=OPTIONS)

    assert "sudo" in raised.value.fix


@pytest.mark.usefixtures("as_alice")
def test_an_ordinary_user_may_do_both() -> None:
    first, second = choose(None, None, single_user=True, options=OPTIONS)
    assert first == second
    assert first.uid == 54321


def test_a_user_that_is_not_there_comes_with_the_command_that_makes_it() -> None:
    with pytest.raises(DeploymentError) as raised:
        account("no-such-user")

    assert raised.value.fix.startswith("useradd --system")
    assert raised.value.fix.endswith("no-such-user")


def test_a_program_that_is_not_there_comes_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "PATH", "/nonexistent")
    with pytest.raises(DeploymentError) as raised:
        program("nginx")

    assert raised.value.fix == "apt-get install nginx-light"


@pytest.mark.usefixtures("as_root")
def test_roots_processes_become_the_user_and_lose_every_capability() -> None:
    words = confined(Account("x", 7, 8))
    assert {"--reuid=7", "--regid=8", "--clear-groups", "--bounding-set=-all", "--no-new-privs"} <= set(words)
    assert {"--inh-caps=-all", "--ambient-caps=-all", "--pdeathsig=TERM"} <= set(words)


@pytest.mark.usefixtures("as_root")
def test_only_who_listens_on_a_low_port_keeps_the_capability_for_it() -> None:
    assert [word for word in confined(Account("x", 7, 8), low_ports=True) if "+" in word] == [
        "--bounding-set=-all,+net_bind_service",
        "--inh-caps=-all,+net_bind_service",
        "--ambient-caps=-all,+net_bind_service",
    ]


@pytest.mark.parametrize(("uid", "extra"), [(0, []), (54321, ["--map-current-user"])])
def test_who_has_the_data_has_no_network(uid: int, extra: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    words = confined(Account("x", 7, 8), network=False)

    assert Path(words[0]).name == "unshare"
    assert words[1 : words.index("--")] == [*extra, "--net"]


def test_a_process_knows_nothing_of_its_callers_environment_but_the_form_of_logs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    monkeypatch.setenv("LD_PRELOAD", "x.so")

    assert environment(Path("/srv/x")) == {
        "PATH": users.PATH,
        "LANG": "C.UTF-8",
        "HOME": "/srv/x",
        "FLWR_HOME": "/srv/x/flower",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "FEDSEG_LOG_FORMAT": "text",
    }
    assert python("a.b", 1)[1:] == ["-P", "-m", "a.b", "1"]
