"""The whole chain against the C++ program's own files: every byte of the CSV."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfaceau import Config, extract
from pyfaceau.tests.shared import OPENFACE, SHARED, needs_shared

# A face too small for the parts, one that has them, pictures of 512 x 512, a face that turns up late and one that goes.
CLIPS = ["torchopenface_video01", "pyfeat_single_face", "liveportrait_driving_d0", "pyfeat_face_noface"]


@needs_shared
@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("threads", [1, 2])
def test_csv_is_the_reference_s_to_the_byte(tmp_path: Path, name: str, threads: int) -> None:
    """On processors with fused multiply-add, as the reference's: another BLAS kernel rounds otherwise."""
    (clip,) = (SHARED / "videos").glob(f"{name}.*")
    written = tmp_path / f"{name}.csv"
    extract(clip, Config(models=OPENFACE, landmarks="clnf", threads=threads), written)
    assert written.read_bytes() == (SHARED / "golden" / "clnf" / f"{name}.csv").read_bytes()
