"""The small parts of a policy's form: exact fractions, names, lists without repeats. A closed form, strict. Pure."""

import re
from fractions import Fraction
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from fedseg.ledger.keys import PublicKey
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.ledger.witness_policy import COSIGNATURES

_FRACTION: Final = re.compile(r"([1-9][0-9]{0,17})/([1-9][0-9]{0,17})")
_ITEM = TypeVar("_ITEM")


class Part(BaseModel):
    """A mapping with the keys it names and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _fraction(value: object) -> Fraction:
    match = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a positive fraction in quotes, such as "1/8"')
    fraction = Fraction(int(match[1]), int(match[2]))
    if value != fraction_text(fraction):
        raise ValueError(f'must be in lowest terms: "{fraction_text(fraction)}"')
    return fraction


def fraction_text(value: Fraction) -> str:
    """The fraction as a policy writes it.

    >>> fraction_text(Fraction(1, 8))
    '1/8'
    """
    return f"{value.numerator}/{value.denominator}"


def each_once(values: tuple[_ITEM, ...]) -> tuple[_ITEM, ...]:
    """The list, if it names nothing twice."""
    if len(set(values)) < len(values):
        raise ValueError("names something twice")
    return values


def _public_key(text: str) -> str:
    PublicKey.from_text(text)
    return text


def _witness_key(text: str) -> str:
    if VerifierKey.from_text(text).type not in COSIGNATURES:
        raise ValueError("must be a witness's key, as fedseg witness show prints it")
    return text


FractionText = Annotated[
    Fraction,
    BeforeValidator(_fraction),
    PlainSerializer(fraction_text),
    WithJsonSchema({"type": "string", "pattern": f"^{_FRACTION.pattern}$"}),
]
"""A positive fraction in lowest terms, written `"num/den"`: YAML has no exact way to write 1/3, or 0.1."""

Days = Annotated[int, Field(ge=1, le=36_500)]
ColumnName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
PublicKeyText = Annotated[str, AfterValidator(_public_key)]
"""An Ed25519 public key in base64, as `fedseg key new` prints it."""
WitnessKeyText = Annotated[str, AfterValidator(_witness_key)]
"""A witness's verifier key, `name+id+key`, as `fedseg witness show` prints it."""
