"""Flower's inside, in one place: every name that Flower does not promise to keep is imported here and nowhere else.

Flower's own programs open a TCP port for each interface and run the code that the server sends. These modules make the
same servers and clients listen on and speak over Unix sockets, so that who may reach them is a file's permission, and
hand out tasks without unpacking the bundle that comes with them. Another Flower version is refused at import.

`sockets`   what both sides share: sockets, clients, heartbeats, the log
`services`  a link and a node, served
`tasks`     the messages for a unit, taken from a node
`link`      the server's side of a link: nodes, runs, and the grid of a run
`bundle`    the stub that stands in for an app
`messages`  messages outside a run, and how large they get
"""

import flwr

FLOWER = "1.41."
if not flwr.__version__.startswith(FLOWER):
    raise ImportError(f"fedseg works with Flower {FLOWER}*, and this is {flwr.__version__}: install flwr=={FLOWER}*")
