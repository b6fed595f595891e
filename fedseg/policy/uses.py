"""Uses of segments that a policy may forbid, in words that cannot be stretched. A pure vocabulary.

Sources: GDPR Article 22 and recital 71, Regulation (EU) 2024/1689 (AI Act) Article 5 and Annex III. Not legal advice.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from fedseg.policy.purposes import Purpose


class Use(StrEnum):
    """What somebody might do with segments, or with what was learned on the way."""

    CREDIT_DECISIONS = "credit-decisions"
    INSURANCE_DECISIONS = "insurance-decisions"
    EMPLOYMENT_DECISIONS = "employment-decisions"
    ESSENTIAL_SERVICES = "essential-services"
    PRICE_DISCRIMINATION = "price-discrimination"
    POLITICAL_PERSUASION = "political-persuasion"
    SOCIAL_SCORING = "social-scoring"
    EXPLOITING_VULNERABILITY = "exploiting-vulnerability"
    LAW_ENFORCEMENT = "law-enforcement"
    SALE_OF_DATA = "sale-of-data"
    REIDENTIFICATION = "reidentification"
    INDIVIDUAL_PROFILING = "individual-profiling"
    DIRECT_MARKETING = "direct-marketing"

    @property
    def says(self) -> str:
        """The same in plain words."""
        return _SAYS[self]

    @property
    def excludes(self) -> tuple[Purpose, ...]:
        """The purposes that are this use: a policy that forbids it cannot name them. All else is an agreement."""
        return _EXCLUDES.get(self, ())


_SAYS: Final = MappingProxyType(
    {
        Use.CREDIT_DECISIONS: "deciding about credit, or a person's creditworthiness",
        Use.INSURANCE_DECISIONS: "deciding about insurance cover or its price",
        Use.EMPLOYMENT_DECISIONS: "deciding about jobs, promotion or dismissal",
        Use.ESSENTIAL_SERVICES: "deciding who gets housing, health care, energy or public benefits",
        Use.PRICE_DISCRIMINATION: "setting prices by person or segment",
        Use.POLITICAL_PERSUASION: "political advertising or canvassing",
        Use.SOCIAL_SCORING: "rating people by their conduct for unrelated treatment",
        Use.EXPLOITING_VULNERABILITY: "playing on age, illness, disability or hardship",
        Use.LAW_ENFORCEMENT: "investigating or predicting offences",
        Use.SALE_OF_DATA: "selling customers' data, or segments of single customers",
        Use.REIDENTIFICATION: "finding out who is behind a number",
        Use.INDIVIDUAL_PROFILING: "deciding which segment a single person is in",
        Use.DIRECT_MARKETING: "addressing people because of their segment",
    }
)
_EXCLUDES: Final = MappingProxyType(
    {
        Use.INDIVIDUAL_PROFILING: (Purpose.SEGMENT_ASSIGNMENT, Purpose.SEGMENT_ACTIVATION),
        Use.DIRECT_MARKETING: (Purpose.SEGMENT_ACTIVATION,),
    }
)
