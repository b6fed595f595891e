"""A unit's home directory: its settings, keys, policy, register and ledger, and where its customers are.

HOME/node.toml            one screen of settings
HOME/policy.yaml          the policy in force
HOME/ledger.db            the unit's privacy ledger
HOME/LOCAL/               never leaves the unit: register.db, keys/, and whatever else holds personal data
"""

import fcntl
import functools
import hashlib
import os
import tempfile
import tomllib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedseg.errors import PolicyError, SettingsError, StorageError
from fedseg.ledger.canonical import canonical, sha256_hex
from fedseg.ledger.key_files import load_keys
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.store import Ledger
from fedseg.node.consent.place import RegisterSettings, create_register, open_register
from fedseg.node.consent.register import ConsentRegister
from fedseg.node.rights.register import RightsRegister
from fedseg.node.sources.settings import SourceSettings
from fedseg.privacy.entries import OfficerSignature
from fedseg.privacy.signatures import read_policy_signatures
from fedseg.private_file import write_new

LOCAL = "LOCAL"
RIGHTS_FILE = "rights.db"
_ROUNDS_LOCK = "rounds.lock"


class NodeSettings(BaseModel):
    """The content of node.toml."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1]
    unit: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    source: SourceSettings
    register_: Annotated[RegisterSettings | None, Field(alias="register")] = None


@dataclass(frozen=True)
class NodeHome:
    """A unit's home. Opening it reads the settings; keys, policy, register and ledger are opened when asked for."""

    path: Path
    settings: NodeSettings

    @classmethod
    def open(cls, path: Path) -> "NodeHome":
        """Open an existing home.

        Raises:
            SettingsError: If node.toml is missing or not what the schema says.
        """
        try:
            settings = NodeSettings.model_validate(tomllib.loads((path / "node.toml").read_text(encoding="utf-8")))
        except OSError as error:
            raise SettingsError(
                f"{path} is not the home of a unit",
                why=f"its node.toml cannot be read: {error.strerror}",
                fix="name the directory that holds node.toml",
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise SettingsError(
                "node.toml cannot be used", why=f"{place}: {first['msg']}", fix=f"correct {path / 'node.toml'}"
            ) from error
        except ValueError as error:
            raise SettingsError(
                "node.toml cannot be used", why=str(error), fix=f"correct {path / 'node.toml'}"
            ) from error
        return cls(path, settings)

    @classmethod
    def create(cls, path: Path, settings: NodeSettings, *, policy: bytes) -> "NodeHome":
        """Make a new home with fresh keys, an empty register and a new ledger.

        Raises:
            StorageError: If something stands there already, or the disk is full.
        """
        (path / LOCAL / "keys").mkdir(parents=True, mode=0o700)
        (path / LOCAL).chmod(0o700)
        written = tomli_w.dumps(settings.model_dump(by_alias=True, exclude_none=True))
        (path / "node.toml").write_text(written, encoding="utf-8")
        (path / "policy.yaml").write_bytes(policy)
        key = SigningKey.generate()
        made = cls(path, settings)
        key.save(made.key_file)
        SigningKey.generate().save(path / LOCAL / "keys" / "subjects.key")
        create_register(made.register_file, settings.register_, settings.unit)
        made.create_rights()
        Ledger.create(
            path / "ledger.db",
            origin=f"fedseg/unit/{settings.unit}",
            key=key,
            body={"role": "unit", "unit": settings.unit},
        ).close()
        return made

    @property
    def key_file(self) -> Path:
        """Where the unit's signing key is kept."""
        return self.path / LOCAL / "keys" / "unit.key"

    @functools.cached_property
    def key(self) -> SigningKey:
        """The unit's signing key: the one that is in force in its ledger."""
        keys = load_keys(self.key_file)
        if len(keys) == 1:
            return keys[0]
        with self._open_ledger(keys) as ledger:
            return next(key for key in keys if key.public == ledger.public_key)

    @functools.cached_property
    def subject_secret(self) -> bytes:
        """Secret under which customers' identifiers are hashed; known to this unit alone."""
        # Ed25519 signatures are deterministic and unpredictable without the key: a keyed hash, one kind of key file.
        return hashlib.sha256(
            SigningKey.load(self.path / LOCAL / "keys" / "subjects.key").sign(b"fedseg/subject-key/v1")
        ).digest()

    def policy_document(self) -> bytes:
        """The policy file's bytes.

        Raises:
            PolicyError: If there is none: no policy, no run.
        """
        try:
            return (self.path / "policy.yaml").read_bytes()
        except OSError as error:
            raise PolicyError(
                "this unit has no policy",
                why=f"{self.path / 'policy.yaml'}: {error.strerror}",
                fix="put a policy there; policies/minimal.yaml is a start",
            ) from error

    def policy_signatures(self) -> list[OfficerSignature]:
        """The officers' signatures beside the policy file; none if there is no such file.

        Raises:
            TrustError: If the file is not one that `fedseg policy sign` writes.
        """
        return read_policy_signatures(self.path / "policy.yaml")

    def keep_local(self, name: str, data: bytes) -> None:
        """Write a new file below LOCAL that only its owner can read.

        Raises:
            StorageError: If it cannot be written.
        """
        path = self.path / LOCAL / name
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_new(path, data)
            self.hand_over(path.parent, path)
        except OSError as error:
            raise StorageError(
                f"{path} was not written",
                why=error.strerror or "unknown cause",
                fix="free space, or check who may write",
            ) from error

    def nameless_file(self) -> BinaryIO:
        """A file below LOCAL without a name: it is gone when it is closed, also by a kill."""
        return tempfile.TemporaryFile(dir=self.path / LOCAL)

    def hand_over(self, *paths: Path) -> None:
        """Let files that root has made here belong to whoever the home belongs to, so that the unit's user may go on.

        Raises:
            OSError: If they cannot be given away.
        """
        if os.geteuid() == 0:
            owner = self.path.stat()
            for path in paths:
                os.chown(path, owner.st_uid, owner.st_gid)

    @property
    def source_sha256(self) -> str:
        """Hash of the source settings: which file or table, identifier, columns and expressions are read."""
        return sha256_hex(canonical(self.settings.source.facts()))

    @property
    def register_file(self) -> Path:
        """Where the consent register is, unless a database holds it."""
        return self.path / LOCAL / "register.db"

    def register(self) -> ConsentRegister:
        """The unit's consent register."""
        return open_register(self.register_file, self.settings.register_, self.settings.unit)

    def create_rights(self) -> None:
        """An empty register of rights requests, in a unit that has none: nobody was ever erased.

        Raises:
            StorageError: If there is one, or it cannot be written.
        """
        path = self.path / LOCAL / RIGHTS_FILE
        RightsRegister.create(path).close()
        self.hand_over(path)

    def rights(self) -> RightsRegister:
        """The unit's register of rights requests, and of everybody who must not be counted again."""
        return RightsRegister(self.path / LOCAL / RIGHTS_FILE)

    @contextmanager
    def counting(self) -> Generator[None]:
        """From the gate to the release of a round; any number at once.

        Raises:
            StorageError: If the lock's file cannot be made.
        """
        with self._rounds_locked(fcntl.LOCK_SH):
            yield

    def wait_for_rounds(self) -> None:
        """Until every round whose gate has been passed is released, or its process is gone.

        Who is kept from being counted before this is called stands in no release that is committed after it.

        Raises:
            StorageError: If the lock's file cannot be made.
        """
        with self._rounds_locked(fcntl.LOCK_EX):
            pass

    @contextmanager
    def _rounds_locked(self, how: int) -> Generator[None]:
        path = self.path / LOCAL / _ROUNDS_LOCK
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"{path} cannot be opened",
                why=error.strerror or "unknown cause",
                fix="free space, or check who may write",
            ) from error
        try:
            self.hand_over(path)
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def ledger(self) -> Ledger:
        """The unit's ledger."""
        return self._open_ledger([self.key])

    def _open_ledger(self, keys: Sequence[SigningKey]) -> Ledger:
        return Ledger.open(self.path / "ledger.db", *keys)
