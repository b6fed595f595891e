"""Is the server there, is it the one the CA vouches for, and do the clocks agree? Asked before a node is started.

`python -m fedseg.deploy.preflight HOST:PORT CA` asks as the network user, past whatever firewall that user has; what it
prints is read by `check_server`.
"""

import argparse
import email.utils
import http.client
import json
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedseg.deploy.settings import Address, parse_address
from fedseg.deploy.users import Account, python, run_as
from fedseg.errors import CertificateError, ClockError, FedsegError, UnreachableError, error_class

SECONDS = 6.0
"""Longest wait for each step of an answer, and for each address that a name has."""
AHEAD_SECONDS = 4.0
"""The furthest that a node's clock may be ahead of the server's. Flower accepts 5 s."""
BEHIND_SECONDS = 300.0
"""The furthest that it may be behind. Flower accepts 305 s."""


@dataclass(frozen=True, slots=True)
class Health:
    """A server that says it is well."""

    date: str
    """The Date header of its answer: a second's resolution."""


def check_server(
    who: Account, server: str, ca: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> None:
    """Check as the user `who` that the server answers, that `ca` vouches for it, and that its clock agrees with ours.

    Raises:
        UnreachableError: If it does not answer, or something else does.
        CertificateError: If `ca` does not vouch for it under this name.
        ClockError: If what this node signs would be refused.
    """
    done = run_as(who, python("fedseg.deploy.preflight", server, ca))
    now = clock()  # the answer came just before the process that asked has ended
    try:
        said = json.loads(done.stdout)
    except ValueError as error:
        raise UnreachableError(
            f"{who.name} cannot ask the server",
            why=f"the attempt ended with {done.returncode}: {' '.join(done.stderr.split()[-20:])}",
            fix=f"look at {ca} and the rights of {who.name}",
        ) from error
    if "error" in said:
        code = said["error"].pop("code")
        raise (error_class(code) or FedsegError)(**said["error"])
    _check_clock(server, said["date"], now)


def ask_health(at: Address, name: str, ca: Path) -> Health:
    """Ask the server that listens at `at` how it is, over TLS with a certificate for `name`.

    Raises:
        UnreachableError, CertificateError: As `check_server`.
    """
    context = _trusting(ca)
    try:
        with (
            socket.create_connection(at, timeout=SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            connection = http.client.HTTPConnection(name)
            connection.sock = secure
            connection.request("GET", "/health", headers={"Connection": "close"})
            answer = connection.getresponse()
            status, date = answer.status, answer.headers.get("Date", "")
    except ssl.SSLCertVerificationError as error:
        raise _wrong_certificate(at, name, ca, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(at, _reason(error)) from error
    if status != http.HTTPStatus.OK or email.utils.parsedate_tz(date) is None:
        raise _unreachable(at, f"what listens there answers {status}, which a server that is well does not")
    return Health(date)


def _trusting(ca: Path) -> ssl.SSLContext:
    """TLS 1.3 with servers for which the authority in the file `ca` vouches."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise CertificateError(
            f"{ca} cannot be used",
            why=f"it should hold the certificate of the server's authority: {error.strerror or type(error).__name__}",
            fix="ask the server's operator for its ca.crt",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _check_clock(server: str, date: str, now: datetime) -> None:
    # The header has whole seconds: on average it is half a second old.
    ahead = (now - email.utils.parsedate_to_datetime(date)).total_seconds() - 0.5
    if -BEHIND_SECONDS <= ahead <= AHEAD_SECONDS:
        return
    raise ClockError(
        f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} that of {server}",
        why=f"the server takes what is signed at most {AHEAD_SECONDS:g} s ahead and {BEHIND_SECONDS:g} s behind",
        fix="set the clocks of both by the network: timedatectl set-ntp true",
    )


def _reason(error: OSError | http.client.HTTPException) -> str:
    if isinstance(error, ssl.SSLError):
        return f"what listens there does not speak TLS 1.3: {error.reason or 'the handshake failed'}"
    if isinstance(error, TimeoutError):
        return f"nothing came back within {SECONDS:g} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"what came back is no answer: {type(error).__name__}"


def _unreachable(at: Address, why: str) -> UnreachableError:
    return UnreachableError(
        f"the server at {at.host} port {at.port} cannot be reached",
        why=why,
        fix="fedseg server status DIR, on the server's machine; then look at names, routes and firewalls in between",
    )


def _wrong_certificate(at: Address, name: str, ca: Path, error: ssl.SSLCertVerificationError) -> CertificateError:
    return CertificateError(
        f"the server at {at.host} port {at.port} is not one that {ca.name} vouches for",
        why=f"its certificate for {name}: {error.verify_message}",
        fix="ask the server's operator for its ca.crt; a certificate for another name needs: fedseg server init --host",
    )


def main() -> None:
    """Print the answer, or the error, as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", type=parse_address)
    parser.add_argument("ca", type=Path)
    options = parser.parse_args()
    try:
        said: dict[str, object] = {"date": ask_health(options.server, options.server.host, options.ca).date}
    except FedsegError as error:
        said = {"error": {"code": error.code, "what": error.what, "why": error.why, "fix": error.fix}}
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
