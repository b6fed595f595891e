"""Who is trusted with what, as the table says it."""

import enum


class Trust(enum.StrEnum):
    """Where noise is added; in the words of a plan."""

    UNIT_NOISE = "unit-noise"
    """Every unit adds the full noise to its sums: nobody else is trusted."""
    SECURE_AGGREGATION = "secure-aggregation"
    """Only the sum over all units is ever seen, with one noise. Simulated here: no masks are exchanged."""
    CENTRAL = "central"
    """One place holds all customers' rows and adds noise to what it publishes."""
    NONE = "none"
    """No privacy."""
