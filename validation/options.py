"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from validation.files import GOLDEN


def add_places(parser: argparse.ArgumentParser) -> None:
    """Where weights, clips and goldens are, and how many threads pyfaceau has."""
    parser.add_argument("--models", type=Path, help="folder of OpenFace's weights (default: the usual places)")
    parser.add_argument("--videos", type=Path, help="folder of clips (default: ../shared/videos, then the download)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--golden", type=Path, default=GOLDEN, help=argparse.SUPPRESS)
