"""The server's side of enrolment: requests looked at and answered, units put out, the server's certificate renewed."""

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedseg.deploy import certificates, proxy
from fedseg.deploy.directory import replace
from fedseg.deploy.enrolment import (
    Answer,
    Request,
    make_answer,
    read_request,
    require_same_fingerprint,
    server_fingerprint,
)
from fedseg.deploy.settings import ServerDeployment, parse_address
from fedseg.deploy.users import caller
from fedseg.errors import CertificateError, DeploymentError
from fedseg.federation.flower.link import Link
from fedseg.privacy.entries import ApprovalRules
from fedseg.privacy.signatures import Officer
from fedseg.server.home import ServerHome
from fedseg.server.roster import Candidate, RosterState


@dataclass(frozen=True, slots=True)
class Admission:
    """What came of a request."""

    request: Request
    server_fingerprint: str
    joined: bool
    """Whether this request has let the unit in."""
    renews: bool
    """Whether the unit belongs already, and asks for another key of its node."""
    approving: tuple[str, ...]
    """Officers who have signed for it."""
    waits_for: int
    """How many more must."""
    single_operator: bool
    node_id: int | None = None
    """None as long as it is not let in."""
    answer: Path | None = None


def look(deployment: ServerDeployment, document: bytes, *, now: datetime) -> Admission:
    """Check a request as `admit` does, and change nothing.

    Raises:
        EnrolmentError: If it is no right request, its time has passed, or its name, key or self was used before.
        CertificateError: If the unit looks for the server under a name that its certificate does not have.
    """
    request, home = read_request(document, now=now), ServerHome.open(deployment.home)
    state = home.roster().state()
    host = parse_address(request.server).host
    if host not in deployment.terms.hosts:
        raise CertificateError(
            f"the unit looks for this server as {host}",
            why=f"its certificate is for {', '.join(deployment.terms.hosts)}",
            fix="have the unit make its node with another --server",
        )
    if not _is_member(state, request):
        state.require_new(_candidate(request, document))
    return _described(deployment, request, state)


def admit(
    deployment: ServerDeployment, document: bytes, officer: Officer | None, *, fingerprint: str, now: datetime
) -> Admission:
    """Put an officer's word to a request; with the last that it takes, let the node in and write the answer.

    Whatever interrupts this, the same command goes on with it: a unit that is on the roster gets its answer again.

    Args:
        deployment: The server, which runs.
        document: The request.
        officer: Who says so; None where one operator alone decides.
        fingerprint: As the unit has read it out.
        now: When.

    Raises:
        EnrolmentError, CertificateError: As `look`, and if the fingerprint is another one.
        NotApprovedError, TrustError: If it takes an officer, or this is none.
        UnreachableError: If the server does not run. Nothing was changed then.
    """
    found, home = look(deployment, document, now=now), ServerHome.open(deployment.home)
    require_same_fingerprint(fingerprint, found.request.fingerprint, whose="the request")
    roster, request = home.roster(), found.request
    with Link(deployment.socket) as link:
        link.nodes()
        if not _is_member(roster.state(), request):
            roster.admit(_candidate(request, document), officer, now=now)
        state = roster.state()
        described = dataclasses.replace(_described(deployment, request, state), renews=found.renews)
        if not _is_member(state, request):
            return described
        node_id = follow_roster(link, state)[request.unit]
    answer = make_answer(request, home.key, node_id=node_id, ca=deployment.certificate.read_bytes(), now=now)
    return dataclasses.replace(described, node_id=node_id, answer=_keep(deployment, answer))


def remove(deployment: ServerDeployment, unit: str, officer: Officer | None, *, now: datetime) -> int:
    """Put an officer's word to putting a unit out; with the last that it takes, the link forgets its node.

    Returns:
        How many more officers must sign.

    Raises:
        SettingsError: If no such unit belongs.
        NotApprovedError, TrustError: If it takes an officer, or this is none.
        UnreachableError: If the server does not run. Nothing was changed then.
    """
    roster = ServerHome.open(deployment.home).roster()
    with Link(deployment.socket) as link:
        follow_roster(link, roster.state())  # what an earlier removal has left, if it was interrupted
        missing = roster.remove(unit, officer, now=now)
        follow_roster(link, roster.state())
    return missing


def change_officers(
    deployment: ServerDeployment, rules: ApprovalRules, officer: Officer | None, *, now: datetime
) -> int:
    """Put an officer's word to other officers, who decide once as many have signed as the present rules ask for.

    Returns:
        How many more officers must sign.

    Raises:
        NotApprovedError, TrustError: If it takes an officer, or this is none.
    """
    return ServerHome.open(deployment.home).roster().change_rules(rules, officer, now=now)


def follow_roster(link: Link, state: RosterState) -> dict[str, int]:
    """Have the link know the nodes on the roster, and no others; their ids by unit.

    Raises:
        UnreachableError: If the link is down.
    """
    known: dict[str, int] = {}
    for node in link.nodes():
        member = state.members.get(node.unit)
        if member is not None and node.has_key(member.node_key.encode("ascii")):
            known[node.unit] = node.node_id
        else:
            link.unregister(node.node_id)
    for unit, member in state.members.items():
        if unit not in known:
            known[unit] = link.register(unit, member.node_key.encode("ascii"))
    return known


def renew(deployment: ServerDeployment, *, now: datetime) -> datetime:
    """Give the proxy a new certificate and key, from the same authority; it takes them up without a restart.

    Returns:
        When the new certificate ends.

    Raises:
        DeploymentError: If the authority's key is not where it was made.
    """
    try:
        key = (deployment.authority / "ca.key").read_bytes()
    except OSError as error:
        raise DeploymentError(
            "the authority's key is not here",
            why=f"{deployment.authority / 'ca.key'}: {error.strerror}",
            fix=f"bring it back for a moment, then: fedseg server renew {deployment.path}",
        ) from error
    authority = certificates.Issued(deployment.certificate.read_bytes(), key)
    issued = certificates.issue(authority, deployment.terms.hosts, now)
    proxy.write_certificate(deployment, issued)
    return certificates.valid_until(issued.certificate)


def identity(deployment: ServerDeployment) -> str:
    """The fingerprint by which units know this server."""
    return server_fingerprint(deployment.terms.server_key, deployment.certificate.read_bytes())


def _is_member(state: RosterState, request: Request) -> bool:
    member = state.members.get(request.unit)
    return member is not None and member.request_sha256 == request.digest


def _candidate(request: Request, document: bytes) -> Candidate:
    return Candidate(
        unit=request.unit,
        unit_key=request.unit_key,
        node_key=request.node_key,
        request_sha256=request.digest,
        document=document,
    )


def _described(deployment: ServerDeployment, request: Request, state: RosterState) -> Admission:
    change, member = state.change("admit", request.unit, request.digest), _is_member(state, request)
    return Admission(
        request=request,
        server_fingerprint=identity(deployment),
        joined=member,
        renews=request.unit in state.members and not member,
        approving=tuple(state.approving(change)),
        waits_for=0 if member else state.missing(change),
        single_operator=state.single_operator,
    )


def _keep(deployment: ServerDeployment, answer: Answer) -> Path:
    folder = deployment.answers
    folder.mkdir(mode=0o755, exist_ok=True)
    path = folder / f"{answer.unit}.json"
    replace(path, answer.to_bytes(), caller(), 0o644)
    return path
