"""The one door out: `release()` turns a `Sensitive` into a `Release`, with charge, log leaf and bytes in one commit.

Read this file and you have read how numbers leave a unit. Nothing else in fedseg builds a `Release` or adds noise.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from typing import Final, NoReturn, final

import numpy as np
from numpy.typing import NDArray

from fedseg.ledger.canonical import canonical, sha256_hex
from fedseg.ledger.keys import SigningKey
from fedseg.privacy.account import PrivacyAccount, require_caps
from fedseg.privacy.entries import ChargeFacts, ReleaseBody
from fedseg.privacy.noise import Noise
from fedseg.privacy.sensitive import Sensitive
from fedseg.privacy.witnessed import Cosigned, require_witnessed

NEIGHBOURING_RELATION: Final = "add-or-remove-one-customer"
"""The relation every charge refers to: two tables that differ by all the rows of one customer."""

SIGNATURE_CONTEXT = b"fedseg/release/v1\n"
MAGIC = b"fedseg-release-1"
HEADER = struct.Struct(">16s32s32s32sIIIII")
"""Magic, release id, plan hash, request hash, unit's place in the plan, step, cells, width, noise source."""
NOISE_SOURCES = ("system", "simulated")
"""Names of the noise sources, in the order of their numbers in a header."""
SIGNATURE_BYTES = 64


class _Token:
    """Only this module holds one, so only this module mints what leaves a unit."""


_TOKEN: Final = _Token()


@final
@dataclass(frozen=True, slots=True)
class Release:
    """A vector with its full noise, charged and logged: the one thing that may go on the wire."""

    release_id: str
    """sha256 over plan, unit, step and request, in hex."""
    payload: bytes
    """The signed bytes, exactly as they stand in the unit's ledger. Their number depends on the plan and step alone."""
    token: InitVar[_Token]

    def __post_init__(self, token: _Token) -> None:
        if token is not _TOKEN:
            raise TypeError("a Release is minted by release() only")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Release cannot be pickled or copied; ask release() again, it returns the stored bytes")


@final
@dataclass(frozen=True, slots=True, repr=False, eq=False)
class NoiseShare:
    """A vector with only this unit's share of the noise, for secure aggregation: not private by itself.

    It has no wire form at all: it may only be masked. Nothing mints one before secure aggregation exists, and until
    then units refuse plans that ask for it.
    """

    _values: NDArray[np.int64]
    token: InitVar[_Token]

    def __post_init__(self, token: _Token) -> None:
        if token is not _TOKEN:
            raise TypeError("a NoiseShare is minted by the masking protocol only")

    def __repr__(self) -> str:
        return "NoiseShare()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a NoiseShare leaves its unit masked only: it cannot be pickled or copied")


@dataclass(frozen=True, slots=True)
class ReleaseTicket:
    """What is released, for whom: everything about a release except the numbers."""

    plan_sha256: str
    unit: str
    """Name of the unit in the plan."""
    unit_index: int
    """Its place in the plan's list of units."""
    step: int
    request_sha256: str
    cells: int
    width: int
    lattice: Mapping[str, int]
    """Count weight and unit of the lattice, for the log."""
    policy_sha256: str
    """The policy the gate decided under."""
    gate_commitment: str
    """Salted commitment to the consent decisions behind this release."""
    software: str
    """Version of the code that ran."""
    day: str
    """Today, UTC."""

    @property
    def release_id(self) -> str:
        """H(plan, unit, step, request): the same request of the same step always has the same id."""
        return release_id(self.plan_sha256, self.unit, self.step, self.request_sha256)


def release_id(plan_sha256: str, unit: str, step: int, request_sha256: str) -> str:
    """sha256 in hex over the canonical JSON of plan, unit, step and request, computed at the unit."""
    return sha256_hex(canonical({"plan": plan_sha256, "request": request_sha256, "step": step, "unit": unit}))


def recall(account: PrivacyAccount, wanted: str) -> Release | None:
    """The release of this id if it was made before, byte for byte; costs nothing, adds nothing.

    The caller has seen that the approval was not revoked.
    """
    stored = account.journal.payload(f"release:{wanted}")
    return None if stored is None else Release(wanted, stored, _TOKEN)


def release(
    statistic: Sensitive,
    noise: Noise,
    account: PrivacyAccount,
    ticket: ReleaseTicket,
    key: SigningKey,
    *,
    cosigned: Cosigned | None = None,
) -> Release:
    """Charge `account` and return `statistic` with `noise` added; a known ticket returns the stored bytes.

    Charge, log leaf and signed bytes are committed together before anything is returned: a crash before the commit
    charges nothing, because nothing left; after it, asking again returns the same bytes.

    The charge is the mechanism's for the sensitivity the statistic carries: rho = Delta^2 / (2 sigma^2), zCDP under
    add-or-remove-one-customer (Bun and Steinke 2016; Canonne, Kamath and Steinke 2020, Theorem 14).

    Args:
        statistic: The exact sum, with its enforced L2 sensitivity.
        noise: A vector drawn before any row was read; used up by this call.
        account: The unit's account; its journal takes the transaction.
        ticket: Plan, step and request this answers.
        key: The unit's signing key.
        cosigned: What witnesses have cosigned of the unit's ledger, where its policy asks for witnesses.

    Raises:
        ValueError: If noise, statistic and ticket have different lengths: a programmer's mistake, nothing happened.
        NotApprovedError, StepAnsweredError, BudgetError: Nothing was charged and nothing was released.
        NotWitnessedError, RolledBackError: Nor here.
        StorageError: Nothing was charged and nothing was released.
    """
    if not statistic.length == noise.count == ticket.cells * ticket.width:
        raise ValueError("noise, statistic and ticket must have the same length")
    charge = noise.mechanism.charge(statistic.l2_sensitivity_squared)
    with account.journal.transaction() as transaction:
        state = account.state_in(transaction)
        state.require_day(ticket.day)
        state.require_step(ticket.plan_sha256, ticket.step, ticket.release_id, charge, ticket.day)
        stored = transaction.payload(f"release:{ticket.release_id}")
        if stored is None:
            require_witnessed(require_caps(state).witnesses, transaction.before, ticket.plan_sha256, cosigned)
            # This is the door: the one place that may look.
            exact = statistic._values  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
            stored = _signed(ticket, exact + noise.take(), noise.source_label, key)
            body = ReleaseBody(
                release_id=ticket.release_id,
                plan_sha256=ticket.plan_sha256,
                unit=ticket.unit,
                step=ticket.step,
                request_sha256=ticket.request_sha256,
                cells=ticket.cells,
                width=ticket.width,
                lattice=dict(ticket.lattice),
                charge=ChargeFacts(rho=charge.rho, delta=charge.delta, formula=charge.formula),
                mechanism={
                    "sigma": noise.mechanism.sigma,
                    "l2_sensitivity_squared": statistic.l2_sensitivity_squared,
                },
                rho_spent_after=state.rho_spent + charge.rho,
                neighbouring_relation=NEIGHBOURING_RELATION,
                noise_source=noise.source_label,
                policy_sha256=ticket.policy_sha256,
                gate_commitment=ticket.gate_commitment,
                released_on=ticket.day,
                software=ticket.software,
            )
            transaction.append(body.kind, body.facts(), payload=(f"release:{ticket.release_id}", stored))
    return Release(ticket.release_id, stored, _TOKEN)


def _signed(ticket: ReleaseTicket, values: NDArray[np.int64], source_label: str, key: SigningKey) -> bytes:
    """Header, values as little-endian int64, Ed25519 signature over both."""
    header = HEADER.pack(
        MAGIC,
        bytes.fromhex(ticket.release_id),
        bytes.fromhex(ticket.plan_sha256),
        bytes.fromhex(ticket.request_sha256),
        ticket.unit_index,
        ticket.step,
        ticket.cells,
        ticket.width,
        NOISE_SOURCES.index(source_label),
    )
    body = header + values.astype("<i8").tobytes()
    return body + key.sign(SIGNATURE_CONTEXT + hashlib.sha256(body).digest())
