"""`deployment.toml`: who runs a server or node, and where; and the names of what stands beside it.

A node's directory                              A server's directory
    deployment.toml   this                          deployment.toml
    request.json      for the server's operator     ca.crt            for the nodes
    answer.json       what the operator sent        answers/          to the units' requests
    node.pub          the node's public key
    unit/             the unit's home               ca/               the authority's key: root's alone
    network/          node's key, ca.crt, state     server/           the coordinator's home, and link.db
    run/              runtime.sock                  jobs/             submitted plans
    logs/             one file a process            proxy/            TLS key, nginx.conf, limits.conf
    supervisor/       supervisord's                 run/, logs/, supervisor/
"""

import ipaddress
import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fedseg.deploy.directory import write_new
from fedseg.deploy.users import Account, account, caller
from fedseg.errors import DeploymentError, SettingsError
from fedseg.plan import Name

FILE = "deployment.toml"
SEED_MAX = 2**63 - 1
"""Largest seed of a rehearsal."""
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(:[1-9][0-9]{0,4})?(/[A-Za-z0-9._~-]+)*/?")
_WITNESS = r"^[!-*,-~]{1,255}$"
"""What names a key in a signed note: no blank, no plus sign."""
_USER = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$"
_PORT_MAX = 65535


class Address(NamedTuple):
    """A host, as a name or an IP address without brackets, and a TCP port."""

    host: str
    port: int


def parse_host(text: str) -> str:
    """A DNS name or an IP address.

    Raises:
        ValueError: If it is neither.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if not _HOST.fullmatch(text):
            raise ValueError(f"{text!r} is neither a host's name nor an IP address") from None
        return text


def parse_address(text: str) -> Address:
    """HOST:PORT; an IPv6 address stands in brackets.

    Raises:
        ValueError: If it is something else.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > _PORT_MAX:
        raise ValueError(f"{text!r} is not HOST:PORT")
    bracketed = host.startswith("[") and host.endswith("]")
    if (":" in host) != bracketed:
        raise ValueError(f"{text!r}: an IPv6 address, and only one, stands in brackets")
    return Address(parse_host(host[1:-1] if bracketed else host), int(port))


def parse_unit(text: str) -> str:
    """A unit's name.

    Raises:
        SettingsError: If it cannot be one.
    """
    try:
        return TypeAdapter(Name).validate_python(text)
    except ValidationError as error:
        raise SettingsError(
            f"{text!r} cannot be the name of a unit",
            why="it may hold lower-case letters, digits and - alone, 63 at most, and begins with no -",
            fix="ask the unit for the name it has in its plans",
        ) from error


def _address(text: str) -> str:
    parse_address(text)
    return text


def _listen(text: str) -> str:
    ipaddress.ip_address(parse_address(text).host)
    return text


def _host(text: str) -> str:
    return parse_host(text)


def _witness_url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise ValueError(f"{text!r} is not the address of a witness, such as https://witness.example:8466")
    return text.rstrip("/")


User = Annotated[str, Field(pattern=_USER)]
AddressText = Annotated[str, AfterValidator(_address)]
"""HOST:PORT."""


class _Terms(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1


class NodeTerms(_Terms):
    """The content of a node's deployment.toml."""

    role: Literal["node"] = "node"
    unit: Name
    unit_key: str
    """Public key that the unit began with, by which plans named it."""
    server: AddressText
    """HOST:PORT of the server."""
    network_user: User
    """Runs the process that speaks to the server and has no data."""
    data_user: User
    """Runs the process that has the data and no network."""
    rehearsal_seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = None
    """Seed of simulated noise: NOT PRIVATE. Left out for real noise."""


class ServerTerms(_Terms):
    """The content of a server's deployment.toml."""

    role: Literal["server"] = "server"
    server_key: str
    """Public key by which published segments are signed."""
    hosts: Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], Field(min_length=1, strict=False)]
    """Names and addresses under which nodes reach it: what its certificate vouches for."""
    listen: Annotated[str, AfterValidator(_listen)]
    """IP address and port on which the proxy listens."""
    server_user: User
    """Runs link and coordinator, which have no network."""
    proxy_user: User
    """Runs the proxy."""
    witnesses: dict[Annotated[str, Field(pattern=_WITNESS)], Annotated[str, AfterValidator(_witness_url)]] = {}
    """Where witnesses answer that are no units, by the names in their verifier keys."""


Terms = TypeVar("Terms", bound=_Terms)


@dataclass(frozen=True)
class Deployment:
    """What the directories of servers and nodes have in common."""

    path: Path
    """The directory, absolute."""

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """Where the socket between the two users is."""
        return self.path / "run"

    @property
    def supervisor(self) -> Path:
        """What belongs to the supervisor."""
        return self.path / "supervisor"


@dataclass(frozen=True)
class NodeDeployment(Deployment):
    """A node's directory."""

    terms: NodeTerms

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing one that belongs to the caller.

        Raises:
            DeploymentError: If it is not the directory of a node, or another user's.
        """
        return cls(path.resolve(), _read(path, NodeTerms, "node", "--unit NAME --server HOST:PORT ..."))

    @property
    def home(self) -> Path:
        """The unit's home: data user only."""
        return self.path / "unit"

    @property
    def network(self) -> Path:
        """The network process's own directory: network user only."""
        return self.path / "network"

    @property
    def request(self) -> Path:
        """The node's last request to join, to send."""
        return self.path / "request.json"

    @property
    def answer(self) -> Path:
        """The server's answer to it, once it was taken in."""
        return self.path / "answer.json"

    @property
    def authority(self) -> Path:
        """The certificate of the authority that vouches for the server; there once the node has joined."""
        return self.network / "ca.crt"

    @property
    def state(self) -> Path:
        """Where the network process says whether the server has let it in."""
        return self.network / "state.json"

    @property
    def socket(self) -> Path:
        """Where the data process takes its tasks from."""
        return self.run / "runtime.sock"

    @property
    def public_key(self) -> Path:
        """The node's public key, to hand to the server's operator."""
        return self.path / "node.pub"

    @property
    def network_account(self) -> Account:
        """The user of the network process; DeploymentError if it has gone."""
        return _account(self.terms.network_user)

    @property
    def data_account(self) -> Account:
        """The user of the data process; DeploymentError if it has gone."""
        return _account(self.terms.data_user)

    @property
    def single_user(self) -> bool:
        """Whether one user runs both processes."""
        return self.terms.network_user == self.terms.data_user

    @property
    def noise(self) -> Literal["system", "simulated"]:
        """Where the noise comes from: the system's randomness, or a seed, for a rehearsal."""
        return "system" if self.terms.rehearsal_seed is None else "simulated"


@dataclass(frozen=True)
class ServerDeployment(Deployment):
    """A server's directory."""

    terms: ServerTerms

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing one that belongs to the caller.

        Raises:
            DeploymentError: If it is not the directory of a server, or another user's.
        """
        return cls(path.resolve(), _read(path, ServerTerms, "server", "--host NAME ..."))

    @property
    def home(self) -> Path:
        """The coordinator's home, and the link's database."""
        return self.path / "server"

    @property
    def database(self) -> Path:
        """Where the link keeps registered nodes and runs."""
        return self.home / "link.db"

    @property
    def jobs(self) -> Path:
        """The job store."""
        return self.path / "jobs"

    @property
    def proxy(self) -> Path:
        """The proxy's own directory."""
        return self.path / "proxy"

    @property
    def answers(self) -> Path:
        """Where the answers to units' requests are, to send."""
        return self.path / "answers"

    @property
    def authority(self) -> Path:
        """Where the authority's private key is."""
        return self.path / "ca"

    @property
    def certificate(self) -> Path:
        """The authority's certificate, to hand to the nodes."""
        return self.path / "ca.crt"

    @property
    def socket(self) -> Path:
        """Where the proxy and the coordinator reach the link."""
        return self.run / "link.sock"

    @property
    def witnesses(self) -> Path:
        """Where the socket is on which the proxy takes what is for witnesses with an address."""
        return self.path / "witnesses"

    @property
    def witness_socket(self) -> Path:
        """There the coordinator reaches them."""
        return self.witnesses / "post.sock"

    @property
    def listen(self) -> Address:
        """Where the proxy listens."""
        return parse_address(self.terms.listen)

    @property
    def server_account(self) -> Account:
        """The user of link and coordinator; DeploymentError if it has gone."""
        return _account(self.terms.server_user)

    @property
    def proxy_account(self) -> Account:
        """The user of the proxy; DeploymentError if it has gone."""
        return _account(self.terms.proxy_user)

    @property
    def single_user(self) -> bool:
        """Whether one user runs all processes."""
        return self.terms.server_user == self.terms.proxy_user


def terms_of(kind: type[Terms], values: dict[str, Any]) -> Terms:
    """The terms that the command line asks for.

    Raises:
        SettingsError: If a value cannot be one.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        place, why = _first(error)
        raise SettingsError(f"{place} cannot be used", why=why, fix=f"fedseg {values['role']} init --help") from error


def write_terms(directory: Path, terms: _Terms, owner: Account) -> None:
    """Leave them in a new deployment's directory."""
    content = tomli_w.dumps(terms.model_dump(mode="json", exclude_none=True)).encode()
    write_new(directory / FILE, content, owner, 0o644)


def _read(path: Path, kind: type[Terms], role: str, options: str) -> Terms:
    try:
        found = (path / FILE).stat()
        values = tomllib.loads((path / FILE).read_text(encoding="utf-8"))
    except OSError as error:
        raise DeploymentError(
            f"{path} is not the directory of a {role}",
            why=f"its {FILE} cannot be read: {error.strerror}",
            fix=f"fedseg {role} init {path} {options}",
        ) from error
    except ValueError as error:
        raise _unusable(path, str(error)) from error
    _require_owner(path, found)
    if values.get("role") in {"server", "node"} and values["role"] != role:
        raise DeploymentError(
            f"{path} is not the directory of a {role}",
            why=f"it is that of a {values['role']}",
            fix=f"fedseg {values['role']} status {path}",
        )
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _unusable(path, ": ".join(_first(error))) from error


def _require_owner(path: Path, found: os.stat_result) -> None:
    """Whoever can write the file decides as which users processes are started: that is the caller and nobody else."""
    if found.st_uid != os.geteuid():
        raise DeploymentError(
            f"{path} belongs to another user",
            why=f"its owner is user {found.st_uid}, and this is user {os.geteuid()}",
            fix="run the same command as its owner, or with sudo if that is root",
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DeploymentError(
            f"others may change {path / FILE}",
            why=f"its mode is {stat.S_IMODE(found.st_mode):04o}, wanted 0644",
            fix=f"look at what it says, then: chmod 644 {path / FILE}",
        )


def _account(name: str) -> Account:
    me = caller()
    return me if name == me.name else account(name)


def _first(error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_url=False, include_input=False)[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")


def _unusable(path: Path, why: str) -> DeploymentError:
    return DeploymentError(
        f"{path / FILE} cannot be used", why=why, fix=f"correct {path / FILE}, or restore it from a backup"
    )
