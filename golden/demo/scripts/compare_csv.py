"""Differences of two OpenFace CSVs, by group of columns.   python compare_csv.py A.csv B.csv"""

import re
import sys

import numpy as np
import pandas as pd

GROUPS = [
    ("confidence", r"confidence"),
    ("landmarks 2D (px)", r"[xy]_\d+"),
    ("landmarks 3D (mm)", r"[XYZ]_\d+"),
    ("eye landmarks 2D (px)", r"eye_lmk_[xy]_\d+"),
    ("eye landmarks 3D (mm)", r"eye_lmk_[XYZ]_\d+"),
    ("gaze vectors", r"gaze_[01]_[xyz]"),
    ("gaze angles (rad)", r"gaze_angle_[xy]"),
    ("pose T (mm)", r"pose_T[xyz]"),
    ("pose R (rad)", r"pose_R[xyz]"),
    ("p_scale", r"p_scale"),
    ("p_r (rad)", r"p_r[xyz]"),
    ("p_t (px)", r"p_t[xy]"),
    ("p_local (mm)", r"p_\d+"),
    ("AU intensity", r"AU\d+_r"),
    ("AU presence", r"AU\d+_c"),
]


def main(a, b):
    A, B = (pd.read_csv(f, skipinitialspace=True) for f in (a, b))
    for d in (A, B):
        d.columns = [c.strip() for c in d.columns]
    assert list(A.columns) == list(B.columns) and len(A) == len(B), "different columns or lengths"
    ok = (A.success.values == 1) & (B.success.values == 1)
    print(
        f"{len(A)} frames, both successful {ok.sum()}, success differs in {(A.success != B.success).sum()}; "
        "the lines below: successful frames"
    )
    for name, pat in GROUPS:
        c = [x for x in A.columns if re.fullmatch(pat, x)]
        if c:
            d = np.abs(A[c].values - B[c].values)[ok]
            print(
                f"{name:24s} max {d.max():7.3f}   mean {d.mean():.5f}   99.9 % below {np.quantile(d, 0.999):.3f}   "
                f"frames that differ {(d.max(1) > 0).sum()} of {len(d)}"
            )
    if (~ok).any():
        c = [x for x in A.columns if re.fullmatch(r"[xy]_\d+", x)]
        if c:
            worst = np.abs(A[c].values - B[c].values)[~ok].max()
            print(f"failed frames (the model drifts): landmarks 2D differ by up to {worst:.1f} px")


if __name__ == "__main__":
    main(*sys.argv[1:])
