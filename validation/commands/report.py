"""``python -m validation report``: the work is done in `reports`."""

from __future__ import annotations

from reports.cli import add_arguments, execute

__all__ = ["add_arguments", "execute"]
