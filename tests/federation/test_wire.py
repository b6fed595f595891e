"""What crosses the wire reads back as it was, and bytes of any other kind are a value or one kind of error."""

import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedseg.clustering.request import REQUEST_HEADER, parse_request, request_bytes
from fedseg.errors import ContributionError, RequestError
from fedseg.federation import wire
from fedseg.ledger.keys import SigningKey
from fedseg.plan import Plan
from fedseg.privacy.release import HEADER, MAGIC, SIGNATURE_BYTES, SIGNATURE_CONTEXT, Release, recall, release_id
from fedseg.server.contribution import PLAUSIBLE_VALUE, Contribution, payload_bytes
from tests.mutations import Changed, cut, flipped, grown, overwritten
from tests.small_federation import SmallFederation, ask, some_request

TIMES = 10 if os.environ.get("FEDSEG_SOAK") == "1" else 1
REPLIES, REQUESTS = 102_000 * TIMES, 20_000 * TIMES


def resigned(body: bytes, key: SigningKey) -> bytes:
    """A reply with this body, signed as a unit signs it."""
    import hashlib

    return b"R" + body + key.sign(SIGNATURE_CONTEXT + hashlib.sha256(body).digest())


def noise(coins: random.Random, data: bytes) -> bytes:
    """Bytes from nowhere, sometimes with the right beginning or the right length."""
    start = coins.choice([b"", b"R", b"U", b"RU", b"R" + MAGIC, data[: coins.randint(0, HEADER.size)]])
    return start + coins.randbytes(coins.choice([coins.randint(0, 300), max(0, len(data) - len(start))]))


CHEAP: list[Changed] = [flipped, cut, grown, noise, overwritten]


def test_a_release_reads_back_as_the_contribution_it_is(federation: SmallFederation) -> None:
    plan, request = federation.plan, some_request(federation.plan, 1)
    for unit, reply in zip(plan.units, ask(federation.grid(), plan, request), strict=True):
        found = wire.decode(reply, plan)
        assert isinstance(found, Contribution)
        assert (found.unit, found.step, found.plan_sha256) == (unit.name, 1, plan.digest)
        assert found.values.shape == (plan.terms[1].cells, plan.terms[1].width)
        with federation.home(unit.name).ledger() as ledger:
            from fedseg.privacy.account import PrivacyAccount

            stored = recall(PrivacyAccount(ledger), found.release_id)
        assert isinstance(stored, Release)
        assert wire.encode(stored) == reply
        assert found.payload == stored.payload


def test_unavailable_reads_back_as_unavailable_and_says_nothing_else(approved_once: SmallFederation) -> None:
    assert wire.encode_unavailable() == b"UE602"
    assert wire.decode(wire.encode_unavailable(), approved_once.plan) == wire.Unavailable()


def test_a_reply_is_as_long_as_the_plan_says(approved_once: SmallFederation, replies: list[bytes]) -> None:
    lengths = [1 + payload_bytes(terms) for terms in approved_once.plan.terms for _ in approved_once.plan.units]
    assert [len(reply) for reply in replies] == lengths


def header_fields(coins: random.Random, fields: list[Any], plan: Plan) -> list[Any]:
    """A header with one to three fields changed to something near, extreme or random."""
    changed = list(fields)
    for place in coins.sample(range(len(fields)), coins.randint(1, 3)):
        if isinstance(changed[place], bytes):
            size = len(changed[place])
            changed[place] = coins.choice([bytes(size), coins.randbytes(size), changed[place][::-1]])
        else:
            near = (changed[place] + coins.randint(-2, 2)) % 2**32
            changed[place] = coins.choice([0, 1, near, len(plan.units), plan.rounds, 2**31, 2**32 - 1])
    if coins.random() < 0.5 and changed[4] < len(plan.units):
        unit = plan.units[changed[4]].name
        changed[1] = bytes.fromhex(release_id(plan.digest, unit, changed[5], changed[3].hex()))
    return changed


def signed_lies(coins: random.Random, replies: list[bytes], plan: Plan, keys: list[SigningKey]) -> Iterator[bytes]:
    """Replies a unit could really sign: another header, other numbers, another length, or another's name."""
    while True:
        body = coins.choice(replies)[1:-SIGNATURE_BYTES]
        fields, values = list(HEADER.unpack_from(body)), body[HEADER.size :]
        match coins.randrange(4):
            case 0:
                fields = header_fields(coins, fields, plan)
            case 1:
                number = coins.choice([PLAUSIBLE_VALUE, PLAUSIBLE_VALUE + 1, 2**63 - 1, -(2**63), 0])
                place = 8 * coins.randrange(len(values) // 8)
                values = values[:place] + number.to_bytes(8, "little", signed=True) + values[place + 8 :]
            case 2:
                values = coins.choice([cut, grown])(coins, values)
            case _:
                fields[4] = (fields[4] + 1) % len(plan.units)
        yield resigned(HEADER.pack(*fields) + values, coins.choice(keys))


def test_no_bytes_make_decode_do_anything_but_return_a_value_or_refuse(
    approved_once: SmallFederation, replies: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    plan, keys, coins = approved_once.plan, [home.key for home in approved_once.homes], random.Random(20_25)
    lies, outcomes = signed_lies(coins, replies, plan, keys), {"read": 0, "refused": 0}
    for number in range(REPLIES):
        signed = number % 12 == 0
        data = next(lies) if signed else coins.choice(CHEAP)(coins, coins.choice(replies))
        try:
            found = wire.decode(data, plan)
        except ContributionError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            # Without a unit's key nothing new can be made; with it, nothing that is not of this plan's shape.
            assert signed or data in replies or data == wire.encode_unavailable()
            assert isinstance(found, Contribution)
            assert found.values.shape == (plan.terms[found.step].cells, plan.terms[found.step].width)
            assert (np.abs(found.values) <= PLAUSIBLE_VALUE).all()
            assert found.payload == data[1:]
    assert outcomes["read"] > 100
    with capsys.disabled():
        print(f"\nwire.decode: {REPLIES} inputs, {outcomes['read']} read, {outcomes['refused']} refused")  # noqa: T201 (the count is the point)


def test_no_bytes_make_a_request_do_anything_but_be_read_or_refused(approved_once: SmallFederation) -> None:
    plan, coins, read = approved_once.plan, random.Random(20_26), 0
    valid = [request_bytes(plan.digest, some_request(plan, step)) for step in range(plan.rounds)]
    for _ in range(REQUESTS):
        data = coins.choice(CHEAP)(coins, coins.choice(valid))
        if coins.random() < 0.2:
            fields = list(REQUEST_HEADER.unpack_from(coins.choice(valid)))
            fields[coins.randint(2, 4)] = coins.choice([0, 1, 2**32 - 1, 2**12, coins.randrange(2**32)])
            data = REQUEST_HEADER.pack(*fields) + data[REQUEST_HEADER.size :]
        try:
            digest, request = parse_request(data)
        except RequestError:
            continue
        read += 1
        assert request_bytes(digest, request) == data
    assert read > 100


def message_of(content: RecordDict) -> Message:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    return Message(content, 1, wire.MESSAGE_TYPE)


ARRAYS = ArrayRecord({"bytes": Array(np.zeros(2))})

WRONG_RECORDS = {
    "nothing": RecordDict(),
    "another name": RecordDict({"other": ConfigRecord({wire.FIELD: b"R"})}),
    "two records": RecordDict({wire.RECORD: ConfigRecord({wire.FIELD: b"R"}), "more": ConfigRecord()}),
    "arrays": RecordDict({wire.RECORD: ARRAYS}),
    "metrics": RecordDict({wire.RECORD: MetricRecord({wire.FIELD: 1})}),
    "no field": RecordDict({wire.RECORD: ConfigRecord()}),
    "another field": RecordDict({wire.RECORD: ConfigRecord({"data": b"R"})}),
    "two fields": RecordDict({wire.RECORD: ConfigRecord({wire.FIELD: b"R", "more": b""})}),
    "text": RecordDict({wire.RECORD: ConfigRecord({wire.FIELD: "R"})}),
    "a number": RecordDict({wire.RECORD: ConfigRecord({wire.FIELD: 1})}),
    "a list": RecordDict({wire.RECORD: ConfigRecord({wire.FIELD: [b"R"]})}),
}


@pytest.mark.parametrize("content", WRONG_RECORDS.values(), ids=list(WRONG_RECORDS))
def test_a_message_with_other_records_is_neither_request_nor_reply(content: RecordDict) -> None:
    with pytest.raises(RequestError, match="no request"):
        wire.unpack_request(message_of(content))
    with pytest.raises(ContributionError, match="no release"):
        wire.unpack_reply(message_of(content))


def test_an_error_of_flowers_is_neither_request_nor_reply() -> None:
    error = Message(Error(code=5, reason="a reason that is not read"), reply_to=message_of(wire.pack(b"x")))
    with pytest.raises(RequestError):
        wire.unpack_request(error)
    with pytest.raises(ContributionError) as refused:
        wire.unpack_reply(error)
    assert "a reason" not in str(refused.value)


def test_packing_and_unpacking_leaves_bytes_as_they_were() -> None:
    for data in (b"", b"\x00\xff", bytes(100_000)):
        assert wire.unpack_request(message_of(wire.pack(data))) == data
        assert wire.unpack_reply(message_of(wire.pack(data))) == data
