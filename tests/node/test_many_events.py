"""A million events, from every kind of source: the same bits."""

from pathlib import Path

import pytest

from fedseg.node.home import NodeHome
from tests.postgres_server import running_server
from tests.shop_events import everywhere, rows, shop


@pytest.mark.slow
def test_a_million_events_give_the_same_bits(bare_unit: NodeHome, tmp_path: Path) -> None:
    with running_server() as server:
        homes = everywhere(bare_unit, tmp_path, server, shop(1_000_000, 60_000))
        expected = rows(homes["csv"])
        for kind, home in homes.items():
            assert rows(home) == expected, kind
