"""Compare an OpenFace CSV with the ground truth of a clip.   python check_truth.py CSV TRUTH.npz"""

import sys

import numpy as np
import pandas as pd


def corr(a, b):
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float("nan")


def main(csv, truth):
    d = pd.read_csv(csv, skipinitialspace=True)
    d.columns = [c.strip() for c in d.columns]
    t = np.load(truth)
    n = len(d)
    ok = d.success.values == 1
    vis = t["visible"][:n]
    print(
        f"{n} frames, success {ok.sum()}; face visible {vis.sum()}, of these success {(ok & vis).sum()}; "
        f"success without a face {(ok & ~vis).sum()}"
    )
    m = ok & vis
    if "x_0" in d:
        L = np.stack([d[[f"{a}_{i}" for i in range(68)]].values for a in "xy"], -1)
        e = np.linalg.norm(L - t["landmarks"][:n], axis=2)[m]
        parts = {
            "jaw": slice(0, 17),
            "brows": slice(17, 27),
            "nose": slice(27, 36),
            "eyes": slice(36, 48),
            "mouth": slice(48, 68),
        }
        print(
            f"landmarks: mean error {e.mean():.2f} px, worst frame {e.mean(1).max():.2f};",
            ", ".join(f"{k} {e[:, s].mean():.2f}" for k, s in parts.items()),
        )
    if "eye_lmk_x_0" in d:
        E = np.stack([d[[f"eye_lmk_{a}_{i}" for i in range(56)]].values for a in "xy"], -1).reshape(n, 2, 28, 2)
        e = np.linalg.norm(E - t["eye_landmarks"][:n], axis=3)[m]
        print(
            f"eye landmarks: iris {e[:, :, :8].mean():.2f} px, lids {e[:, :, 8:20].mean():.2f}, "
            f"pupil {e[:, :, 20:].mean():.2f}"
        )
    if "gaze_angle_x" in d:
        o = m & (t["amplitudes"][:n, 7] < 0.3)
        print(
            "gaze angle against the iris shift (eyes open): correlation x {:.3f} y {:.3f}".format(
                *tuple(corr(d["gaze_angle_" + a].values[o], t["gaze_px"][:n][o, k]) for k, a in enumerate("xy"))
            )
        )
    if "p_rx" in d:
        print(
            "head rotation p_rx, p_ry, p_rz: mean absolute error {:.2f} {:.2f} {:.2f} degrees".format(
                *tuple(np.rad2deg(np.abs(d["p_" + a].values - t[a][:n])[m].mean()) for a in ("rx", "ry", "rz"))
            )
        )
    for k, au in enumerate(t["au_names"]):
        a = 5 * t["amplitudes"][:n, k]
        s = f"{au}: "
        if au + "_r" in d:
            v = d[au + "_r"].values
            s += f"intensity correlation {corr(v[m], a[m]):.3f}, mean absolute error {np.abs(v - a)[m].mean():.2f}; "
        if au + "_c" in d:
            v = d[au + "_c"].values
            on, off = m & (a > 2.5), m & (a < 0.25)
            s += f"presence {v[on].mean() if on.any() else float('nan'):.2f} when above 2.5, "
            s += f"{v[off].mean():.2f} when absent"
        print(s)


if __name__ == "__main__":
    main(*sys.argv[1:])
