"""The path of a number, used as it is meant: no type checker has a word to say."""

from datetime import datetime

from fedseg.clustering.encode import encode
from fedseg.clustering.request import RoundRequest
from fedseg.clustering.statistics import summarize
from fedseg.federation import wire
from fedseg.ledger.keys import SigningKey
from fedseg.plan import Plan
from fedseg.policy.consent import ConsentState
from fedseg.policy.document import Policy
from fedseg.policy.gate import admit, decide
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.noise import Noise, SystemNoise
from fedseg.privacy.release import Release, ReleaseTicket, recall, release
from fedseg.server.contribution import Contribution
from fedseg.table import Table


def from_rows_to_a_release(
    table: Table,
    consent: ConsentState,
    policy: Policy,
    plan: Plan,
    request: RoundRequest,
    account: PrivacyAccount,
    ticket: ReleaseTicket,
    key: SigningKey,
    now: datetime,
) -> Release:
    terms = plan.terms[request.step]
    noise = Noise.draw(terms.mechanism, terms.length, SystemNoise())
    decisions = decide(consent, policy, plan.purpose, now)
    rows = encode(admit(table, decisions, policy, plan.purpose), plan.encoders)
    return release(summarize(rows, request, terms.lattice), noise, account, ticket, key)


def from_a_release_to_the_server(minted: Release, plan: Plan) -> Contribution | None:
    answer = wire.decode(wire.encode(minted), plan)
    return None if isinstance(answer, wire.Unavailable) else answer


def the_same_bytes_again(account: PrivacyAccount, ticket: ReleaseTicket) -> bytes | None:
    known = recall(account, ticket.release_id)
    return None if known is None else wire.encode(known)
