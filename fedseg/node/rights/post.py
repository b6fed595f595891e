"""Sending signed messages to others' HTTPS endpoints, as OpenDSR 2.0 signs callbacks, and hearing whether they arrived.

TLS with a verified certificate, no redirect, no proxy of the environment, a limit of time. Nothing of an answer is read
but its status.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import httpx

from fedseg.errors import CertificateError
from fedseg.node.rights.seal import Seal

SEND_SECONDS: Final = 30.0
"""How long sending and waiting for the status may take, whatever trickles in meanwhile."""
_PROBLEM_LENGTH: Final = 200


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends, and whose certificates it believes."""

    seal: Seal
    domain: str
    """What the seal's certificate vouches for."""
    trusted: ssl.SSLContext = field(repr=False)

    @classmethod
    def load(cls, certificate: Path, key: Path, domain: str, authorities: Path | None = None) -> Self:
        """From PEM files.

        Args:
            certificate: The unit's.
            key: Its key.
            domain: What it is for.
            authorities: Those that vouch for the endpoints; the system's if None.

        Raises:
            CertificateError: If certificate or authorities cannot be used, or the certificate is for other hosts.
            KeyFileError: If the key cannot be used.
        """
        seal = Seal.load(certificate, key)
        if not seal.is_for(domain):
            raise CertificateError(
                f"the certificate is not for {domain}",
                why=f"who gets a notice checks its signature with the certificate of that host, and {certificate} "
                "names others",
                fix="name one of its hosts with --domain",
            )
        try:
            trusted = ssl.create_default_context(cafile=authorities)
        except (OSError, ssl.SSLError) as error:
            raise CertificateError(
                f"{authorities} holds no authorities", why="it cannot be read as PEM", fix="name another --ca"
            ) from error
        return cls(seal, domain, trusted)

    def client(self) -> httpx.AsyncClient:
        """What `send` uses."""
        return httpx.AsyncClient(verify=self.trusted, trust_env=False, follow_redirects=False, timeout=SEND_SECONDS)

    async def send(self, client: httpx.AsyncClient, url: str, body: bytes) -> str | None:
        """Send JSON, signed; None if it was acknowledged, otherwise what went wrong, in which nothing of it stands."""
        headers = {
            "Content-Type": "application/json",
            "X-OpenDSR-Processor-Domain": self.domain,
            "X-OpenDSR-Signature": self.seal.sign(body),
        }
        try:
            async with asyncio.timeout(SEND_SECONDS), client.stream("POST", url, content=body, headers=headers) as said:
                pass  # the status is there; more of the answer is not read
        except (TimeoutError, httpx.TimeoutException):
            return f"no answer within {SEND_SECONDS:.0f} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return (str(error) or type(error).__name__)[:_PROBLEM_LENGTH]
        if said.is_redirect:
            return f"it answered {said.status_code}: a redirect is not followed"
        return None if said.is_success else f"it answered {said.status_code}"


def origin_of(url: str) -> str | None:
    """`https://HOST:PORT` of an address, as the client that sends there understands it; None if it is not of HTTPS."""
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    if found.scheme != "https" or not found.host or found.userinfo:
        return None
    return f"https://{found.raw_host.decode('ascii')}:{found.port or 443}"
