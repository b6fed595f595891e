"""Runs a unit's rights service: TLS on a network interface, or a Unix socket behind a proxy that has it."""

import ipaddress
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX, create_server
from socket import socket as Socket  # noqa: N812 (a field of `Listener` is called socket)
from urllib.parse import urlsplit

import uvicorn

from fedseg.errors import SettingsError
from fedseg.http_service import server_config
from fedseg.node.home import NodeHome
from fedseg.node.rights.api import Address, LineWithoutCause, application
from fedseg.node.rights.platforms import load_platforms
from fedseg.node.rights.seal import Seal


@dataclass(frozen=True, slots=True)
class Listener:
    """Where the service is, for platforms and on this machine."""

    url: str
    certificate: Path
    key: Path
    host: str
    port: int | None
    socket: Path | None
    plain: bool

    def __post_init__(self) -> None:
        if (self.port is None) == (self.socket is None):
            raise _unfit("one of --port and --socket says where it listens", "name exactly one of them")
        if self.plain and not _is_loopback(self.host):
            raise _unfit(
                f"{self.host} is no loopback address, and without TLS everybody on the network reads who asks",
                "leave out --plain, or listen at 127.0.0.1",
            )
        _ = self.address

    @property
    def address(self) -> Address:
        """What platforms are told."""
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            host, parts = None, urlsplit("")
        if host is None or parts.scheme != "https" or parts.path.strip("/") or {*"@?#"} & {*self.url}:
            raise _unfit("--url is not https://HOST or https://HOST:PORT", "name the address that platforms are given")
        return Address(f"https://{parts.netloc}", host)

    @property
    def has_tls(self) -> bool:
        """Whether the connection itself is encrypted."""
        return self.socket is None and not self.plain

    def bind(self) -> Socket:
        """Start to listen.

        Raises:
            SettingsError: If that is not possible there.
        """
        try:
            if self.socket is not None:
                if self.socket.is_socket():
                    self.socket.unlink()
                made = Socket(AF_UNIX)
                made.bind(str(self.socket))
                self.socket.chmod(0o660)
                return made
            return create_server((self.host, self.port or 0), family=AF_INET6 if ":" in self.host else AF_INET)
        except OSError as error:
            raise _unfit(
                f"listening there fails: {error.strerror}", "choose another --port, --host or --socket"
            ) from error


def run(home: NodeHome, listener: Listener, listening: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        home: The unit.
        listener: Where.
        listening: Called once, as soon as platforms can connect.

    Raises:
        SettingsError: If the list of platforms is empty or damaged, or listening fails.
        CertificateError, KeyFileError: If certificate or key cannot be used.
    """
    seal = Seal.load(listener.certificate, listener.key)
    if not load_platforms(home):
        raise _unfit("no platform has a token yet", "fedseg subject platform NAME --node HOME")
    _start_log()
    config = server_config(
        application(home, seal, listener.address),
        certificate=listener.certificate if listener.has_tls else None,
        key=listener.key if listener.has_tls else None,
    )
    bound = listener.bind()
    try:
        listening()
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        bound.close()
        if listener.socket is not None:
            listener.socket.unlink(missing_ok=True)


def _start_log() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(LineWithoutCause())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unfit(why: str, fix: str) -> SettingsError:
    return SettingsError("the rights service cannot be started", why=why, fix=fix)
