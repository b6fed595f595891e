"""`PurposeRule`: what a policy says about one purpose: who may be counted, what forbids it, and which columns. Pure."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from fedseg.policy.consent import MAX_NOTICE_VERSION, Jurisdiction, Veto
from fedseg.policy.form import ColumnName, Days, FractionText, Part, each_once

ConsentBasis = Literal["eu-gdpr:A6-1-a", "dpv:Consent"]
"""Consent under GDPR Article 6(1)(a), and consent under another law."""
NoticeBasis = Literal["eu-gdpr:A6-1-f", "us-ca:notice-and-opt-out"]
"""Legitimate interests under GDPR Article 6(1)(f), and the CCPA: who was told and has not said no."""
VetoName = Literal[
    "objection",
    "restriction",
    "suppressed",
    "opt_out_sale",
    "opt_out_share",
    "limit_sensitive",
    "minor",
    "minor_or_unknown_age",
]
JurisdictionName = Literal["loc:EEA", "loc:GB", "loc:CH", "loc:US-CA", "loc:US", "other"]

ALWAYS_VETO: Final = ("objection", "restriction", "suppressed")
_AGE_VETOES: Final = ("minor", "minor_or_unknown_age")
_VETOES: Final[Mapping[str, Veto]] = MappingProxyType(
    {
        "objection": Veto.OBJECTION,
        "restriction": Veto.RESTRICTION,
        "suppressed": Veto.SUPPRESSED,
        "opt_out_sale": Veto.OPT_OUT_SALE,
        "opt_out_share": Veto.OPT_OUT_SHARE,
        "limit_sensitive": Veto.LIMIT_SENSITIVE,
        "minor": Veto.MINOR,
        "minor_or_unknown_age": Veto.MINOR | Veto.AGE_UNKNOWN,
    }
)
_JURISDICTIONS: Final = MappingProxyType({one.text: one for one in Jurisdiction if one})
DEMANDED_ABSENT: Final[Mapping[NoticeBasis, tuple[VetoName, ...]]] = MappingProxyType(
    {"eu-gdpr:A6-1-f": ("objection",), "us-ca:notice-and-opt-out": ("opt_out_sale", "opt_out_share")}
)
"""What a customer who was told can say instead of no, and no policy may pass over."""

NoticeVersion = Annotated[int, Field(ge=0, le=MAX_NOTICE_VERSION)]
Jurisdictions = Annotated[tuple[JurisdictionName, ...], Field(min_length=1), AfterValidator(each_once)]
Vetoes = Annotated[tuple[VetoName, ...], AfterValidator(each_once)]


def vetoes_of(names: tuple[VetoName, ...]) -> Veto:
    """The flags that these names stand for."""
    combined = Veto(0)
    for name in names:
        combined |= _VETOES[name]
    return combined


def jurisdictions_of(names: tuple[JurisdictionName, ...]) -> tuple[Jurisdiction, ...]:
    """The jurisdictions that these names stand for."""
    return tuple(_JURISDICTIONS[name] for name in names)


class Requirement(Part):
    """The consent a customer must have given."""

    status: Annotated[tuple[Literal["given", "renewed"], ...], Field(min_length=1), AfterValidator(each_once)]
    """Accepted states of consent; `given` among them."""
    max_age_days: Days
    """A consent older than this no longer counts, even if it says that it runs longer."""
    notice_min_version: NoticeVersion
    """The oldest privacy notice whose readers knew what they agreed to."""

    @model_validator(mode="after")
    def _accepts_given(self) -> Self:
        if "given" not in self.status:
            raise ValueError("status must hold given; to ask everyone anew, raise notice_min_version")
        return self


class ByConsent(Part):
    """A way to be allowed: having said yes."""

    basis: ConsentBasis
    jurisdictions: Jurisdictions | None = None
    """Whose law the customer's data must be under; any, also an unknown one, if absent."""
    consent: Requirement


class ByNotice(Part):
    """A way to be allowed: having been told, and not having said no."""

    basis: NoticeBasis
    jurisdictions: Jurisdictions
    """Whose law the customer's data must be under; an unknown one is not enough."""
    notice_min_version: NoticeVersion
    """The oldest notice that told customers enough."""
    absent: Vetoes
    """What forbids counting a customer in this way."""

    @model_validator(mode="after")
    def _honours_what_its_law_asks_for(self) -> Self:
        missing = [name for name in DEMANDED_ABSENT[self.basis] if name not in self.absent]
        if missing:
            raise ValueError(f"absent must also hold {', '.join(missing)}: {self.basis} rests on it")
        if self.basis == "us-ca:notice-and-opt-out" and self.jurisdictions != ("loc:US-CA",):
            raise ValueError("jurisdictions must be [loc:US-CA]: this basis is Californian law")
        return self


Way: TypeAlias = ByConsent | ByNotice


class SpecialCategory(Part):
    """Columns about health, religion, politics and the like: GDPR Article 9, sensitive data of the CCPA."""

    columns: Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=1024), AfterValidator(each_once)]
    basis: Literal["eu-gdpr:A9-2-a"] | None = None
    """Explicit consent, which every customer must then have given for the purpose. Without it no plan may read them."""


class Columns(Part):
    """The columns that may be read, apart from those of special categories."""

    allow: Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=1024), AfterValidator(each_once)]


class PurposeRule(Part):
    """What holds for one purpose."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["basis", "require"], "properties": {"require_any": False}},
                {"required": ["require_any"], "properties": {"basis": False, "require": False}},
            ]
        }
    )

    broader: str
    """The DPV purpose this one falls under; must be the one that fedseg's vocabulary names."""
    basis: ConsentBasis | None = None
    """Where consent is the only way to be allowed: its basis, together with `require`."""
    require: Requirement | None = None
    require_any: (
        Annotated[tuple[Annotated[Way, Field(discriminator="basis")], ...], Field(min_length=1, max_length=16)] | None
    ) = None
    """Otherwise: the ways to be allowed. One is enough."""
    special_category: SpecialCategory | None = None
    veto: Vetoes
    """What forbids counting a customer in whatever way they are allowed."""
    columns: Columns
    min_cohort: Annotated[int, Field(ge=1, le=1_000_000_000)]
    """Fewer customers than this are never counted."""
    rho_cap: FractionText | None = None
    """Part of the customer's whole budget that this purpose may use; all of it if absent."""

    @model_validator(mode="after")
    def _says_who_may_be_counted_in_one_way(self) -> Self:
        alone = (self.basis is not None, self.require is not None)
        if alone != ((True, True) if self.require_any is None else (False, False)):
            raise ValueError("needs either basis and require, or require_any")
        return self

    @model_validator(mode="after")
    def _keeps_the_vetoes_nobody_may_drop(self) -> Self:
        needed = ALWAYS_VETO if self.explicit_basis is None else (*ALWAYS_VETO, "limit_sensitive")
        missing = [name for name in needed if name not in self.veto]
        if missing:
            raise ValueError(f"veto must also hold {', '.join(missing)}: no policy may ignore these")
        if not any(name in self.veto for name in _AGE_VETOES):
            raise ValueError(f"veto must also hold {' or '.join(_AGE_VETOES)}: a known minor is never counted")
        return self

    @model_validator(mode="after")
    def _keeps_special_categories_apart(self) -> Self:
        both = [name for name in self.special_columns if name in self.columns.allow]
        if both:
            raise ValueError(f"columns.allow and special_category both hold {', '.join(both)}")
        return self

    def ways(self) -> tuple[Way, ...]:
        """The ways to be allowed; one is enough."""
        if self.require_any is not None:
            return self.require_any
        assert self.basis is not None
        assert self.require is not None
        return (ByConsent(basis=self.basis, consent=self.require),)

    def vetoes(self) -> Veto:
        """The vetoes that forbid counting a customer; an unreadable event always does."""
        return Veto.UNREADABLE | vetoes_of(self.veto)

    @property
    def special_columns(self) -> tuple[str, ...]:
        """The columns of special categories, whether they may be read or not."""
        return () if self.special_category is None else self.special_category.columns

    @property
    def explicit_basis(self) -> str | None:
        """Why columns of special categories may be read; None if they may not."""
        return None if self.special_category is None else self.special_category.basis

    @property
    def readable(self) -> tuple[str, ...]:
        """Every column that a plan may read."""
        return self.columns.allow if self.explicit_basis is None else (*self.columns.allow, *self.special_columns)
