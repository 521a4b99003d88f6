"""Where tests find the demo pack: small weights of the project's own, and clips of the one face that they know."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfaceau.tests.shared import SHARED

_PLACES = (Path(__file__).resolve().parents[2] / "golden" / "demo", SHARED / "demo")
DEMO = next((place for place in _PLACES if (place / "pack" / "model").is_dir()), _PLACES[0])
PACK = DEMO / "pack"
CLIP = DEMO / "clips" / "astronaut_lost.mp4"  # 100 frames, 480x360; the face is lost twice
GOLDEN = DEMO / "golden" / "astronaut_lost.csv"
needs_demo = pytest.mark.skipif(not CLIP.is_file(), reason="needs the demo pack, golden/demo")
