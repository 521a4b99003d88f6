"""The two exception classes of pyfaceau. Messages name the file and the remedy."""

from __future__ import annotations


class PyfaceauError(Exception):
    """Something the user can mend: a missing, unreadable or wrong input, output or setting."""


class ModelError(PyfaceauError):
    """Model weights are missing, damaged, or of a kind that pyfaceau does not read."""
