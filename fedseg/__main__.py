"""`python -m fedseg` is `fedseg`."""

from fedseg.cli.main import run

run()
