"""The two exception classes of the harness."""

from __future__ import annotations


class HarnessError(Exception):
    """Something the user can mend: a missing, malformed or mismatched file or setting. The message says what to do."""


class Undefined(ValueError):
    """A figure has no value for this data, for the reason given in the message; never reported as 0."""
