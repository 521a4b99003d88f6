"""The CSV to the byte: number formatting, columns, dialects, and whole files from recorded values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyfaceau.face import Face
from pyfaceau.output.columns import Layout
from pyfaceau.output.decimal import RowFormatter
from pyfaceau.output.openface_csv import CsvWriter
from pyfaceau.tests.shared import SHARED, needs_shared, stage

INTENSITY = tuple(f"AU{n:02d}" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45))
PRESENCE = (*INTENSITY[:-1], "AU28", "AU45")
ALL_GROUPS = ("2d", "3d", "pdm", "pose", "aus", "gaze")


def python_row(values: np.ndarray, decimals: np.ndarray, separator: bytes = b",") -> bytes:
    """What the C library prints, by Python's own formatting: the specification of the kernel."""
    return separator.join(b"%.*f" % (int(k), float(v)) for v, k in zip(values, decimals, strict=True))


@pytest.mark.parametrize("places", range(7))
def test_formatter_equals_python(places: int) -> None:
    rng = np.random.default_rng(places)
    bits = rng.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    plain = (rng.normal(0, 1, 20_000) * 10.0 ** rng.integers(-7, 9, 20_000)).astype(np.float32)
    halves = (rng.integers(-4000, 4000, 20_000) / 16).astype(np.float32)  # many exact ties
    edges = np.array([0.0, -0.0, -0.04, 0.05, 0.25, -0.25, 0.75, 9.95, 1e7, -30709420.0, 3.4e38, 1e-45], np.float32)
    values = np.concatenate([bits[np.isfinite(bits) & (np.abs(bits) < 9e11)], plain, halves, edges])
    decimals = np.full(values.size, places, np.uint8)
    assert bytes(RowFormatter(decimals, b",")(values)) == python_row(values, decimals)


def test_formatter_mixes_decimals_and_separators() -> None:
    values = np.array([1.0, -0.0, 0.125, -12.5, 1234.5678], np.float32)
    decimals = np.array([0, 1, 2, 0, 3], np.uint8)
    assert bytes(RowFormatter(decimals, b",  ")(values)) == b"1,  -0.0,  0.12,  -12,  1234.568"


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf, 3e30])
def test_formatter_falls_back_to_python(special: float) -> None:
    values = np.array([1.5, special, -2.25], np.float32)
    decimals = np.array([1, 3, 1], np.uint8)
    assert bytes(RowFormatter(decimals, b",")(values)) == python_row(values, decimals)


def test_layout_has_openfaces_714_columns_in_order() -> None:
    names = Layout(ALL_GROUPS, 34, INTENSITY, PRESENCE).names
    assert len(names) == len(set(names)) == 714
    assert names[:8] == ("frame", "face_id", "timestamp", "confidence", "success", "gaze_0_x", "gaze_0_y", "gaze_0_z")
    assert (names[-35], names[-19], names[-18], names[-1]) == ("AU01_r", "AU45_r", "AU01_c", "AU45_c")
    assert names[293:296] == ("pose_Tx", "pose_Ty", "pose_Tz")


@pytest.mark.parametrize(
    ("group", "count"), [("gaze", 288), ("pose", 6), ("2d", 136), ("3d", 204), ("pdm", 40), ("aus", 35)]
)
def test_layout_of_one_group(group: str, count: int) -> None:
    assert len(Layout([group], 34, INTENSITY, PRESENCE).names) == 5 + count


def test_layout_rejects_unknown_groups() -> None:
    with pytest.raises(ValueError, match="4d"):
        Layout(["2d", "4d"], 34)


def some_face(frame: int = 1) -> Face:
    rng = np.random.default_rng(frame)

    def values(*shape: int) -> np.ndarray:
        return rng.normal(0, 100, shape).astype(np.float32)

    return Face(
        frame, 0, (frame - 1) / 30, True, True, 0.975, values(68, 2), values(68, 3), values(6), values(2, 3),
        values(2), values(56, 2), values(56, 3), values(6), values(34),
    )  # fmt: skip


def write(path: Path, groups: tuple[str, ...], dialect: str, rows: int = 3) -> bytes:
    writer = CsvWriter(path, Layout(groups, 34, INTENSITY, PRESENCE), dialect)
    for frame in range(1, rows + 1):
        writer.write(some_face(frame))
    writer.close(np.full((rows, 17), 0.125), np.ones((rows, 18)))
    writer.publish()
    return path.read_bytes()


def test_release_dialect_keeps_the_blanks_of_a_second_writing(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.csv", ("pose", "aus"), "release").split(b"\r\n")
    assert lines[0].startswith(b"frame, face_id, timestamp, confidence, success, pose_Tx, ")
    assert lines[1].startswith(b"1,  0,  0.000,  0.98,  1,  ")
    assert lines[1].endswith(b", 0.12, 1.00" + b", 1.00" * 17)
    assert lines[-1] == b"" and len(lines) == 5


def test_release_dialect_without_action_units_is_written_once(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.csv", ("pose",), "release").split(b"\r\n")
    assert lines[1].startswith(b"1, 0, 0.000, 0.98, 1, ")
    assert b",  " not in lines[1] and b"AU" not in lines[0]


def test_dialects_hold_the_same_values(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", ALL_GROUPS, "source")
    release = write(tmp_path / "b.csv", ALL_GROUPS, "release")
    assert release.replace(b" ", b"").replace(b"\r\n", b"\n") == source


def test_nothing_has_the_final_name_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    writer = CsvWriter(path, Layout(ALL_GROUPS, 34, INTENSITY, PRESENCE))
    writer.write(some_face())
    writer.close(np.zeros((1, 17)), np.zeros((1, 18)))
    assert not path.exists() and list(tmp_path.glob("*.part"))
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_action_units_must_fit_the_rows(tmp_path: Path) -> None:
    writer = CsvWriter(tmp_path / "a.csv", Layout(("aus",), 34, INTENSITY, PRESENCE))
    writer.write(some_face())
    with pytest.raises(ValueError, match="shape"):
        writer.close(np.zeros((2, 17)), np.zeros((2, 18)))
    writer.discard()


def recorded_faces(clip: str) -> list[Face]:
    light = stage(clip, "light")
    gaze = np.stack([light["gaze_left"], light["gaze_right"]], axis=1)
    return [
        Face(
            int(light["frames"][i]),
            0,
            float(light["timestamp"][i]),
            bool(light["returned_success"][i]),
            bool(light["detection_success"][i]),
            float(light["certainty"][i]),
            light["landmarks_2d"][i],
            light["landmarks_3d"][i],
            light["pose"][i],
            gaze[i],
            light["gaze_angle"][i],
            light["eye_landmarks_2d"][i],
            light["eye_landmarks_3d"][i],
            light["params_global"][i],
            light["params_local"][i],
        )
        for i in range(light["frames"].size)
    ]


@needs_shared
@pytest.mark.parametrize(
    ("clip", "golden"),
    [("video01", "torchopenface_video01"), ("2015-10-15-15-14", "openface_2015-10-15-15-14")],
)
def test_recorded_values_give_the_reference_file(tmp_path: Path, clip: str, golden: str) -> None:
    light = stage(clip, "light")
    names = [tuple(map(str, light[f"end.au_{kind}.names"])) for kind in ("intensity", "presence")]
    writer = CsvWriter(tmp_path / "out.csv", Layout(ALL_GROUPS, light["params_local"].shape[1], *names))
    for face in recorded_faces(clip):
        writer.write(face)
    writer.close(light["end.au_intensity_final"].T, light["end.au_presence_final"].T)
    writer.publish()
    assert (tmp_path / "out.csv").read_bytes() == (SHARED / "golden" / "clnf" / f"{golden}.csv").read_bytes()
