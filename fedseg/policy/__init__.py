"""Who may be counted, for what, until when. Pure."""
