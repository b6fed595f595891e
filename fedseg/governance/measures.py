"""What protects customers, as facts of program, policy and ledger; for record and impact assessment. Pure."""

from collections.abc import Iterator

from fedseg.governance.facts import UnitFacts, together
from fedseg.governance.statements import Statement, blank, fact

PROGRAM = "how fedseg works"
"""The source of what holds at every unit."""


def measures(facts: UnitFacts, place: str) -> Iterator[Statement]:
    """Technical and organisational measures, each with a title; and what only people can say about them."""
    yield from _noise(facts, place)
    yield fact(
        place,
        "Gate",
        "Before each round every customer is checked against policy and consent register. Whoever nothing is on record "
        "about is not counted, and whatever the policy does not name is denied.",
        PROGRAM,
    )
    yield from _minimisation(facts, place)
    yield fact(
        place,
        "Pseudonyms",
        "Customers' identifiers are replaced by keyed hashes (HMAC-SHA-256, 16 bytes) as they are read. The key stays "
        "at the unit. Register and ledger hold no identifier.",
        PROGRAM,
    )
    yield fact(
        place,
        "Ledger",
        "Every approval, release and refusal is an entry of a signed, append-only ledger (a Merkle tree), which "
        "anybody verifies offline with the unit's public key. It holds nothing about single customers.",
        PROGRAM,
    )
    decided = together(facts.words.decides.sentences)
    yield fact(
        place, "Approval", f"{decided} Nothing is released for a plan that is not approved.", "policy: approvals"
    )
    yield fact(
        place,
        "Rights",
        "Deadlines of requests are watched. Objection, restriction and erasure take effect before the next round; an "
        "erasure ends with a signed certificate that can be checked offline.",
        PROGRAM,
    )
    yield fact(
        place,
        "Transport",
        "A deployed node speaks to its server over TLS alone, and checks the certificate against the authority it was "
        "given. The process that has the data has no network.",
        PROGRAM,
    )
    yield fact(place, "Uses that are ruled out", together(facts.words.uses.sentences), "policy: forbidden_uses")
    yield blank(
        place, "Deployment", "whether the unit runs as a deployed node, on whose machine, under one user or two"
    )
    yield blank(place, "Encryption at rest", "whether disks and backups are encrypted, and who holds the keys")
    yield blank(place, "Access to machines and files", "who has access, and how it is given and taken away")
    yield blank(place, "Incidents", "who is told of a breach, and how it is handled")


def _noise(facts: UnitFacts, place: str) -> Iterator[Statement]:
    if facts.is_simulated:
        yield fact(
            place,
            "NOT PRIVATE",
            f"Releases of this unit drew their noise from {', '.join(sorted(facts.noise))}: a rehearsal, which "
            "protects nobody. The bound below does not hold for them.",
            "ledger: releases",
        )
    yield fact(
        place,
        "Differential privacy",
        "All that fedseg lets leave the unit are sums over customers with discrete Gaussian noise. "
        f"{together(facts.words.spent.sentences)}",
        "policy: budget, trust_models",
    )
    if facts.epsilon_guaranteed != facts.epsilon_at_cap:
        yield fact(
            place,
            "Spent before the cap was lowered",
            f"More than the cap has been spent: the bound that holds is epsilon {facts.epsilon_guaranteed} at delta "
            f"{facts.delta}.",
            "ledger: charges",
        )


def _minimisation(facts: UnitFacts, place: str) -> Iterator[Statement]:
    for purpose, rule in facts.policy.purposes.items():
        yield fact(
            place,
            f"Minimisation for {purpose.value}",
            f"A plan that reads other columns than {', '.join(rule.readable)} is refused. With fewer than "
            f"{rule.min_cohort:,} customers the unit approves no plan.",
            f"policy: purposes.{purpose.value}",
        )
