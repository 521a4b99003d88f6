"""``python -m pyfaceau`` is the ``pyfaceau`` command."""

from __future__ import annotations

import sys

from pyfaceau.cli import main

if __name__ == "__main__":
    sys.exit(main())
