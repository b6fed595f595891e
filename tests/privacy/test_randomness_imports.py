"""Random bits for noise come from `privacy/noise.py` alone: no other module reaches for a generator."""

import ast
from pathlib import Path

import pytest

import fedseg

PACKAGE = Path(fedseg.__file__).parent

GENERATORS = (
    "secrets",
    "random",
    "numpy.random",
    "os.urandom",
    "os.getrandom",
    "ssl.RAND_bytes",
    "scipy.stats.qmc",
    "torch.rand",
    "torch.randn",
)

ALLOWED = {
    ("privacy/noise.py", "os.urandom"): "the noise itself",
    ("node/consent/register.py", "secrets"): "salts of commitments and pseudonyms, which are no noise",
    ("node/approvals.py", "secrets"): "salts of commitments to the reasons of refusals",
    ("node/backup/keys.py", "secrets"): "keys of backups",
    ("node/rights/closing.py", "secrets"): "salts of commitments to closing statements",
    ("node/rights/erasure.py", "secrets"): "salts of commitments to certificates",
    (
        "node/rights/identities.py",
        "secrets",
    ): "keys and nonces of identities that recipients are still to be told about",
    ("node/rights/requests.py", "secrets"): "numbers of requests",
    ("node/backup/sealed_file.py", "secrets"): "salts of the keys of sealed files",
    ("node/rights/platforms.py", "secrets"): "tokens of privacy platforms",
    ("node/witnessing.py", "secrets"): "a random number that makes every start of a process another one",
    ("console/session.py", "secrets"): "tokens and the path of the console",
    ("node/rights/tree.py", "secrets"): "filling of a day's tree of commitments, and the order of its leaves",
    ("ledger/keys.py", "secrets"): "keys",
    ("private_file.py", "secrets"): "names of files that have none a moment later",
    ("deploy/directory.py", "secrets"): "names of files that are not finished yet",
    ("deploy/enrolment.py", "secrets"): "a random number that makes every request to join another one",
    ("clustering/algorithm.py", "numpy.random"): "public coins that all units share, from the plan's seed",
    ("clustering/kmeans.py", "numpy.random"): "the same coins: starts of k-means on the server's model",
    ("clustering/model.py", "numpy.random"): "the same coins: particles of the server's model",
    ("clustering/separation.py", "numpy.random"): "the same coins: halves of a segment of the server's model",
    ("clustering/stability.py", "numpy.random"): "the same coins: releases as they might have been, which nobody sends",
    ("empirical/game.py", "numpy.random"): "public coins of the audit's games, which are no noise",
    ("empirical/transcript.py", "numpy.random"): "made-up customers of an audit, which are no noise",
    ("estimator/account.py", "secrets"): "a fit's own name in its ledger",
    ("simulation/", "numpy.random"): "synthetic customers and registers, which are no noise",
    ("simulation/", "random"): "faults injected into a transport, which are no noise",
}


def generators_in(source: str) -> set[str]:
    """The generators that a module imports or names, whatever alias it gives them."""
    tree = ast.parse(source)
    meaning: dict[str, str] = {}
    named: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
            meaning |= {
                alias.asname or alias.name.split(".")[0]: alias.name if alias.asname else alias.name.split(".")[0]
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            named |= {f"{node.module}.{alias.name}" for alias in node.names}
            meaning |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            path = ast.unparse(node)
            root, _, rest = path.partition(".")
            if root in meaning:
                named.add(f"{meaning[root]}.{rest}")
    return {generator for generator in GENERATORS for name in named if f"{name}.".startswith(f"{generator}.")}


def is_allowed(module: str, generator: str) -> bool:
    return any(
        generator == what and (module == where or (where.endswith("/") and module.startswith(where)))
        for where, what in ALLOWED
    )


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import secrets", {"secrets"}),
        ("from secrets import token_bytes", {"secrets"}),
        ("import random as r", {"random"}),
        ("def f():\n    from random import gauss", {"random"}),
        ("import numpy.random", {"numpy.random"}),
        ("from numpy import random", {"numpy.random"}),
        ("from numpy.random import default_rng", {"numpy.random"}),
        ("import numpy as np\nx = np.random.default_rng(1).normal()", {"numpy.random"}),
        ("import numpy\nx = numpy.random.normal()", {"numpy.random"}),
        ("import os\nx = os.urandom(8)", {"os.urandom"}),
        ("import os as system\nread = system.getrandom", {"os.getrandom"}),
        ("from os import urandom as u", {"os.urandom"}),
        ("import numpy as np\nimport os\nx = np.zeros(3), os.getpid(), 'random'", set()),
        ("from fedseg.privacy.noise import Noise\nimport randomised", set()),
    ],
)
def test_the_check_sees_every_way_to_name_a_generator(source: str, found: set[str]) -> None:
    assert generators_in(source) == found


def test_no_module_but_noise_draws_random_bits_for_noise() -> None:
    modules = {path.relative_to(PACKAGE).as_posix(): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    assert "os.urandom" in generators_in(modules["privacy/noise.py"])
    offenders = {
        (module, generator)
        for module, source in modules.items()
        for generator in generators_in(source)
        if not is_allowed(module, generator)
    }
    assert not offenders
