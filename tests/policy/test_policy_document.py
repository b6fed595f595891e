"""Policy documents: what is refused, with the line and the key, and what a loaded policy says."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fedseg.errors import PolicyDocumentError, PolicyError
from fedseg.policy.consent import Veto
from fedseg.policy.document import Policy, json_schema, load_policy
from fedseg.policy.purposes import Purpose

SHIPPED = sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))
STATISTICS = Purpose.SEGMENT_STATISTICS

POLICY = """\
version: 1
id: test-policy
controller: Test Retail
default: deny
purposes:
  fedseg:SegmentStatistics:
    broader: dpv:ServiceUsageAnalytics
    basis: eu-gdpr:A6-1-a
    require: {status: [given, renewed], max_age_days: 730, notice_min_version: 3}
    veto: [objection, restriction, suppressed, minor]
    columns: {allow: [recency, frequency]}
    min_cohort: 100
    rho_cap: "1/20"
budget: {unit: customer, neighbours: add-or-remove-one, rho_cap: "1/10", delta: "1/1000000"}
retention: {raw_days: 395, consent_evidence_days: 1095}
trust_models: [unit-noise]
"""


def changed(old: str, new: str) -> bytes:
    assert POLICY.count(old) == 1
    return POLICY.replace(old, new).encode()


def refused(document: bytes) -> str:
    with pytest.raises(PolicyDocumentError) as caught:
        load_policy(document)
    assert caught.value.exit_code == 3
    return caught.value.why


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_policies_load(path: Path) -> None:
    policy = load_policy(path.read_bytes())
    assert policy.id == path.stem
    assert policy.trust_models == ("unit-noise",)


def test_every_policy_of_an_earlier_version_keeps_its_digest() -> None:
    digests = {path.stem: load_policy(path.read_bytes()).digest for path in SHIPPED}
    assert sorted(digests) == [
        "ccpa",
        "gdpr-legitimate-interest",
        "gdpr-marketing",
        "health-cross-industry",
        "minimal",
        "online-retail",
    ]
    # Ledgers of earlier versions hold these.
    earlier = {
        "gdpr-marketing": "4cd48d5d3dcf9a335e078a9071540ce201b06f2c5e7d399712d5e667c5e66058",
        "minimal": "f99021a5ae0053c7f5659a4c5fcd37f2a8d7473231d1df23895dc152a33649a1",
        "online-retail": "521ad340ee8411471870426ae7d7234e82e242f85e3b2bc95b3d184368ee2c94",
    }
    assert {name: digests[name] for name in earlier} == earlier


def test_the_demo_policy_says_what_the_demo_needs() -> None:
    policy = load_policy(next(path for path in SHIPPED if path.stem == "online-retail").read_bytes())
    rule = policy.rule("fedseg:SegmentStatistics")
    assert list(policy.purposes) == [STATISTICS]
    assert rule.columns.allow == ("recency_days", "frequency", "gross_monetary")
    assert rule.min_cohort == 20
    assert (policy.rho_cap("fedseg:SegmentStatistics"), policy.budget.rho_cap) == (Fraction(1, 20), Fraction(1, 10))
    assert policy.budget.delta == Fraction(1, 1_000_000)


def test_a_policy_says_what_its_document_says() -> None:
    policy = load_policy(POLICY.encode())
    rule = policy.rule(STATISTICS)
    assert (policy.version, policy.id, policy.controller, policy.default) == (1, "test-policy", "Test Retail", "deny")
    assert (rule.broader, rule.basis, rule.min_cohort) == ("dpv:ServiceUsageAnalytics", "eu-gdpr:A6-1-a", 100)
    assert rule.require is not None
    assert rule.require.status == ("given", "renewed")
    assert (rule.require.max_age_days, rule.require.notice_min_version) == (730, 3)
    assert rule.vetoes() == Veto.OBJECTION | Veto.RESTRICTION | Veto.SUPPRESSED | Veto.MINOR | Veto.UNREADABLE
    assert (policy.budget.rho_cap, policy.budget.delta) == (Fraction(1, 10), Fraction(1, 1_000_000))
    assert (policy.retention.raw_days, policy.retention.consent_evidence_days) == (395, 1095)


def test_every_veto_name_means_its_veto() -> None:
    every = "[objection, restriction, suppressed, opt_out_sale, opt_out_share, minor_or_unknown_age]"
    rule = load_policy(changed("[objection, restriction, suppressed, minor]", every)).rule(STATISTICS)
    assert rule.vetoes() == Veto(255)
    with_sale = load_policy(changed("suppressed, minor]", "suppressed, minor, opt_out_sale]")).rule(STATISTICS)
    assert with_sale.vetoes() & (Veto.OPT_OUT_SALE | Veto.OPT_OUT_SHARE | Veto.AGE_UNKNOWN) == Veto.OPT_OUT_SALE


def test_a_purpose_without_a_cap_of_its_own_may_use_the_whole_budget() -> None:
    policy = load_policy(changed('    rho_cap: "1/20"\n', ""))
    assert policy.rho_cap(STATISTICS) == Fraction(1, 10)


@pytest.mark.parametrize("purpose", ["fedseg:SegmentActivation", "fedseg:Nothing", ""])
def test_a_purpose_the_policy_does_not_name_is_denied(purpose: str) -> None:
    policy = load_policy(POLICY.encode())
    with pytest.raises(PolicyError, match="does not allow the purpose"):
        policy.rule(purpose)
    with pytest.raises(PolicyError, match="does not allow the purpose"):
        policy.rho_cap(purpose)


REFUSALS = {
    "unknown key": ("id: test", "supressed: 1\nid: test", "line 2, key supressed: this key is unknown"),
    "unknown key inside": (
        "min_cohort: 100",
        "min_cohort: 100\n    min_cohorts: 100",
        "line 13, key purposes.fedseg:SegmentStatistics.min_cohorts: this key is unknown",
    ),
    "unknown key in the budget": ("unit: customer", 'epsilon: "1/1", unit: customer', "key budget.epsilon: this key"),
    "unknown key in a requirement": ("max_age_days", "max_age: 3, max_age_days", "require.max_age: this key"),
    "unknown key in the columns": ("{allow", "{deny: [x], allow", "columns.deny: this key"),
    "unknown key in the retention": ("raw_days", "backups: 3, raw_days", "retention.backups: this key"),
    "missing key": ("default: deny\n", "", "line 1, key default: this key is missing"),
    "repeated key": ("id: test-policy", "id: a\nid: b", "line 3, key id: the key stands here a second time"),
    "repeated key inside": ("unit: customer", "unit: x, unit: customer", "line 14, key budget.unit: the key stands"),
    "anchor": ("id: test", "id: &x test", "line 2, key id: an anchor"),
    "anchor on a list": ("trust_models: [", "trust_models: &x [", "key trust_models: an anchor"),
    "alias": ("id: test-policy", "id: *x", "line 2, key id: an alias"),
    "merge key": ("unit: customer", "<<: {unit: customer}", "line 14, key budget: '<<' can be read"),
    "tag": ("id: test", "id: !!str test", "line 2, key id: a tag"),
    "tag on a list": ("trust_models: [", "trust_models: !!set [", "key trust_models: a tag"),
    "tag on a mapping": ("retention: {", "retention: !!omap {", "key retention: a tag"),
    "truth value": ("default: deny", "default: no", "line 4, key default: 'no' can be read in more than one way"),
    "null": ("id: test-policy", "id: ~", "line 2, key id: '~' can be read"),
    "null by absence": ("id: test-policy", "id:", "key id: '' can be read"),
    "null by name": ("id: test-policy", "id: Null", "key id: 'Null' can be read"),
    "number with an exponent": ('rho_cap: "1/10"', "rho_cap: 1e-6", "line 14, key budget.rho_cap: '1e-6' can be read"),
    "number with a point": ('rho_cap: "1/10"', "rho_cap: 0.1", "key budget.rho_cap: '0.1' can be read"),
    "fraction without quotes": ('rho_cap: "1/10"', "rho_cap: 1/10", "key budget.rho_cap: '1/10' can be read"),
    "negative number": ("raw_days: 395", "raw_days: -395", "key retention.raw_days: '-395' can be read"),
    "octal": ("raw_days: 395", "raw_days: 0395", "key retention.raw_days: '0395' can be read"),
    "number too long": ("raw_days: 395", f"raw_days: {'9' * 16}", "key retention.raw_days: '9"),
    "underscore in a number": ("raw_days: 395", "raw_days: 3_95", "key retention.raw_days: '3_95' can be read"),
    "date": ("id: test-policy", "id: 2026-01-01", "key id: '2026-01-01' can be read"),
    "text block": ("id: test-policy", "id: |\n  test", "key id: 'test"),
    "folded text": ("id: test-policy", "id: >\n  test", "key id: 'test"),
    "text over two lines": ("Test Retail", '"Test\\nRetail"', "key controller: text must be visible"),
    "escape of an invisible sign": ("Test Retail", '"Test\\u202ERetail"', "key controller: text must be visible"),
    "escape of half a character": ("Test Retail", '"Test\\uD800"', "key controller: text must be visible"),
    "escape of no character": ("Test Retail", '"\\UFFFFFFFF"', "an escape of a character that does not exist"),
    "tab": ("id: test-policy", "id: test-policy\t# tab", "line 2: it holds an invisible character"),
    "direction mark in a comment": ("id: test", "# \u202e\nid: test", "line 2: it holds an invisible character"),
    "byte order mark": ("version: 1\n", "\ufeffversion: 1\n", "line 1: it holds an invisible character"),
    "directive": ("version: 1\n", "%YAML 1.2\n---\nversion: 1\n", "line 2: a directive"),
    "tag directive": ("version: 1\n", "%TAG ! x:\n---\nversion: 1\n", "line 2: a directive"),
    "second document": ("budget:", "---\nbudget:", "line 14: a second document"),
    "list at the top": ("version: 1\n", "- version: 1\n", "this is not YAML"),
    "no YAML": ("id: test-policy", "id: [test", "this is not YAML"),
    "a list as a key": ("id: test-policy", "? [id]\n: test", "line 2: a key must be text"),
    "a number as a key": ("id: test-policy", "1: test", "line 2: a key must be text"),
    "too deep": ("id: test-policy", f"id: {'[' * 20}{']' * 20}", "values nest deeper than 16"),
    "text for a number": (
        "raw_days: 395",
        "raw_days: '395'",
        "key retention.raw_days: Input should be a valid integer",
    ),
    "number for text": ("controller: Test Retail", "controller: 5", "key controller: Input should be a valid string"),
    "text for a list": ("allow: [recency, frequency]", "allow: recency", "columns.allow: Input should be a valid"),
    "number for a fraction": ('rho_cap: "1/10"', "rho_cap: 1", "key budget.rho_cap: must be a positive fraction"),
    "fraction not in lowest terms": ('"1/10"', '"2/20"', 'key budget.rho_cap: must be in lowest terms: "1/10"'),
    "zero fraction": ('"1/10"', '"0/1"', "key budget.rho_cap: must be a positive fraction"),
    "division by zero": ('"1/10"', '"1/0"', "key budget.rho_cap: must be a positive fraction"),
    "blank in a fraction": ('"1/10"', '"1/ 10"', "key budget.rho_cap: must be a positive fraction"),
    "decimal for a fraction": ('"1/10"', '"0.1"', "key budget.rho_cap: must be a positive fraction"),
    "huge fraction": ('"1/10"', f'"1/{"9" * 19}"', "key budget.rho_cap: must be a positive fraction"),
    "a limit that is none": (
        '"1/10"',
        '"1025/1"',
        "line 14, key budget: rho_cap is at most 1024: more is no protection",
    ),
    "delta of one": ('"1/1000000"', '"1/1"', "line 14, key budget: delta must be below 1"),
    "unknown purpose": ("fedseg:SegmentStatistics:", "fedseg:Everything:", "line 6, key purposes.fedseg:Everything: "),
    "unknown veto": ("suppressed, minor]", "suppressed, minor, supressed]", "veto.4: Input should be 'objection'"),
    "repeated veto": ("suppressed, minor]", "suppressed, minor, minor]", "veto: names something twice"),
    "unknown basis": ("basis: eu-gdpr:A6-1-a", "basis: eu-gdpr:A6-1-f", "basis: Input should be 'eu-gdpr:A6-1-a'"),
    "unknown status": ("[given, renewed]", "[given, requested]", "require.status.1: Input should be 'given'"),
    "no status": ("[given, renewed]", "[]", "require.status: "),
    "status without given": ("[given, renewed]", "[renewed]", "require: status must hold given"),
    "repeated status": ("[given, renewed]", "[given, given]", "require.status: names something twice"),
    "no objections": ("[objection, ", "[", "veto must also hold objection: no policy may ignore these"),
    "no restrictions": ("objection, restriction, ", "objection, ", "veto must also hold restriction"),
    "no suppression": ("suppressed, ", "", "veto must also hold suppressed"),
    "known minors": (", minor]", "]", "veto must also hold minor or minor_or_unknown_age"),
    "no column": ("[recency, frequency]", "[]", "columns.allow: "),
    "repeated column": ("[recency, frequency]", "[recency, recency]", "columns.allow: names something twice"),
    "column with a blank": ("[recency, frequency]", "['a b']", "columns.allow.0: "),
    "cohort of nobody": ("min_cohort: 100", "min_cohort: 0", "min_cohort: Input should be greater than or equal to 1"),
    "consent of no age": ("max_age_days: 730", "max_age_days: 0", "max_age_days: Input should be greater"),
    "consent without end": ("max_age_days: 730", "max_age_days: 36501", "max_age_days: Input should be less"),
    "other broader purpose": ("dpv:ServiceUsageAnalytics", "dpv:Marketing", "line 7, key purposes.fedseg:SegmentStat"),
    "sub-limit above the limit": ('"1/20"', '"1/5"', "line 13, key purposes.fedseg:SegmentStatistics.rho_cap: must be"),
    "other unit": ("unit: customer", "unit: row", "key budget.unit: Input should be 'customer'"),
    "other neighbours": ("add-or-remove-one", "replace-one", "key budget.neighbours: Input should be"),
    "other default": ("default: deny", "default: allow", "key default: Input should be 'deny'"),
    "other version": ("version: 1\n", "version: 2\n", "line 1, key version: Input should be 1"),
    "no trust model": ("[unit-noise]", "[]", "key trust_models: "),
    "unknown trust model": ("[unit-noise]", "[none]", "key trust_models.0: Input should be 'unit-noise'"),
    "repeated trust model": ("[unit-noise]", "[unit-noise, unit-noise]", "key trust_models: names something twice"),
    "evidence gone before the rows": ("days: 1095", "days: 394", "consent_evidence_days must be at least raw_days"),
    "id with a blank": ("id: test-policy", "id: test policy", "key id: String should match"),
    "no controller": ("controller: Test Retail", "controller: ''", "key controller: String should have at least 1"),
}


@pytest.mark.parametrize(("old", "new", "why"), REFUSALS.values(), ids=REFUSALS)
def test_a_document_that_could_mean_two_things_is_refused_with_its_line_and_key(old: str, new: str, why: str) -> None:
    assert why in refused(changed(old, new))


def test_no_purpose_at_all_is_refused() -> None:
    start, end = POLICY.index("purposes:"), POLICY.index("budget:")
    assert "key purposes: " in refused((POLICY[:start] + "purposes: {}\n" + POLICY[end:]).encode())


@pytest.mark.parametrize(
    "text", ["y", "N", "yes", "No", "ON", "off", "True", "FALSE", "null", "NaN", "inf", ".5", "=", "+1", "0x1F", "1:30"]
)
def test_what_some_yaml_version_takes_for_no_text_needs_quotes(text: str) -> None:
    assert f"{text!r} can be read in more than one way" in refused(changed("Test Retail", text))
    assert load_policy(changed("Test Retail", f"'{text}'")).controller == text


def test_an_empty_document_is_refused() -> None:
    for document in (b"", b"# nothing\n", b"---\n"):
        refused(document)


def test_a_list_or_a_text_is_no_policy() -> None:
    assert refused(b"# first\n- a\n") == "line 2: a policy is a mapping of keys to values"
    assert refused(b"text") == "line 1: a policy is a mapping of keys to values"


def test_bytes_that_are_no_utf8_are_refused_with_their_line() -> None:
    assert refused(changed("Test Retail", "Test").replace(b"Test", b"T\xff")) == "line 3: it is not UTF-8 text"


def test_64_kilobytes_are_read_and_not_one_more() -> None:
    document = POLICY.encode()
    filled = document + b"#" * (64 * 1024 - len(document))
    assert load_policy(filled).id == "test-policy"
    assert refused(filled + b"#") == "it is 65537 bytes long; at most 65536 are read"


def test_several_problems_are_named_by_the_unknown_key_first() -> None:
    why = refused(changed("id: test-policy", "idd: test-policy"))
    assert why == "line 2, key idd: this key is unknown (and 1 more)"


def test_one_problem_is_told_without_more_and_three_with_two_more() -> None:
    assert refused(changed("default: deny\n", "")) == "line 1, key default: this key is missing"
    why = refused(changed("id: test-policy\ncontroller: Test Retail\ndefault: deny\n", ""))
    assert why == "line 1, key id: this key is missing (and 2 more)"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("days: 1095", "days: 395"),
        ('"1/10"', '"1024/1"'),
        ('"1/1000000"', f'"1/{10**18 - 1}"'),
        ("raw_days: 395", "raw_days: 1"),
        ('"1/20"', '"1/10"'),
        ("notice_min_version: 3", "notice_min_version: 0"),
        ("notice_min_version: 3", "notice_min_version: 1000000"),
        ("min_cohort: 100", "min_cohort: 1"),
        ("max_age_days: 730", "max_age_days: 1"),
        ("max_age_days: 730", "max_age_days: 36500"),
        ("[recency, frequency]", "[recency]"),
        ("[given, renewed]", "[given]"),
    ],
)
def test_the_limits_themselves_are_allowed(old: str, new: str) -> None:
    assert load_policy(changed(old, new)).id == "test-policy"


def test_windows_line_ends_are_read() -> None:
    assert load_policy(POLICY.replace("\n", "\r\n").encode()).digest == load_policy(POLICY.encode()).digest


def test_the_digest_ignores_comments_order_and_style_but_no_fact() -> None:
    digest = load_policy(POLICY.encode()).digest
    reordered = POLICY.removeprefix("version: 1\n") + "version: 1 # a comment\n"
    assert load_policy(reordered.encode()).digest == digest
    assert load_policy(changed("id: test-policy", "'id': \"test-policy\"")).digest == digest
    facts = [("id: test", "id: rest"), ("cohort: 100", "cohort: 101"), ('"1/10"', '"1/11"'), (", renewed", "")]
    facts += [("days: 395", "days: 396"), ("[unit-noise]", "[unit-noise, secure-aggregation]"), ('"1/20"', '"1/21"')]
    others = {load_policy(changed(old, new)).digest for old, new in facts}
    assert len(others | {digest}) == len(facts) + 1


def test_the_digest_of_a_policy_never_changes() -> None:
    # Ledgers of earlier versions hold such digests.
    assert load_policy(POLICY.encode()).digest == "ef0771819365ea8cf2521f391e06400450c76eb99233d13fdb25ce686180352e"


def test_a_loaded_policy_cannot_be_changed() -> None:
    policy = load_policy(POLICY.encode())
    with pytest.raises(ValidationError, match="frozen"):
        policy.id = "other"
    with pytest.raises(TypeError):
        policy.purposes[Purpose.SEGMENT_ACTIVATION] = policy.rule(STATISTICS)  # type: ignore[index]


def test_the_schema_is_json_and_closed() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["additionalProperties"] is False
    assert all(part.get("additionalProperties", False) is False for part in schema["$defs"].values())
    assert schema["$defs"]["Budget"]["properties"]["rho_cap"]["type"] == "string"
    assert set(schema["required"]) == set(Policy.model_fields) - {
        "approvals",
        "recipients",
        "forbidden_uses",
        "witnesses",
    }


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
@example(b"{" * 1000)
@example(b"- " * 1000)
@example(b"? " * 1000)
@example(b"a: !<%FF> b")
@example(b'"\\x00": 1')
def test_any_bytes_are_a_policy_or_a_policy_error(document: bytes) -> None:
    with pytest.raises(PolicyDocumentError):
        load_policy(document)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, len(POLICY)),
    st.integers(0, 6),
    st.text(alphabet="&*!%@`|>-?:,[]{}#'\"\\ \n0aU~<=", max_size=4),
)
def test_a_damaged_policy_loads_or_is_a_policy_error(at: int, length: int, inserted: str) -> None:
    document = (POLICY[:at] + inserted + POLICY[at + length :]).encode()
    try:
        policy = load_policy(document)
    except PolicyDocumentError:
        return
    assert policy.default == "deny"
