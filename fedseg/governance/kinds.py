"""Which documents there are: a vocabulary, of no weight for a command line that only asks for help."""

from enum import StrEnum


class Kind(StrEnum):
    """A document."""

    RECORD = "record"
    """Record of processing activities, GDPR Article 30(1)."""
    DPIA = "dpia"
    """Data protection impact assessment, GDPR Article 35, for the PIA software."""
    NOTICE = "notice"
    """What customers are told, GDPR Articles 13 and 14."""
