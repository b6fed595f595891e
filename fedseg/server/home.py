"""The coordinator's home: its key and its ledger of plans, contributions and publications."""

import functools
from dataclasses import dataclass
from pathlib import Path

from fedseg.errors import SettingsError
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.store import Ledger
from fedseg.server.roster import Roster


@dataclass(frozen=True)
class ServerHome:
    """HOME/ledger.db and HOME/keys/server.key; HOME/roster.db where nodes connect."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> "ServerHome":
        """Make a new home with a fresh key and a new ledger."""
        (path / "keys").mkdir(parents=True, mode=0o700)
        key = SigningKey.generate()
        key.save(path / "keys" / "server.key")
        Ledger.create(path / "ledger.db", origin="fedseg/server", key=key, body={"role": "server"}).close()
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "ServerHome":
        """Open an existing home.

        Raises:
            SettingsError: If there is no ledger.
        """
        if not (path / "ledger.db").exists():
            raise SettingsError(
                f"{path} is not the home of a server",
                why="it holds no ledger.db",
                fix="name the directory that holds the server's ledger.db",
            )
        return cls(path)

    @functools.cached_property
    def key(self) -> SigningKey:
        """The server's signing key."""
        return SigningKey.load(self.path / "keys" / "server.key")

    @property
    def roster_file(self) -> Path:
        """Where the roster's log is, at a server that nodes connect to."""
        return self.path / "roster.db"

    def roster(self) -> Roster:
        """The roster of the units that belong.

        Raises:
            LedgerUnreadableError, VerificationError: If there is none, or it was changed.
        """
        return Roster.open(self.roster_file, self.key)

    def ledger(self) -> Ledger:
        """The server's ledger."""
        return Ledger.open(self.path / "ledger.db", self.key)
