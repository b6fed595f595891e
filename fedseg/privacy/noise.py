"""Exact discrete Gaussian noise from the system's randomness. The only module that touches random bits for noise.

Integers only: no float is ever computed, so no float's gaps can tell two tables apart (Mironov, "On Significance of the
Least Significant Bits for Differential Privacy", CCS 2012). Random bytes live as long as the call that asked for them.
"""

import abc
import hashlib
import os
from typing import ClassVar, Final, Never, Self, SupportsIndex, final

import numpy as np
from numpy.typing import NDArray

from fedseg.privacy.mechanism import DiscreteGaussian

_WORD_MAX: Final = 2**64 - 1
_TRIALS_LIMIT: Final = 2**14
_LAPS_LIMIT: Final = 2**7
_CHUNK: Final = 2**16
"""Draws worked on at once: the arrays stay in the processor's cache, and work memory does not grow with the count."""

_MINT: Final = object()


class NoiseSource(abc.ABC):
    """Where random bytes for noise come from."""

    label: ClassVar[str]
    """Stamped on everything drawn from this source, up to the ledger entry."""

    @abc.abstractmethod
    def random_bytes(self, n: int) -> bytes:
        """`n` independent uniform bytes, never given out before."""


@final
class SystemNoise(NoiseSource):
    """The operating system's cryptographic generator. Keeps no state, so a forked process cannot repeat it."""

    label: ClassVar[str] = "system"

    def random_bytes(self, n: int) -> bytes:
        """`n` bytes from `os.urandom`."""
        return os.urandom(n)


@final
class SimulatedNoise(NoiseSource):
    """The same bytes again for the same seed: for simulations and tests. NEVER PRIVATE.

    Whoever knows the seed subtracts the noise. Everything this source touches carries its label, and a verifier calls
    a release with that label "not a DP release".
    """

    label: ClassVar[str] = "simulated"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._calls = 0

    def random_bytes(self, n: int) -> bytes:
        """The first `n` bytes of SHAKE-256 over the seed and the number of this call."""
        self._calls += 1
        return hashlib.shake_256(f"fedseg simulated noise, seed {self._seed}, call {self._calls}".encode()).digest(n)


@final
class Noise:
    """A noise vector that is drawn before the data is opened and used once.

    No array form, no copy, no pickle, no values in its `repr`, and nothing to take in a forked child: the same noise
    on two statistics would let their difference out without noise.
    """

    __slots__ = ("_held", "_process", "count", "mechanism", "source_label")

    mechanism: DiscreteGaussian
    """What the values were drawn from."""
    count: int
    """Length of the vector."""
    source_label: str
    """`NoiseSource.label` of where the random bits came from."""

    def __init__(self, mint: object, mechanism: DiscreteGaussian, values: NDArray[np.int64], source_label: str) -> None:
        if mint is not _MINT:
            raise TypeError("noise comes from Noise.draw alone")
        self.mechanism = mechanism
        self.count = values.size
        self.source_label = source_label
        self._process = os.getpid()
        self._held = [values]

    @classmethod
    def draw(cls, mechanism: DiscreteGaussian, count: int, source: NoiseSource) -> Self:
        """`count` independent values of `mechanism`; errors as `discrete_gaussian`."""
        return cls(_MINT, mechanism, discrete_gaussian(mechanism.sigma, count, source), source.label)

    def take(self) -> NDArray[np.int64]:
        """The values, shape (count,), once: nothing of them stays here.

        Raises:
            RuntimeError: If they were taken already, or in another process than the one that drew them.
        """
        if os.getpid() != self._process:
            raise RuntimeError("noise cannot be taken in another process than the one that drew it; draw anew")
        try:
            # list.pop is one step even between threads, so two of them never get the same noise.
            return self._held.pop()
        except IndexError:
            raise RuntimeError("this noise was taken before; noise is used once, draw anew") from None

    def __repr__(self) -> str:
        return "<Noise: values withheld>"

    def __array__(self, *_args: object, **_options: object) -> Never:
        # NumPy's arithmetic comes through here as well.
        raise TypeError("noise has no array form; release() takes it")

    def __reduce_ex__(self, _protocol: SupportsIndex) -> Never:
        # copy.copy and copy.deepcopy come through here as well.
        raise TypeError("noise is used once: it cannot be copied or pickled")

    def __init_subclass__(cls) -> Never:
        raise TypeError("Noise has no subclasses")


def discrete_gaussian(sigma: int, count: int, source: NoiseSource) -> NDArray[np.int64]:
    """`count` independent integers with P(z) proportional to exp(-z^2 / (2 sigma^2)), exactly.

    Rejection from the discrete Laplace distribution of scale t = sigma: y comes with probability proportional to
    exp(-|y| / sigma) and stays with probability exp(-(|y| - sigma)^2 / (2 sigma^2)); the product is proportional to
    exp(-y^2 / (2 sigma^2)). Any t gives the right distribution; this one keeps every denominator an integer.

    *No overflow, for sigma < 2^24.* A Laplace proposal is u + sigma v with u < sigma and v < 2^7 laps, so it is below
    2^31, its distance to sigma also, and the squared distance below 2^62. 2 sigma^2 < 2^49 is the largest denominator d
    of a trial exp(-n/d), and its k-th step divides by d k < 2^49 2^14 = 2^63. The next lap, of probability e^-128, and
    the next step, of probability below 1 / (2^14 - 1)!, raise instead of going on. Hence a returned value is below
    2^7 sigma, from which the unlimited distribution differs by less than 2^-11000 in total variation: nothing that a
    delta of 2^-64 can see.

    Time depends on the noise alone, never on data.

    Args:
        sigma: In [1, SIGMA_LIMIT).
        count: Length of the result; at least 0.
        source: Asked for every random byte; none is kept or used twice.

    Raises:
        ValueError, TypeError: If `sigma` or `count` is out of range or no integer.
        RuntimeError: If the source gives another number of bytes than it was asked for.
        OverflowError: In place of leaving the proved range.

    Reference: Canonne, Kamath, Steinke 2020, arXiv 2004.00010, Algorithms 1 to 3.
    """
    scale = DiscreteGaussian(sigma).sigma  # refuses a sigma outside the proved range
    values = np.empty(count, np.int64)
    for start in range(0, count, _CHUNK):
        part = values[start : start + _CHUNK]
        pending = np.arange(part.size)
        while pending.size:
            proposal = _discrete_laplace(scale, pending.size, source)
            distance = np.abs(proposal) - scale
            kept = _bernoulli_exp((distance * distance).astype(np.uint64), 2 * scale**2, source)
            part[pending[kept]] = proposal[kept]
            pending = pending[~kept]
    return values


def _discrete_laplace(scale: int, count: int, source: NoiseSource) -> NDArray[np.int64]:
    """`count` integers with P(y) proportional to exp(-|y| / scale); |y| < scale `_LAPS_LIMIT`. CKS, Algorithm 2."""
    values = np.empty(count, np.int64)
    pending = np.arange(count)
    while pending.size:
        remainder = _uniform_below(scale, pending.size, source)
        kept = np.flatnonzero(_bernoulli_exp_fraction(remainder, scale, source))
        magnitude = (remainder[kept] + np.uint64(scale) * _laps(kept.size, source)).astype(np.int64)
        negative = (np.frombuffer(_exactly(kept.size, source), np.uint8) & 1).astype(np.bool_)
        single_zero = ~(negative & (magnitude == 0))
        kept, magnitude, negative = kept[single_zero], magnitude[single_zero], negative[single_zero]
        values[pending[kept]] = np.where(negative, -magnitude, magnitude)
        pending = np.delete(pending, kept)
    return values


def _laps(count: int, source: NoiseSource) -> NDArray[np.uint64]:
    """`count` integers with P(v) proportional to exp(-v): the successes of exp(-1) before its first failure."""
    laps = np.zeros(count, np.uint64)
    running = np.arange(count)
    for _ in range(_LAPS_LIMIT):
        running = running[_bernoulli_exp_fraction(np.ones(running.size, np.uint64), 1, source)]
        if not running.size:
            return laps
        laps[running] += np.uint64(1)
    raise OverflowError("the noise left the range in which it is proved exact; nothing was drawn")


def _bernoulli_exp(numerator: NDArray[np.uint64], denominator: int, source: NoiseSource) -> NDArray[np.bool_]:
    """True with probability exp(-numerator / denominator), for each numerator. CKS, Algorithm 1.

    One trial of exp(-1) for every whole unit, all of which must succeed, then one of the remaining fraction.
    """
    units, remainder = np.divmod(numerator, np.uint64(denominator))
    alive = np.arange(numerator.size)
    done = 0
    while (waiting := units[alive] > done).any():
        survived = np.ones(alive.size, np.bool_)
        survived[waiting] = _bernoulli_exp_fraction(np.ones(int(waiting.sum()), np.uint64), 1, source)
        alive = alive[survived]
        done += 1
    result = np.zeros(numerator.size, np.bool_)
    result[alive] = _bernoulli_exp_fraction(remainder[alive], denominator, source)
    return result


def _bernoulli_exp_fraction(numerator: NDArray[np.uint64], denominator: int, source: NoiseSource) -> NDArray[np.bool_]:
    """True with probability exp(-x), x = numerator / denominator in [0, 1], for each numerator. CKS, Algorithm 1.

    Step k succeeds with probability x / k; the first failure comes at an odd k with probability
    sum over odd k of (x^(k-1) / (k-1)! - x^k / k!) = exp(-x).
    """
    failed_odd = np.empty(numerator.size, np.bool_)
    running = np.arange(numerator.size)
    for step in range(1, _TRIALS_LIMIT):
        succeeded = _bernoulli(numerator[running], denominator * step, source)
        failed_odd[running[~succeeded]] = step % 2 == 1
        running = running[succeeded]
        if not running.size:
            return failed_odd
    raise OverflowError("the noise left the range in which it is proved exact; nothing was drawn")


def _bernoulli(numerator: NDArray[np.uint64], denominator: int, source: NoiseSource) -> NDArray[np.bool_]:
    """True with probability numerator / denominator, for each numerator; numerator <= denominator < 2^63."""
    return _uniform_below(denominator, numerator.size, source) < numerator


def _uniform_below(bound: int, count: int, source: NoiseSource) -> NDArray[np.uint64]:
    """`count` integers uniform on [0, bound), 1 <= bound < 2^63.

    A word below bound * width, width = floor((2^64 - 1) / bound), is divided by width; any other word is drawn again.
    """
    width = _WORD_MAX // bound
    words = _words(count, source)
    while (refused := np.flatnonzero(words >= np.uint64(bound * width))).size:
        words[refused] = _words(refused.size, source)
    return words // np.uint64(width)


def _words(count: int, source: NoiseSource) -> NDArray[np.uint64]:
    """`count` uniform 64-bit words, the same on every platform for the same bytes."""
    return np.frombuffer(_exactly(8 * count, source), "<u8").astype(np.uint64)


def _exactly(n: int, source: NoiseSource) -> bytes:
    """`n` bytes of the source, or an error: noise from a source that has run dry is no noise."""
    data = source.random_bytes(n)
    if len(data) != n:
        raise RuntimeError(f"the noise source gave {len(data)} of {n} bytes; nothing was drawn")
    return data
