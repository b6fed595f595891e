"""A connection that nobody has used for a while is given up by the client, never by the server.

The other way round, a request that leaves while the server closes is lost: with reply slots of five seconds, a server
that closed after five seconds lost a unit's reply now and then, and the unit was asked again only much later.
"""

import httpx

from fedseg.federation.flower.sockets import IDLE_SECONDS, web_server

PROXY_SECONDS = 60
"""How long nginx keeps an idle connection to the link, unless it is told otherwise."""


def test_a_server_keeps_idle_connections_for_longer_than_its_clients() -> None:
    of_ours = httpx.Limits().keepalive_expiry
    assert of_ours is not None
    assert web_server(None).config.timeout_keep_alive == IDLE_SECONDS > max(of_ours, PROXY_SECONDS)
