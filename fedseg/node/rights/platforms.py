"""The privacy platforms that may hand requests to a unit: a file in LOCAL with the hash of each one's token."""

import hashlib
import hmac
import secrets
import tomllib
from typing import Annotated, Final

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fedseg.errors import SettingsError, StorageError
from fedseg.node.home import LOCAL, NodeHome
from fedseg.node.rights.opendsr import IdentityType
from fedseg.node.rights.post import origin_of
from fedseg.private_file import replacing

PLATFORMS_FILE: Final = "platforms.toml"
TOKEN_BYTES: Final = 32
"""Random: guessing is hopeless, so the hash of a token needs no salt and no slowness."""


class Platform(BaseModel):
    """What the unit keeps of one platform."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    token_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    identity_type: IdentityType
    """OpenDSR's name of the identity whose values stand in the unit's source."""
    callback_origin: Annotated[str, Field(pattern=r"^https://[^/?#@]+:[0-9]{1,5}$")] | None = None
    """`https://HOST:PORT` of the addresses at which it may be told where its requests stand; nowhere if None."""


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_PLATFORMS: Final = TypeAdapter(dict[Name, Platform])


def load_platforms(home: NodeHome) -> dict[str, Platform]:
    """All platforms by their name; none if there is no such file.

    Raises:
        SettingsError: If the file is not one that `admit` writes.
        StorageError: If it cannot be read.
    """
    path = home.path / LOCAL / PLATFORMS_FILE
    try:
        return _PLATFORMS.validate_python(tomllib.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read", why=error.strerror or "unknown cause", fix="check who may read it"
        ) from error
    except ValueError as error:
        raise _unusable(f"{path} does not follow its schema") from error


def admit(home: NodeHome, name: str, identity_type: str, callbacks: str | None = None) -> str:
    """Let a platform hand in requests; one that may already gets another token.

    Args:
        home: The unit.
        name: The unit's name for it.
        identity_type: OpenDSR's name of the identity whose values stand in the unit's source.
        callbacks: `https://HOST[:PORT]` at which it may be told where its requests stand; nowhere if None.

    Returns:
        The new token, which is kept nowhere.

    Raises:
        SettingsError: If the name or the type cannot be one, or the file is damaged.
        StorageError: If it cannot be written.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
    new = {"token_sha256": _hash(token), "identity_type": identity_type}
    if callbacks is not None:
        new["callback_origin"] = origin_of(callbacks) or callbacks
    known = {one: platform.model_dump(exclude_none=True) for one, platform in load_platforms(home).items()}
    try:
        platforms = _PLATFORMS.validate_python({**known, name: new})
    except ValidationError as error:
        raise _unusable(f"{name}, {identity_type}: a name is of a-z, 0-9 and -, a type of a-z, 0-9 and _") from error
    _write(home, _PLATFORMS.dump_python(platforms, exclude_none=True))
    return token


def may_call(platform: Platform, url: str) -> bool:
    """Whether a platform may be told something at this address."""
    return platform.callback_origin is not None and origin_of(url) == platform.callback_origin


def holder_of(platforms: dict[str, Platform], token: str) -> str | None:
    """Whose token this is; takes as long for a wrong one as for a right one."""
    hashed, found = _hash(token), None
    for name, platform in platforms.items():
        if hmac.compare_digest(hashed, platform.token_sha256):
            found = name
    return found


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _write(home: NodeHome, platforms: dict[str, dict[str, str]]) -> None:
    path = home.path / LOCAL / PLATFORMS_FILE
    try:
        with replacing(path, home.hand_over) as file:
            file.write(tomli_w.dumps(platforms).encode())
    except OSError as error:
        raise StorageError(
            f"{path} was not written", why=error.strerror or "unknown cause", fix="free space, or check who may write"
        ) from error


def _unusable(why: str) -> SettingsError:
    return SettingsError("the list of platforms cannot be used", why=why, fix="fedseg subject platform --help")
