"""`Contribution`: a unit's reply as the server reads it, checked against the plan. The server cannot make a Release."""

import hashlib
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.lattice import StepTerms
from fedseg.errors import ContributionError
from fedseg.ledger.keys import PublicKey
from fedseg.plan import Plan
from fedseg.privacy.release import HEADER, MAGIC, NOISE_SOURCES, SIGNATURE_BYTES, SIGNATURE_CONTEXT, release_id

PLAUSIBLE_VALUE = 2**52
"""Larger magnitudes come from no honest unit of fewer than 2**31 customers; refusing them keeps sums within 64 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """One unit's noised vector for one step, with the signature checked."""

    plan_sha256: str
    unit: str
    step: int
    release_id: str
    request_sha256: str
    noise_source: str
    """Where the unit drew its noise from, as the unit signed it."""
    payload: bytes
    """The signed bytes as received; what the server logs."""
    values: NDArray[np.int64]
    """Shape (cells, width), in lattice steps."""


def parse_contribution(payload: bytes, plan: Plan) -> Contribution:
    """Read a unit's signed release.

    Raises:
        ContributionError: If anything at all is not as the plan says: length, header, unit, step, id, size of a value
            or signature. The unit is then absent this round; there is no best effort.
    """
    try:
        magic, found_id, plan_digest, request, index, step, cells, width, source = HEADER.unpack_from(payload)
    except struct.error as error:
        raise _refused("it is too short") from error
    if magic != MAGIC or plan_digest.hex() != plan.digest:
        raise _refused("it is not a release of this plan")
    if index >= len(plan.units) or step >= plan.rounds or source >= len(NOISE_SOURCES):
        raise _refused("it names a unit, a step or a noise source that there is not")
    unit = plan.units[index]
    values = _checked_values(payload, plan.terms[step], (cells, width))
    body, signature = payload[:-SIGNATURE_BYTES], payload[-SIGNATURE_BYTES:]
    if not PublicKey.from_text(unit.public_key).verify(signature, SIGNATURE_CONTEXT + hashlib.sha256(body).digest()):
        raise _refused("it is not signed by the unit it names")
    if found_id.hex() != release_id(plan.digest, unit.name, step, request.hex()):
        raise _refused("its release id does not follow from plan, unit, step and request")
    return Contribution(
        plan.digest, unit.name, step, found_id.hex(), request.hex(), NOISE_SOURCES[source], payload, values
    )


def payload_bytes(terms: StepTerms) -> int:
    """Length of every unit's reply in a step: it follows from the plan alone."""
    return HEADER.size + 8 * terms.length + SIGNATURE_BYTES


def _checked_values(payload: bytes, terms: StepTerms, shape: tuple[int, int]) -> NDArray[np.int64]:
    if shape != (terms.cells, terms.width) or len(payload) != payload_bytes(terms):
        raise _refused("it has another shape than the plan's step")
    values = np.frombuffer(payload, "<i8", terms.length, HEADER.size).astype(np.int64).reshape(shape)
    if (values > PLAUSIBLE_VALUE).any() or (values < -PLAUSIBLE_VALUE).any():
        raise _refused("a value is larger than any honest one")
    values.flags.writeable = False
    return values


def _refused(why: str) -> ContributionError:
    return ContributionError(
        "a reply could not be read as a release", why=why, fix="ask that unit again, then see its log"
    )
