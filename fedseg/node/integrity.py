"""Whether a unit's home is whole. Its node looks before it starts: nothing is released on top of what was changed."""

from fedseg.ledger.reading import check_log, read_ledger
from fedseg.node.home import NodeHome
from fedseg.node.witnessing import require_not_rolled_back
from fedseg.privacy.account import PrivacyAccount


def require_integrity(home: NodeHome) -> None:
    """Refuse a home whose ledger does not check out byte for byte, or gives no account, or whose register is none.

    Each operation on the ledger checks the tree and its newest signature anyway. This also looks at all that is older:
    every signature, and every byte that was sent.

    Raises:
        VerificationError: If the ledger does not check out, is damaged, or is of a later version.
        RolledBackError: If others have kept what its key has signed, and its ledger does not hold it.
        DataError, StorageError: If ledger or register cannot be read.
        KeyFileError: If the unit's key is missing or others may read it.
    """
    key = home.key.public
    check_log(read_ledger(home.path / "ledger.db"), key)
    with home.ledger() as ledger:
        PrivacyAccount(ledger).state()
        require_not_rolled_back(home, ledger.signed()[0])
    home.register().close()
