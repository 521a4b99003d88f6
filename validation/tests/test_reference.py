"""Both dialects and every way in which a CSV can be broken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from validation.errors import HarnessError
from validation.reference import parse_csv, read_csv
from validation.tests.conftest import make_csv, table


def to_release_dialect(text: str) -> str:
    """As the released binaries write it: blanks after separators, two before values of the rewrite, CRLF."""
    head, *rows = text.splitlines()
    lines = [head.replace(",", ", ")]
    lines += [",  ".join(row.split(",")) for row in rows]
    return "\r\n".join(lines) + "\r\n"


def test_both_dialects_give_the_same_table():
    source, release = table(make_csv()), table(to_release_dialect(make_csv()))
    assert (source.dialect, release.dialect) == ("source", "release")
    assert source.columns == release.columns
    np.testing.assert_array_equal(source.values, release.values)


def test_a_byte_order_mark_is_not_part_of_the_first_name():
    assert parse_csv(b"\xef\xbb\xbf" + make_csv().encode(), "x").columns[0] == "frame"


@pytest.mark.parametrize("word", ["nan", "-nan", "NaN", "nan(ind)", "-nan(ind)", "-NaN(ind)", "1.#QNAN", "-1.#IND", ""])
def test_every_spelling_of_not_a_number(word):
    lines = make_csv(3).splitlines()
    cells = lines[2].split(",")
    cells[7] = word
    lines[2] = ",".join(cells)
    values = table("\n".join(lines) + "\n").values
    assert np.isnan(values[1, 7])
    assert np.isfinite(np.delete(values.ravel(), values.shape[1] + 7)).all()


@pytest.mark.parametrize(("word", "value"), [("inf", np.inf), ("-inf", -np.inf), ("-1.#INF", -np.inf)])
def test_infinite_values(word, value):
    assert table(f"frame,success,x_0\n1,1,{word}\n").column("x_0")[0] == value


def test_a_last_line_with_too_few_values_is_left_out_and_counted():
    text = make_csv(5)
    cut = table(text[:-200])
    assert (len(cut.values), cut.truncated_lines) == (4, 1)


def test_a_last_value_that_is_shorter_than_the_others_is_cut_off_too():
    cut = table(make_csv(5)[:-2])  # "...1.0" instead of "...1.00\n"
    assert (len(cut.values), cut.truncated_lines) == (4, 1)


def test_a_whole_last_line_without_a_line_end_is_kept():
    whole = table(make_csv(5)[:-1])
    assert (len(whole.values), whole.truncated_lines) == (5, 0)


def test_a_short_line_in_the_middle_is_an_error_that_names_the_line():
    lines = make_csv(5).splitlines()
    lines[3] = lines[3].rsplit(",", 3)[0]
    with pytest.raises(HarnessError, match=r"made-up.csv, line 4: \d+ values where the header names"):
        table("\n".join(lines) + "\n")


def test_a_word_instead_of_a_number_is_an_error():
    with pytest.raises(HarnessError, match="data row 1: 'abc' is not a number"):
        table("frame,success,x_0\n1,1,abc\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("face,confidence\n0,0.9\n", "image mode"),
        ("a,b\n1,2\n", "no column 'frame'"),
        ("frame,x_0\n1,2\n", "no column 'success'"),
        ("frame,success,success\n1,1,1\n", "appears twice"),
        ("frame,success\n1.5,1\n", "whole numbers"),
        ("frame,success\n,1\n", "whole numbers"),
        ("frame,success\n1,1\n1,1\n", "frame 1 has face 0 twice"),
        ("frame,face_id,success\n1,3,1\n1,3,1\n", "frame 1 has face 3 twice"),
    ],
)
def test_clear_errors(text, message):
    with pytest.raises(HarnessError, match=message):
        table(text)


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"absent\.csv: cannot be read"):
        read_csv(tmp_path / "absent.csv")
    (tmp_path / "picture.csv").write_bytes(b"\xff\xd8\xff\xe0" * 10)
    with pytest.raises(HarnessError, match=r"picture\.csv: not a text file"):
        read_csv(tmp_path / "picture.csv")


def test_several_faces_in_a_frame_are_kept_apart():
    two = table(make_csv(4, faces=2))
    assert sorted(set(zip(two.frame.tolist(), two.face_id.tolist(), strict=True))) == [
        (f, i) for f in (1, 2, 3, 4) for i in (0, 1)
    ]


def test_a_header_alone_is_a_table_without_rows():
    assert table(make_csv(0)).values.shape == (0, len(table(make_csv(1)).columns))


def test_a_column_that_is_not_there_says_so(reference):
    with pytest.raises(HarnessError, match="no column 'X_0'"):
        reference.column("X_0")
