"""Everything an audit may find wrong: a stable code each, and for people what it says, what it means and what to do.

A code is a family and a word. Codes never change their meaning: scripts and audit reports quote them.

    L1   whose log it is            L9   price, reservation, cap     L13  an older state than was seen before
    L3   signatures                 L10  policy, plan and approval   L14  what must not stand in a ledger
    L6   order of checkpoints       L11  bytes that were sent        L15  two histories
    L7   form of entries            L12  one side against the other
    L8   place of entries           B1-3 the file that evidence comes in
                                    C1-12 certificates of erasure
"""

import enum

from fedseg.errors import VerificationError

_KEEP = "keep the file as evidence, rely on nothing in it, and ask its owner"
_AGAIN = "get it again from its owner; if it fails again, keep it as evidence"
_OFFICER = "tell the unit's privacy officer at once, and keep the file as evidence"
_CERTIFIED = "keep it as evidence, and ask the unit's privacy officer what was erased, and when"
_KEY_HOLDER = "Nobody but the key's owner can have written this."


class Fault(enum.Enum):
    """One way in which evidence fails; as text, its code."""

    def __init__(self, code: str, says: str, means: str, act: str) -> None:
        self.code = code
        """What scripts and reports call it."""
        self.says = says
        """One sentence: what was found."""
        self.means = means
        """What that implies, and who can have done it."""
        self.act = act
        """What to do about it, as the `fix` of an error."""

    def __str__(self) -> str:
        return self.code

    KEY = (
        "L1-key",
        "The ledger is signed with another key than the one it must be signed with.",
        "It is somebody else's, or was written anew under another key.",
        "compare fingerprints with the owner by telephone, and do not rely on it before they agree",
    )
    KEY_CHANGE = (
        "L1-key-change",
        "A key signs that the key before it has not introduced, or that has not itself taken over this ledger.",
        "Somebody without the ledger's key goes on with it, or the change of key was cut out.",
        "compare fingerprints with the owner by telephone, and do not rely on it before they agree",
    )
    OWNER = (
        "L1-owner",
        "The first entry does not say whose ledger this is.",
        "Its name is not that of its role and unit, so what it proves would be of nobody.",
        _KEEP,
    )
    PLAN_KEY = (
        "L1-plan",
        "The plan names another key for this unit, or does not name the unit.",
        "The ledger's owner is not the unit that the plan means, or signed with another key.",
        "compare the key in the plan with the unit's fingerprint by telephone",
    )
    SIGNATURE = (
        "L3-signature",
        "A checkpoint is not a note that the ledger's key has signed for this log.",
        "The checkpoint was changed or put in from elsewhere; its number of entries and root are worth nothing.",
        _AGAIN,
    )
    REPLACED = (
        "L3-replaced",
        "A checkpoint is signed with a key that the ledger had replaced before.",
        "Somebody has the old key, which its owner may have replaced for that very reason.",
        "keep the file as evidence, and tell the owner that the old key is still used",
    )
    CHECKPOINT_ORDER = (
        "L6-order",
        "The checkpoints do not grow, or cover more entries than there are.",
        "Entries at the end, or checkpoints between, were taken away or put in.",
        _AGAIN,
    )
    UNREADABLE = (
        "L7-unreadable",
        "The file is not a ledger that can be read.",
        "It is damaged, something else, or of another version.",
        _AGAIN,
    )
    FORM = (
        "L7-form",
        "An entry is not in its one canonical form.",
        "It was not written by this software, or changed after it was.",
        _AGAIN,
    )
    KIND = (
        "L7-kind",
        "An entry is of a kind that nobody of this role writes.",
        f"It can state things that no rule checks. {_KEY_HOLDER}",
        _KEEP,
    )
    FIELDS = (
        "L7-fields",
        "An entry lacks a field of its kind, or holds it in another format.",
        f"What it states cannot be recomputed. {_KEY_HOLDER}",
        _KEEP,
    )
    PLACE = (
        "L8-place",
        "An entry is not in its place: a gap, a second beginning, or bytes that belong to another entry.",
        "Entries were taken away, put in or reordered.",
        _AGAIN,
    )
    ROOT = (
        "L8-root",
        "A signed checkpoint is not over the entries that stand before it.",
        "An entry was changed, taken away, put in or reordered after it was signed.",
        _AGAIN,
    )
    UNCOVERED = (
        "L8-uncovered",
        "No signed checkpoint covers the last entry.",
        "Entries were added by somebody without the key, or a checkpoint was taken away.",
        _AGAIN,
    )
    CHARGE = (
        "L9-charge",
        "A release states another charge than its mechanism gives.",
        f"Customers lost more privacy than was booked, or less. {_KEY_HOLDER}",
        _KEEP,
    )
    MECHANISM = (
        "L9-mechanism",
        "A release used another mechanism than the approved plan's.",
        f"The noise, or what it was added to, is not what was agreed. {_KEY_HOLDER}",
        _KEEP,
    )
    PRICE = (
        "L9-price",
        "An approval reserved another price than its plan's.",
        f"The cap was checked against a wrong price. {_KEY_HOLDER}",
        _KEEP,
    )
    TOTAL = (
        "L9-total",
        "A running total is not the sum of its parts.",
        f"A release or approval was left out, or the total is made up. {_KEY_HOLDER}",
        _KEEP,
    )
    CAP = (
        "L9-cap",
        "More was reserved or spent than the cap in force allows.",
        f"Customers may have lost more privacy than the policy promises them. {_KEY_HOLDER}",
        _OFFICER,
    )
    UNRESERVED = (
        "L9-unreserved",
        "Something was released under a plan that was not approved, or in a round that the plan does not have.",
        f"Nothing was reserved for it. {_KEY_HOLDER}",
        _OFFICER,
    )
    TWICE = (
        "L9-twice",
        "A plan was approved twice, or a round answered twice.",
        f"One reservation was spent more than once. {_KEY_HOLDER}",
        _KEEP,
    )
    POLICY = (
        "L10-policy",
        "An entry about a policy does not say what the logged policy document says.",
        f"Nobody can tell which policy was in force. {_KEY_HOLDER}",
        _KEEP,
    )
    NOT_IN_FORCE = (
        "L10-in-force",
        "An approval or release names another policy than the one in force.",
        f"It was decided under a policy that is not logged, or not yet, or no longer in force. {_KEY_HOLDER}",
        _KEEP,
    )
    REFUSED = (
        "L10-refused",
        "An approval or release goes against the policy in force.",
        f"The unit did what its own policy forbids. {_KEY_HOLDER}",
        _OFFICER,
    )
    APPROVAL = (
        "L10-approval",
        "An approval does not say what the approved plan says.",
        f"Nobody can tell what was approved. {_KEY_HOLDER}",
        _KEEP,
    )
    UNSIGNED = (
        "L10-unsigned",
        "A policy came into force without the signatures of as many officers as it or the one before requires.",
        f"The unit's rules were changed behind its officers' backs. {_KEY_HOLDER}",
        _OFFICER,
    )
    DECIDED = (
        "L10-decided",
        "A plan was approved, refused or ended without the officers whom the policy in force asks for.",
        f"Somebody else decided in their place, or within other terms than the policy's. {_KEY_HOLDER}",
        _OFFICER,
    )
    REQUESTER = (
        "L10-requester",
        "An approval names a requester who has not signed the plan.",
        f"The plan was counted under somebody else's limit. {_KEY_HOLDER}",
        _KEEP,
    )
    ENDED = (
        "L10-ended",
        "An approval ended without a reason, too early or too late, or went on after its end.",
        f"Budget was given back, or spent, that should not have been. {_KEY_HOLDER}",
        _KEEP,
    )
    CLOCK = (
        "L8-clock",
        "An entry is dated before the one that stands before it.",
        "The unit's clock was set back, so that consents or approvals that had ended could count again.",
        _OFFICER,
    )
    RIGHTS = (
        "L8-rights",
        "The daily entries about rights requests have a gap, or one of them stands too early.",
        f"Rights requests of a day may have been left out. {_KEY_HOLDER}",
        _OFFICER,
    )
    ATTESTED = (
        "L10-attested",
        "An approval attests something else about shared customers than its plan needs.",
        f"The plan's epsilon rests on a word that the unit did not give. {_KEY_HOLDER}",
        _KEEP,
    )
    PAYLOAD = (
        "L11-payload",
        "Bytes that an entry vouches for are missing, were changed, or belong to no entry.",
        "They were changed or taken away after the entry was signed.",
        _AGAIN,
    )
    RELEASE = (
        "L11-release",
        "The bytes of a release are not a release of the plan that its unit has signed.",
        "They were changed or made up by somebody without the unit's key, or the unit broke the format.",
        _KEEP,
    )
    SENT = (
        "L11-sent",
        "An entry does not say what the bytes that were sent say.",
        f"The ledger tells another story than the signed reply. {_KEY_HOLDER}",
        _KEEP,
    )
    SERVER_PLAN = (
        "L12-plan",
        "The server's ledger holds a plan that is not the one it says, or holds it twice.",
        f"Nobody can tell which plan was run. {_KEY_HOLDER}",
        _KEEP,
    )
    CONTRIBUTION = (
        "L12-contribution",
        "A contribution answers no open round of a plan that the server has logged.",
        f"It was counted under another plan or request than the unit answered. {_KEY_HOLDER}",
        _KEEP,
    )
    ROUND = (
        "L12-round",
        "A round does not follow from the contributions before it.",
        "It names units that did not answer, too few of them, or is not the round that was open. " + _KEY_HOLDER,
        _KEEP,
    )
    PUBLICATION = (
        "L12-publication",
        "A published segmentation is not that of a finished run in this ledger, signed with this ledger's key.",
        f"It was published too early, for other units, or by somebody else. {_KEY_HOLDER}",
        _KEEP,
    )
    SEGMENTS = (
        "L12-segments",
        "The published segments are not those that the logged contributions give.",
        f"Numbers in the result were changed. {_KEY_HOLDER}",
        "use none of the segments, and keep the file as evidence",
    )
    UNPUBLISHED = (
        "L12-unpublished",
        "The server's ledger holds no published segmentation of this plan.",
        "The run is not finished, or its result does not come from it.",
        "ask the server's operator whether the run has ended, and for its ledger as it is now",
    )
    UNCHARGED = (
        "L12-uncharged",
        "The server counted a release that is not in its unit's ledger.",
        "The unit released something without charging it, gave you an older copy, or keeps a second ledger.",
        "ask the unit for its ledger as it is now; if the release is still missing, tell its privacy officer",
    )
    OTHER_BYTES = (
        "L12-other-bytes",
        "In a round that the server closed with a unit, that unit charged another release than the server counted.",
        "One of the two shows you another history than it lived: the bytes or the request differ.",
        "keep both files as evidence, and ask the unit and the server's operator for their ledgers once more",
    )
    NOISE = (
        "L12-noise",
        "A segmentation says that its noise was real, and a unit's ledger says that it was simulated.",
        f"The result is not differentially private, whatever it says. {_KEY_HOLDER}",
        "use none of the segments, and tell the units' privacy officers",
    )
    UNLOGGED = (
        "L10-unlogged",
        "A policy file is not the policy in force in its unit's ledger.",
        "You are shown other rules than the unit keeps, or rules that nobody has put in force yet.",
        "read the policy in the ledger, and ask the unit which of the two it means",
    )
    TERMS = (
        "L12-terms",
        "A segmentation states other terms than the plan that the units approved.",
        f"Its epsilon, its units or its rounds are not those of the run. {_KEY_HOLDER}",
        "use none of the segments, and ask the server's operator for the segmentation and the ledger",
    )
    STRAY = (
        "L12-stray",
        "A file beside the ledgers belongs to none of them, or cannot be read.",
        "It is of another run, or was changed.",
        "ask for the files of one run, all made from the same folder",
    )
    SHORTER = (
        "L13-shorter",
        "A ledger has fewer entries than it had when you, or a witness, last saw it.",
        "It is an older copy: what was logged since is kept from you. Ledgers never become shorter.",
        "ask its owner for the ledger as it is now; if they have no other, keep both as evidence",
    )
    REWRITTEN = (
        "L13-rewritten",
        "A ledger does not begin with the entries that were seen before.",
        f"Its history was written anew. {_KEY_HOLDER}",
        "keep both copies as evidence, and rely on neither",
    )
    FORK = (
        "L15-fork",
        "One key has signed two histories of the same log.",
        "Different people were shown different ledgers. The two signatures prove it to anybody.",
        "keep the proof file, show it to everybody who relies on this log, and rely on nothing its key signs",
    )
    RESULTS = (
        "L15-results",
        "One key has signed two different results of the same plan.",
        "A run has one result, which follows from its releases; different people were shown different segments.",
        "keep both files as evidence, use neither, and ask for the server's ledger",
    )
    NO_PROOF = (
        "L15-no-proof",
        "A file that claims to prove two histories proves nothing.",
        "The notes in it are not both signed by one key, or do not contradict each other.",
        "accuse nobody on its account",
    )
    ARCHIVE = (
        "B1-archive",
        "The file is not a bundle as this software packs it.",
        "It is damaged, something else, was packed anew by another program, or carries something hidden.",
        "ask for the file as `fedseg audit bundle` wrote it, and never unpack this one",
    )
    BUNDLE_SIZE = (
        "B1-size",
        "The bundle, or a size stated in it, is larger than any bundle may be.",
        "It is no bundle, or was made to exhaust whoever opens it.",
        "ask for the file as `fedseg audit bundle` wrote it, and never unpack this one",
    )
    MANIFEST = (
        "B2-manifest",
        "The list of files in the bundle cannot be read, or has names that no bundle has.",
        "It was changed, is of another version, or was made to write outside its folder when it is unpacked.",
        "ask for the file as `fedseg audit bundle` wrote it, and never unpack this one",
    )
    EMPTY = (
        "B2-empty",
        "The bundle holds no ledger.",
        "Without one there is nothing that anybody has signed, so nothing is proved.",
        "ask for a bundle made from the folder that the run has left",
    )
    MEMBER = (
        "B3-member",
        "A file in the bundle is not the one that the bundle's own list names.",
        "It was changed after the bundle was made.",
        _AGAIN,
    )
    FORBIDDEN = (
        "L14-field",
        "An entry holds a field that its kind does not have.",
        f"Ledgers are for ever, so no identifier and no count of customers may stand in one. {_KEY_HOLDER}",
        "do not pass the file on, for it may hold personal data, and tell its owner's privacy officer",
    )
    NO_CERTIFICATE = (
        "C1-form",
        "The file is not a certificate of erasure.",
        "It was changed, or is something else.",
        _CERTIFIED,
    )
    CERTIFICATE_KEY = (
        "C1-key",
        "No known key of the unit has signed the certificate.",
        "Anybody can have written it, or the key that you know is not the unit's.",
        "ask the unit for its public key by another way, and verify again with --key UNIT=PUBLICKEY",
    )
    UNCERTIFIED = (
        "C3-unlogged",
        "Nothing shows that the certificate is bound to the unit's ledger.",
        "It can have been written at any time, and withdrawn at any time.",
        _CERTIFIED,
    )
    BACKDATED = (
        "C4-days",
        "The days in the certificate do not follow each other.",
        f"It was not made when it says. {_KEY_HOLDER}",
        _CERTIFIED,
    )
    LATE = (
        "C4-late",
        "The erasure was completed after it was due.",
        "The unit answered later than the law allows.",
        "ask the unit why, or complain to the supervisory authority",
    )
    ROUNDS = (
        "C5-rounds",
        "The certificate says something else about rounds, their price or the policy than the unit's ledger.",
        f"Rounds may have counted the person that it does not name. {_KEY_HOLDER}",
        _CERTIFIED,
    )
    STORE_LEFT_OUT = (
        "C7-stores",
        "The certificate does not say of every store, once, what was done there.",
        "What it leaves out may still hold something about the person.",
        _CERTIFIED,
    )
    UNTOLD = (
        "C8-recipients",
        "The certificate names a recipient that was not told, or one twice.",
        "The recipient may still hold the person's data, and does not know that they are to be erased.",
        _CERTIFIED,
    )
    CLOSING = (
        "C9-backups",
        "The closing statement about backups is not this certificate's.",
        "It says nothing about whether backups with this person can still be read.",
        _CERTIFIED,
    )
    CONTRADICTED = (
        "C12-twice",
        "Two certificates of one request say different things.",
        f"One of them is not true. {_KEY_HOLDER}",
        _CERTIFIED,
    )


def accused(error: VerificationError, fault: Fault) -> VerificationError:
    """The error, naming its fault for scripts."""
    error.data = {**error.data, "fault": fault.code}
    return error


def fault_of(error: VerificationError) -> Fault:
    """The fault that an error of this package names."""
    return next(fault for fault in Fault if fault.code == error.data["fault"])
