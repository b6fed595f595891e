"""The node's side of enrolment: a request made, the server's answer taken in, the node's key replaced by a new one."""

from datetime import datetime

from fedseg.deploy.certificates import new_node_key, public_node_key
from fedseg.deploy.directory import read_small, replace
from fedseg.deploy.enrolment import (
    Answer,
    NodeIdentity,
    Request,
    make_request,
    parse_request,
    read_answer,
    require_same_fingerprint,
)
from fedseg.deploy.processes import Supervisor
from fedseg.deploy.settings import NodeDeployment
from fedseg.deploy.users import caller
from fedseg.errors import EnrolmentError
from fedseg.node.home import NodeHome
from fedseg.node.witnessing import SERVER_FILE

_KEY = "node.key"
_NEXT_KEY = "next.key"


def request(deployment: NodeDeployment, *, now: datetime) -> Request:
    """Write a new request to join, in place of an earlier one; with the node's next key, if one waits for its answer.

    Raises:
        KeyFileError: If a key cannot be read.
    """
    following = deployment.network / _NEXT_KEY
    identity = NodeIdentity(
        unit=deployment.terms.unit,
        unit_key=NodeHome.open(deployment.home).key,
        node_key=read_small(following if following.exists() else deployment.network / _KEY),
        server=deployment.terms.server,
    )
    made = make_request(identity, now=now)
    replace(deployment.request, made.to_bytes(), caller(), 0o644)
    return made


def renew(deployment: NodeDeployment, *, now: datetime) -> Request:
    """Make a new key for the node, and a request to go on with it; the node uses the old one until it has the answer.

    Raises:
        KeyFileError: As `request`.
    """
    pair, network = new_node_key(deployment.terms.unit), deployment.network_account
    replace(deployment.network / _NEXT_KEY, pair.private, network)
    return request(deployment, now=now)


def known_server(deployment: NodeDeployment) -> str | None:
    """The fingerprint of the server that this node has joined; None before."""
    return None if (answer := _last_answer(deployment)) is None else answer.fingerprint


def read(deployment: NodeDeployment, data: bytes) -> Answer:
    """The server's answer to this node's last request.

    Raises:
        EnrolmentError: If there was no request, or this is no answer to it.
        CertificateError: If it brings no authority's certificate.
    """
    try:
        asked = parse_request(deployment.request.read_bytes())
    except FileNotFoundError as error:
        raise EnrolmentError(
            "this node has made no request that could be answered",
            why=f"{deployment.request} is not there",
            fix=f"fedseg node request {deployment.path}",
        ) from error
    return read_answer(data, asked)


def join(deployment: NodeDeployment, data: bytes, *, fingerprint: str) -> Answer:
    """Take the server's answer in: its authority, and the key that the request was made with.

    A node that runs takes up a new key at once: its network process alone is started again.

    Args:
        deployment: The node.
        data: The answer.
        fingerprint: Of the server, as its operator has read it out, or as the node knows it from before.

    Raises:
        EnrolmentError: If it is no answer to this node's request, the fingerprint is another one, or the authority is
            another than the one with which the node was made.
        CertificateError: As `read`.
    """
    answer = read(deployment, data)
    require_same_fingerprint(fingerprint, answer.fingerprint, whose="the server")
    authority, network = answer.ca.encode("ascii"), deployment.network_account
    if known_server(deployment) is None and deployment.authority.exists():
        _require_same_authority(deployment, authority)
    replace(deployment.authority, authority, network, 0o644)
    replace(deployment.answer, answer.to_bytes(), caller(), 0o644)
    tell_unit(deployment)
    _take_up_next_key(deployment)
    return answer


def tell_unit(deployment: NodeDeployment) -> None:
    """Leave the key of the server's log in the unit's home, which witnesses it; nothing before the node has joined."""
    answer = _last_answer(deployment)
    if answer is not None:
        key = f"{answer.server_key}\n".encode("ascii")
        replace(deployment.home / SERVER_FILE, key, deployment.data_account)


def require_joined(deployment: NodeDeployment) -> None:
    """Check that the node knows an authority that vouches for its server.

    Raises:
        EnrolmentError: If it does not.
    """
    if not deployment.authority.exists():
        raise EnrolmentError(
            f"this node has not joined {deployment.terms.server}",
            why="it has no answer of the server's, so it could not tell the right server from a wrong one",
            fix=f"fedseg node check {deployment.path} --answer FILE; without one, first: "
            f"fedseg node request {deployment.path}",
        )


def _require_same_authority(deployment: NodeDeployment, authority: bytes) -> None:
    if read_small(deployment.authority).strip() != authority.strip():
        raise EnrolmentError(
            "the answer brings another authority than the ca.crt with which this node was made",
            why="one of the two is not that of the server",
            fix="ask the server's operator which; a node without --ca takes the one of the answer",
        )


def _take_up_next_key(deployment: NodeDeployment) -> None:
    following = deployment.network / _NEXT_KEY
    if not following.exists():
        return
    public = f"{public_node_key(read_small(following))} {deployment.terms.unit}\n"
    replace(deployment.public_key, public.encode("ascii"), caller(), 0o644)
    following.replace(deployment.network / _KEY)
    Supervisor(deployment.supervisor, deployment.logs).signal("network", "TERM")  # which is started again at once


def _last_answer(deployment: NodeDeployment) -> Answer | None:
    try:
        return Answer.model_validate_json(deployment.answer.read_bytes())
    except FileNotFoundError:
        return None
