"""The whole chain against the C++ program's own files: every byte of the CSV."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyfaceau import Config, extract
from pyfaceau._simd import LANES, WIDE
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


@needs_shared
@pytest.mark.skipif(WIDE == LANES, reason="this processor has no wider vectors than others")
def test_kernels_for_narrower_vectors_write_the_same_csv(tmp_path: Path) -> None:
    """What a processor without AVX-512 would compute: compiled for one, run on this one."""
    (clip,) = (SHARED / "videos").glob(f"{CLIPS[1]}.*")
    arguments = [
        "extract",
        str(clip),
        "--models",
        str(OPENFACE),
        "--landmarks",
        "clnf",
        "-o",
        str(tmp_path / "out.csv"),
    ]
    environment = {**os.environ, "NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"}
    subprocess.run([sys.executable, "-m", "pyfaceau", *arguments], env=environment, check=True, capture_output=True)
    expected = SHARED / "golden" / "clnf" / f"{CLIPS[1]}.csv"
    assert (tmp_path / "out.csv").read_bytes() == expected.read_bytes()
