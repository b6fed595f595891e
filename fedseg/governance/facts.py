"""`UnitFacts`: all that a unit's paperwork is filled in from. Pure; holds no row and no count of customers."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final, NamedTuple

from fedseg.plan import Plan
from fedseg.policy.document import Policy
from fedseg.policy.explain import Section, explain
from fedseg.policy.purpose_rule import Way
from fedseg.policy.purposes import Purpose
from fedseg.privacy.budget import epsilon_of, fraction_text, shown_epsilon

GROUNDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "eu-gdpr:A6-1-a": "consent (Article 6(1)(a) GDPR)",
        "dpv:Consent": "consent",
        "eu-gdpr:A6-1-f": "legitimate interests (Article 6(1)(f) GDPR)",
        "us-ca:notice-and-opt-out": "notice and the right to opt out (California Consumer Privacy Act)",
    }
)
"""Legal bases in words."""


class PlainWords(NamedTuple):
    """What `fedseg policy explain` says, part by part."""

    purposes: Mapping[Purpose, Section]
    denied: Section
    spent: Section
    kept: Section
    recipients: Section
    uses: Section
    decides: Section


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """What policy, settings and ledger of a unit say."""

    unit: str
    policy: Policy
    source_file: str
    """File with the customers, as node.toml names it."""
    source_format: str
    subject_column: str
    """Column with the customer's identifier."""
    source_columns: Mapping[str, str]
    """Column in the source by feature name, where they differ."""
    register_in_database: bool
    """Whether a database holds the consent register."""
    rho_spent: Fraction
    """Sum of all charges in the ledger."""
    noise: frozenset[str]
    """Every source that noise was drawn from, as the ledger names it."""
    policy_in_ledger: bool
    """Whether this is the policy that the ledger last took up."""
    plan: Plan | None = None
    """An approved plan that customers are to be told about."""

    @property
    def epsilon_at_cap(self) -> str:
        """Epsilon at the policy's cap and delta, rounded up."""
        return self._epsilon(self.policy.budget.rho_cap)

    @property
    def epsilon_guaranteed(self) -> str:
        """The same, or at what was spent before the cap was lowered below it."""
        return self._epsilon(max(self.policy.budget.rho_cap, self.rho_spent))

    @property
    def delta(self) -> str:
        """The policy's delta."""
        return fraction_text(self.policy.budget.delta)

    @property
    def is_simulated(self) -> bool:
        """Whether some release drew its noise from a seed: then nothing is private."""
        return bool(self.noise - {"system"})

    @property
    def words(self) -> PlainWords:
        """The policy in plain words."""
        _, *rest = explain(self.policy, epsilon_at_cap=self.epsilon_at_cap)
        count = len(self.policy.purposes)
        purposes = dict(zip(self.policy.purposes, rest[:count], strict=True))
        return PlainWords(purposes, *rest[count:])

    @property
    def ways(self) -> tuple[Way, ...]:
        """Every way to be allowed, of all purposes."""
        return tuple(way for rule in self.policy.purposes.values() for way in rule.ways())

    @property
    def rests_on_interests(self) -> bool:
        """Whether legitimate interests are a basis."""
        return any(way.basis == "eu-gdpr:A6-1-f" for way in self.ways)

    def source_column(self, name: str) -> str:
        """The column in the source that holds a feature."""
        return self.source_columns.get(name, name)

    def _epsilon(self, rho: Fraction) -> str:
        return shown_epsilon(epsilon_of(rho, self.policy.budget.delta))


def in_words(section: Section) -> str:
    """What is done for a purpose, from its section's heading."""
    return section.title.removeprefix("Purpose: ")


def together(sentences: Iterable[str]) -> str:
    """Sentences, and lists between them, as one text.

    >>> together(["Counted is who:", "- agreed", "- was told.", "Nobody else."])
    'Counted is who: agreed; was told. Nobody else.'
    """
    parts = itertools.groupby(sentences, lambda one: one.startswith("- "))
    return " ".join(_list(part) if is_list else " ".join(part) for is_list, part in parts)


def _list(items: Iterable[str]) -> str:
    return "; ".join(one.removeprefix("- ").removesuffix(".") for one in items) + "."
