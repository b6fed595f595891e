"""What `fedseg budget show` says is left: the cap, less what plans hold and what a witnessed unit keeps back."""

from fractions import Fraction
from pathlib import Path

import pytest

from fedseg.ledger.keys import SigningKey
from fedseg.ledger.notes import SignatureType
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.node.approvals import approve
from tests.cli.conftest import Cli
from tests.small_federation import NOW, SmallFederation, make_federation, policy_document


def approved(folder: Path, witnesses: str) -> SmallFederation:
    """A unit that has approved a plan under a policy that says this of witnesses."""
    policy = policy_document(rho_cap="1/1", approvals=witnesses)
    made = make_federation(folder / "f", {"north": 60}, policy=policy, witnessed="keys:" in witnesses)
    approve(made.home("north"), made.plan, made.document, now=NOW)
    return made


def witnessed() -> str:
    key = VerifierKey("w.example/w", SignatureType.ED25519_COSIGNATURE, SigningKey.generate().public)
    return f"witnesses:\n  quorum: 1\n  keys:\n    w: '{key.to_text()}'\n"


def test_a_witnessed_unit_keeps_back_its_dearest_release_and_says_what_for(tmp_path: Path) -> None:
    made, fedseg = approved(tmp_path, witnessed()), Cli(tmp_path)
    home, kept = made.home("north").path, max(made.plan.step_rhos)
    data = fedseg.here("budget", "show", home, "--format", "json").envelope["data"]
    assert data["rho_kept_back"] == float(kept)
    assert data["rho_left"] == float(Fraction(1) - sum(made.plan.step_rhos) - kept)
    shown = " ".join(fedseg.here("budget", "show", home).out.split())
    assert f"kept back {float(kept):.5g}" in shown
    assert f"left to approve {data['rho_left']:.5g}" in shown
    assert "can send one release twice before its witnesses tell" in shown


@pytest.mark.parametrize("says", ["", "witnesses:\n  quorum: 0\n"], ids=["nothing", "none"])
def test_a_unit_without_witnesses_keeps_nothing_back(tmp_path: Path, says: str) -> None:
    made, fedseg = approved(tmp_path, says), Cli(tmp_path)
    home = made.home("north").path
    data = fedseg.here("budget", "show", home, "--format", "json").envelope["data"]
    assert (data["rho_kept_back"], data["rho_left"]) == (0.0, float(1 - sum(made.plan.step_rhos)))
    assert "kept back" not in fedseg.here("budget", "show", home).out
