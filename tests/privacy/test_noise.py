"""Noise is exact, fresh, used once, and fails rather than going on with too little randomness."""

import copy
import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import chain, combinations, repeat
from typing import ClassVar

import numpy as np
import pytest

from fedseg.privacy import noise as noise_module
from fedseg.privacy.mechanism import SIGMA_LIMIT, DiscreteGaussian
from fedseg.privacy.noise import Noise, NoiseSource, SimulatedNoise, SystemNoise, discrete_gaussian

MECHANISM = DiscreteGaussian(2**20)


class ScriptedNoise(NoiseSource):
    """Words from a script, as fractions of 2^64, then the last of them for ever."""

    label: ClassVar[str] = "scripted"

    def __init__(self, *words: Fraction) -> None:
        self._words = chain(words, repeat(words[-1]))

    def random_bytes(self, n: int) -> bytes:
        return b"".join(int(next(self._words) * 2**64).to_bytes(8, "little") for _ in range(-(-n // 8)))[:n]


class CountedNoise(NoiseSource):
    """System noise that runs dry after `limit` bytes, or gives `surplus` bytes too many."""

    label: ClassVar[str] = "counted"

    def __init__(self, limit: int, surplus: int = 0) -> None:
        self.left = limit
        self.surplus = surplus

    def random_bytes(self, n: int) -> bytes:
        given = min(n, self.left)
        self.left -= given
        return SystemNoise().random_bytes(given + self.surplus)


def test_the_proved_bounds_are_the_bounds_in_force() -> None:
    assert (noise_module._LAPS_LIMIT, noise_module._TRIALS_LIMIT) == (2**7, 2**14)
    sigma, laps, steps = SIGMA_LIMIT - 1, noise_module._LAPS_LIMIT - 1, noise_module._TRIALS_LIMIT - 1
    furthest = (sigma - 1) + sigma * laps
    assert furthest < 2**31
    assert (furthest - sigma) ** 2 < 2**62
    assert 2 * sigma**2 * steps < 2**63


@pytest.mark.parametrize("sigma", [0, -1, SIGMA_LIMIT])
def test_a_sigma_outside_the_proof_is_refused(sigma: int) -> None:
    with pytest.raises(ValueError, match="sigma must lie in"):
        discrete_gaussian(sigma, 1, SystemNoise())


@pytest.mark.parametrize("sigma", [2.0, True, np.int64(4)])
def test_a_sigma_that_is_no_plain_integer_is_refused(sigma: int) -> None:
    with pytest.raises(TypeError, match="sigma must be an int"):
        discrete_gaussian(sigma, 1, SystemNoise())


def test_a_negative_count_is_refused_and_none_is_none() -> None:
    with pytest.raises(ValueError, match="negative"):
        discrete_gaussian(5, -1, SystemNoise())
    assert discrete_gaussian(5, 0, SystemNoise()).shape == (0,)


@pytest.mark.parametrize("sigma", [1, 2, 1000, SIGMA_LIMIT - 1])
def test_every_sigma_of_the_range_gives_integers_of_its_scale(sigma: int) -> None:
    values = discrete_gaussian(sigma, 3000, SystemNoise())
    assert values.dtype == np.int64
    assert values.shape == (3000,)
    # Nine standard deviations: exceeded once in 10^15 runs. The sum tells a sampler of one sign.
    assert np.abs(values).max() <= 9 * sigma
    assert abs(values.sum()) <= 9 * sigma * 3000**0.5


@pytest.mark.parametrize("limit", [0, 1, 7, 800, 2000])
def test_a_source_that_runs_dry_gives_no_noise(limit: int) -> None:
    with pytest.raises(RuntimeError, match="nothing was drawn"):
        discrete_gaussian(2**20, 100, CountedNoise(limit))
    with pytest.raises(RuntimeError, match="nothing was drawn"):
        Noise.draw(MECHANISM, 100, CountedNoise(limit))


def test_a_source_that_gives_too_much_gives_no_noise() -> None:
    with pytest.raises(RuntimeError, match="nothing was drawn"):
        discrete_gaussian(2**20, 100, CountedNoise(10**9, surplus=8))


def test_a_trial_that_never_ends_raises_before_its_denominator_wraps() -> None:
    with pytest.raises(OverflowError, match="proved exact"):
        discrete_gaussian(SIGMA_LIMIT - 1, 1, ScriptedNoise(Fraction(0)))


# In a trial of exp(-1) the word 0.4 succeeds at steps 1 and 2 and fails at 3: success. The word 0.6 fails at 2: failure.
SUCCESS = (Fraction(2, 5),) * 3
FAILURE = (Fraction(3, 5),)


def test_the_last_lap_of_the_proof_is_allowed_and_the_next_raises() -> None:
    allowed = noise_module._LAPS_LIMIT - 1
    assert noise_module._laps(1, ScriptedNoise(*SUCCESS * allowed, *FAILURE)).tolist() == [allowed]
    with pytest.raises(OverflowError, match="proved exact"):
        noise_module._laps(1, ScriptedNoise(*SUCCESS * (allowed + 1), *FAILURE))


@pytest.mark.parametrize(
    ("trials", "kept"),
    [((*SUCCESS, *SUCCESS), True), ((*SUCCESS, *FAILURE), False), (FAILURE, False)],
    ids=["both units succeed", "the second fails", "the first fails"],
)
def test_each_whole_unit_of_an_exponent_is_a_trial_of_its_own(trials: tuple[Fraction, ...], *, kept: bool) -> None:
    """exp(-9/4): two trials of exp(-1), then one of exp(-1/4), which fails at its first step and so succeeds."""
    source = ScriptedNoise(*trials, Fraction(1, 2))
    assert noise_module._bernoulli_exp(np.array([9], np.uint64), 4, source).tolist() == [kept]


def test_a_word_beyond_the_last_full_interval_is_drawn_again() -> None:
    # 2^64 - 1 = 3 * width: the last word of all belongs to no interval, the one before to the last.
    last = Fraction(2**64 - 1, 2**64)
    assert noise_module._uniform_below(3, 1, ScriptedNoise(last, last, Fraction(0))).tolist() == [0]
    assert noise_module._uniform_below(3, 1, ScriptedNoise(Fraction(2**64 - 2, 2**64), Fraction(0))).tolist() == [2]


def test_only_the_refused_words_are_drawn_again() -> None:
    bound = 2**62 + 1  # Three intervals of this width fill three quarters of the words.
    words = (Fraction(1, 2), Fraction(9, 10), Fraction(1, 4), Fraction(1, 8))
    assert noise_module._uniform_below(bound, 3, ScriptedNoise(*words)).tolist() == [
        int(word * 2**64) // ((2**64 - 1) // bound) for word in (words[0], words[3], words[2])
    ]


def test_minus_zero_is_proposed_again() -> None:
    # remainder 0; its trial fails at step 1: kept; no lap; sign bit 1, so -0. Then remainder 2, kept, no lap, sign 0.
    sign = {0: Fraction(0), 1: Fraction(1, 2**64)}
    minus_zero = (Fraction(0), Fraction(3, 5), *FAILURE, *FAILURE, sign[1])
    two = (Fraction(5, 8), Fraction(9, 10), *FAILURE, *FAILURE, sign[0])
    assert noise_module._discrete_laplace(4, 1, ScriptedNoise(*minus_zero, *two)).tolist() == [2]


def test_simulated_noise_is_the_same_everywhere_for_a_seed() -> None:
    first = discrete_gaussian(2**20, 5, SimulatedNoise(7))
    assert first.tolist() == discrete_gaussian(2**20, 5, SimulatedNoise(7)).tolist()
    assert first.tolist() == [-416671, 221493, 1110387, 165206, 651899]
    assert first.tolist() != discrete_gaussian(2**20, 5, SimulatedNoise(8)).tolist()


def test_many_draws_are_the_same_everywhere_for_a_seed() -> None:
    """Whatever changes the distribution changes one of these, at the smallest, largest and usual scales."""
    digest = hashlib.sha256()
    for sigma in (1, 3, 4096, 2**20, SIGMA_LIMIT - 1):
        digest.update(discrete_gaussian(sigma, 3000, SimulatedNoise(sigma)).astype("<i8").tobytes())
    assert digest.hexdigest() == "35e5519bd219f4a0887339390ea50682a554794ad3b3781e94cf9e4ebbfb54ec"
    beyond_one_chunk = discrete_gaussian(1024, 2**16 + 50, SimulatedNoise(3)).astype("<i8").tobytes()
    assert (
        hashlib.sha256(beyond_one_chunk).hexdigest()
        == "00767b025f30a18bf99603eb9b99dbf1042c4a7bafd33ec802f1ce9e6b9640b8"
    )


def test_a_source_never_gives_the_same_bytes_twice() -> None:
    for source in (SimulatedNoise(7), SystemNoise()):
        assert source.random_bytes(32) != source.random_bytes(32)


def test_system_noise_keeps_no_state() -> None:
    assert vars(SystemNoise()) == {}


def test_every_noise_says_where_it_came_from() -> None:
    assert Noise.draw(MECHANISM, 3, SystemNoise()).source_label == "system"
    assert Noise.draw(MECHANISM, 3, SimulatedNoise(1)).source_label == "simulated"


def test_noise_knows_its_mechanism_and_length() -> None:
    drawn = Noise.draw(MECHANISM, 3, SystemNoise())
    assert (drawn.mechanism, drawn.count, drawn.take().shape) == (MECHANISM, 3, (3,))


def test_noise_is_taken_once() -> None:
    drawn = Noise.draw(MECHANISM, 3, SystemNoise())
    drawn.take()
    with pytest.raises(RuntimeError, match="taken before"):
        drawn.take()


def test_of_many_threads_one_gets_the_noise() -> None:
    def attempt(drawn: Noise) -> bool:
        try:
            drawn.take()
        except RuntimeError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        for _ in range(50):
            assert sum(threads.map(attempt, [Noise.draw(MECHANISM, 1, SystemNoise())] * 8)) == 1


def test_noise_is_not_taken_in_another_process() -> None:
    drawn = Noise.draw(MECHANISM, 3, SystemNoise())
    drawn._process += 1
    with pytest.raises(RuntimeError, match="another process"):
        drawn.take()


@pytest.mark.parametrize(
    "attempt",
    [
        copy.copy,
        copy.deepcopy,
        pickle.dumps,
        lambda drawn: pickle.dumps(drawn, protocol=0),
        np.asarray,
        np.array,
        lambda drawn: np.zeros(3, np.int64) + drawn,
        lambda drawn: drawn + np.zeros(3, np.int64),
        list,
        len,
        vars,
        json.dumps,
    ],
)
def test_noise_has_no_other_form(attempt: Callable[[Noise], object]) -> None:
    with pytest.raises(TypeError):
        attempt(Noise.draw(MECHANISM, 3, SystemNoise()))


def test_noise_does_not_show_its_values() -> None:
    drawn = Noise.draw(MECHANISM, 3, SystemNoise())
    shown = (repr(drawn), str(drawn), f"{drawn}")
    assert set(shown) == {"<Noise: values withheld>"}


def test_noise_comes_from_a_draw_alone() -> None:
    with pytest.raises(TypeError, match=r"Noise\.draw"):
        Noise(object(), MECHANISM, np.zeros(3, np.int64), "system")


def test_noise_has_no_subclass_that_could_keep_its_values() -> None:
    with pytest.raises(TypeError, match="no subclasses"):
        type("Kept", (Noise,), {})


FORK_TWICE = """
import json, os
from fedseg.privacy.mechanism import DiscreteGaussian
from fedseg.privacy.noise import Noise, SystemNoise

def report(drawn_before):
    try:
        drawn_before.take()
        inherited = "taken"
    except RuntimeError:
        inherited = "refused"
    values = Noise.draw(DiscreteGaussian(2**20), 32, SystemNoise()).take().tolist()
    return json.dumps([inherited, values])

def child(drawn_before):
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, report(drawn_before).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    os.wait()
    return text

Noise.draw(DiscreteGaussian(2**20), 32, SystemNoise()).take()
drawn = Noise.draw(DiscreteGaussian(2**20), 32, SystemNoise())
print("[" + ",".join([child(drawn), child(drawn), report(drawn)]) + "]")
"""


def test_forked_children_draw_different_noise_and_cannot_take_their_parents() -> None:
    done = subprocess.run([sys.executable, "-c", FORK_TWICE], capture_output=True, text=True, check=True, timeout=60)
    (first, one), (second, two), (parent, own) = json.loads(done.stdout)
    assert (first, second, parent) == ("refused", "refused", "taken")
    # Two lists of 32 share three values by chance less than once in 10^9 runs, and all of them if a state was copied.
    for these, those in combinations((one, two, own), 2):
        assert len(set(these) & set(those)) < 3
