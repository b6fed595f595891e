"""The error tree: everything that can go wrong in the world, with a stable code and an exit code.

    FedsegError
    ├── SettingsError             E2xx  exit 2  how the command was called or configured
    ├── PolicyError               E3xx  exit 3  the unit's policy does not allow it
    ├── BudgetError               E4xx  exit 4  privacy budget
    ├── ConsentError              E5xx  exit 5  nobody may be counted
    ├── RoundError                E6xx  exit 6  quorum, deadline, unavailable units
    ├── TrustError                E7xx  exit 7  identity, signature, approval
    ├── DataError                 E8xx  exit 8  data, schema, storage
    └── VerificationError         E9xx  exit 9  a ledger or artefact does not check out

An error says what happened, why, and what fixes it. No text holds a value from a customer's row, an identifier or
an exact count: errors end up in logs. Only a `code` ever crosses the wire.
"""

from typing import Any, ClassVar


class FedsegError(Exception):
    """Base of every error fedseg raises on purpose; the CLI prints these without a traceback.

    Attributes:
        what: One sentence: what happened. Holds no value from a row.
        why: One sentence: the cause, with the value seen and the value wanted where those are public.
        fix: The next step; one command where there is one.
        data: Facts for scripts that go with the error, as the command's JSON documents them.
    """

    code: ClassVar[str] = "E100"
    exit_code: ClassVar[int] = 1
    summary: ClassVar[str] = "An error that has no more precise name."

    def __init__(self, what: str, *, why: str, fix: str) -> None:
        self.what = what
        self.why = why
        self.fix = fix
        self.data: dict[str, Any] = {}
        super().__init__(f"{what}: {why}")


class SettingsError(FedsegError):
    """The command, an option or a configuration file is wrong."""

    code = "E201"
    exit_code = 2
    summary = "The command line, an environment variable or a settings file is wrong."


class ScenarioError(SettingsError):
    """A simulation scenario is not what the schema says."""

    code = "E202"
    summary = "A scenario file does not follow its schema."


class PlanError(SettingsError):
    """A plan breaks a rule every plan must keep."""

    code = "E203"
    summary = "A plan file does not follow its schema, or its numbers cannot work."


class DeploymentError(SettingsError):
    """A deployment's directory, users or programs are not as they must be."""

    code = "E204"
    summary = "The directory of a server or node is missing something, or the machine lacks a user or program it names."


class MappingError(SettingsError):
    """A mapping of consent exports is not what the schema says."""

    code = "E205"
    summary = "A mapping for consent exports is missing, or does not follow its schema."


class ViewError(SettingsError):
    """A unit's feature view holds something that is not allowed."""

    code = "E206"
    summary = (
        "A feature view asks for something that is not allowed: it could let one customer change another's features."
    )


class PolicyError(FedsegError):
    """The unit's policy does not allow what was asked."""

    code = "E301"
    exit_code = 3
    summary = "The unit's policy does not allow this plan."


class PolicyDocumentError(PolicyError):
    """A policy file cannot be trusted to mean one thing: unknown key, duplicate key, wrong type."""

    code = "E302"
    summary = "A policy file has an unknown or repeated key, or a value of the wrong type. No policy, no run."


class CohortTooSmallError(PolicyError):
    """Fewer customers may be counted than the policy's minimum cohort. Said to the unit alone, before approval."""

    code = "E303"
    summary = "Fewer customers may be counted than the policy's minimum cohort."


class RightsRequestError(PolicyError):
    """A request of a data subject cannot take this step: no such right, or not from the state it is in."""

    code = "E304"
    summary = "The law grants no such right, or a request cannot take this step from where it stands."


class BudgetError(FedsegError):
    """Privacy budget. Nothing was charged and nothing was released."""

    code = "E401"
    exit_code = 4
    summary = "The plan or release needs more privacy budget than is left. Nothing was charged, nothing released."


class ConsentError(FedsegError):
    """No customer of the unit may be counted for this purpose. Said to the unit alone, before approval."""

    code = "E501"
    exit_code = 5
    summary = "No customer of this unit may be counted for this purpose."


class RoundError(FedsegError):
    """Too few units answered in time."""

    code = "E601"
    exit_code = 6
    summary = "Fewer units answered before the deadline than the plan's quorum."


class UnavailableError(RoundError):
    """The unit does not answer this request. The one refusal the server sees; its cause stays in the unit's log."""

    code = "E602"
    summary = "A unit did not answer; the reason is in that unit's own log and never depends on a customer's row."


class UnreachableError(RoundError):
    """Nobody answers at the other end: the server, its link, or a process of one's own is down."""

    code = "E603"
    summary = "The server cannot be reached: it is down, its address is wrong, or the way to it is closed."


class NotStartedError(RoundError):
    """A process did not become healthy in time."""

    code = "E604"
    summary = "A process was started but did not become healthy in time; it has been stopped again."


class JobCancelledError(RoundError):
    """The job was cancelled before its last round was closed."""

    code = "E605"
    summary = (
        "The job was cancelled. Replies received so far stay logged; submitting the plan again goes on from there."
    )


class JobUnfinishedError(RoundError):
    """Someone waited for a job for as long as they wanted to, and it was not done."""

    code = "E606"
    summary = "The job did not end within the time it was waited for; it goes on."


class RunLostError(RoundError):
    """Flower no longer knows the run that a process works for; another run goes on from the ledger."""

    code = "E607"
    summary = "Flower lost a run, as when its link was restarted. The job goes on in another run, from the ledger."


class NotWitnessedError(RoundError):
    """Too few of the policy's witnesses have cosigned the unit's ledger. Nothing was charged, nothing released."""

    code = "E608"
    summary = "Too few of the policy's witnesses have cosigned the unit's ledger, so it releases nothing."


class TrustError(FedsegError):
    """Identity, signature or approval is missing or wrong."""

    code = "E701"
    exit_code = 7
    summary = "An identity, a signature or an approval is missing or wrong."


class PlanMismatchError(TrustError):
    """The plan at hand is not the plan that was agreed."""

    code = "E702"
    summary = "The plan at hand is not the plan that was agreed: their hashes differ."


class NotApprovedError(TrustError):
    """This unit has not approved the plan, so it answers nothing about it."""

    code = "E703"
    summary = "The unit has not approved this plan."


class StepAnsweredError(TrustError):
    """The step was answered already, to another request; answering twice would spend twice."""

    code = "E704"
    summary = "The unit answered this step already, to a different request."


class UnsupportedTrustError(TrustError):
    """The plan asks for a trust model this version cannot keep."""

    code = "E705"
    summary = "The plan's trust model is not available in this version, so no unit approves it."


class KeyFileError(TrustError):
    """A private key file is missing, malformed, or readable by others."""

    code = "E706"
    summary = "A private key file is missing, malformed, or readable by other users."


class CertificateError(TrustError):
    """The server's certificate was not issued by the authority this node trusts, or not for this name."""

    code = "E707"
    summary = "The server's certificate is not one that this node's CA certificate vouches for."


class ClockError(TrustError):
    """The clocks of node and server are too far apart for signed requests to be accepted."""

    code = "E708"
    summary = "This machine's clock is too far from the server's, so the server refuses what the node signs."


class NotAdmittedError(TrustError):
    """The server does not know the node's key, or believes the node is still connected."""

    code = "E709"
    summary = "The server does not let this node in: its key is not registered, or it counts as connected already."


class BundleError(TrustError):
    """The server sent an application bundle whose hash is not on the unit's allow-list; its code was not run."""

    code = "E710"
    summary = "The server's application bundle is not on this unit's allow-list. None of its code was run."


class EnrolmentError(TrustError):
    """A request to join, or the answer to one, is not what it should be. Nobody was let in."""

    code = "E711"
    summary = (
        "A request to join, or the answer to it, was changed, is too old, was used before, or is for somebody else."
    )


class ConsoleAccessError(TrustError):
    """What came to the console is not from its officer's browser, or not from one of its own pages."""

    code = "E715"
    summary = "The console was asked without its session, from another page or under another address. Nothing was done."


class DataError(FedsegError):
    """The unit's data is not what the plan's feature specification needs."""

    code = "E801"
    exit_code = 8
    summary = "The data source cannot be read as the plan needs it."


class MissingColumnError(DataError):
    """The source lacks a column the plan or the unit's settings name."""

    code = "E802"
    summary = "The data source lacks a column that the plan names."


class NotNumericError(DataError):
    """A numeric feature's column holds text."""

    code = "E803"
    summary = "A numeric feature's column holds text."


class StorageError(DataError):
    """The disk is full or cannot be written. What was committed is intact, what was not never left."""

    code = "E804"
    summary = "The disk is full or cannot be written. What was committed is intact; what was not never left."


class ContributionError(DataError):
    """A reply's bytes are not a release: the unit is asked again."""

    code = "E805"
    summary = "A reply could not be read as a release of this plan and step; the unit is asked again."


class RequestError(DataError):
    """A request's bytes are not a request of the approved plan."""

    code = "E806"
    summary = "A request could not be read as a request of the approved plan."


class ConsentEventError(DataError):
    """A consent event cannot be read; the import holds nothing of it."""

    code = "E807"
    summary = "A consent event could not be read."


class VerificationError(FedsegError):
    """A ledger or artefact does not check out."""

    code = "E901"
    exit_code = 9
    summary = "A ledger, signature or artefact does not check out: it was changed after it was signed."

    @property
    def fault(self) -> str:
        """Code of what an audit has found, such as L8-root; the error's own where it says nothing more precise."""
        return str(self.data.get("fault", self.code))


class LedgerUnreadableError(VerificationError):
    """The file is not a ledger this version can read."""

    code = "E902"
    summary = "The file is not a ledger that can be read: damaged, foreign, or of another version."


class RolledBackError(VerificationError):
    """The unit's ledger is an older copy, or one of two: its own key has signed what is not in it."""

    code = "E904"
    summary = "The unit's ledger is an older copy, or one of two. Nothing may be released on top of it."


class BrokenPromiseError(VerificationError):
    """An empirical audit saw more privacy loss than is promised."""

    code = "E903"
    summary = "An empirical audit of the noise saw more privacy loss than is promised: a fault in the software."


def error_class(code: str) -> type[FedsegError] | None:
    """The class with this code, if there is one."""
    return next((one for one in every_error() if one.code == code), None)


def every_error() -> list[type[FedsegError]]:
    """All error classes with their codes, in code order; `fedseg explain` and the reference page are made from this."""
    found: list[type[FedsegError]] = []
    waiting: list[type[FedsegError]] = [FedsegError]
    while waiting:
        error = waiting.pop()
        found.append(error)
        waiting.extend(error.__subclasses__())
    return sorted(found, key=lambda error: error.code)
