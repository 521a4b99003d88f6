"""Step 8: AU predictors.   python train_aus.py WORK_DIR PACK_DIR RUN_DIR

RUN_DIR holds the C++ program FeatureExtraction next to links model/ and
AU_predictors/ into the pack.  It tracks own training sequences with the pack's
landmark models and writes the HOG descriptors; linear models are fitted on those
and on the shape parameters.
"""

import os
import subprocess
import sys
import tempfile

import cv2
import face_model as fm
import formats as fo
import numpy as np
import pandas as pd
from shape_fit import PDM
from sklearn.svm import LinearSVC

N_SEQ, N_FRAMES = 7, 230
DYN = ("AU01", "AU02", "AU45")  # dynamic in the default list ...
NO_STATIC = ("AU02",)  # ... all others (and these but AU02) have static models
CUTOFF = {"AU01": 0.50, "AU02": 0.50, "AU45": 0.40}  # share of a video assumed to be neutral, halved
N_HOG = 420  # descriptor entries kept per AU (the other weights are 0)
GEOM_SCALE = 1 / 40.0


def sequence(rng, n):
    """Random AU events and head motion."""
    A = np.zeros((n, 8))
    t = np.arange(n)
    for k, au in enumerate(fm.AU_NAMES):
        x = rng.uniform(0, 40)
        while x < n:
            if au == "AU45":
                up, hold, down, gap = rng.integers(2, 5), rng.integers(1, 9), rng.integers(2, 6), rng.uniform(15, 55)
            else:
                up, hold, down, gap = (
                    rng.integers(4, 10),
                    rng.integers(3, 16),
                    rng.integers(5, 11),
                    rng.uniform(30, 110),
                )
            a = np.clip((t - x) / up, 0, 1)
            b = np.clip((x + up + hold + down - t) / down, 0, 1)
            f = np.minimum(a, b)
            A[:, k] = np.maximum(A[:, k], (rng.uniform(0.35, 1) if rng.random() < 0.7 else 1) * f * f * (3 - 2 * f))
            x += up + hold + down + gap
    if rng.random() < 0.5:
        A[:, 1] = A[:, 0]
    A[:, 5] = np.maximum(A[:, 5], 0.55 * A[:, 6])

    def s(lo, hi):
        return np.sin(2 * np.pi * (t / 30.0 / rng.uniform(lo, hi) + rng.random()))

    D = np.deg2rad
    pose = {
        "ry": D(rng.uniform(4, 12)) * s(3.5, 7),
        "rx": D(rng.uniform(3, 8)) * s(3, 6),
        "rz": D(rng.uniform(2, 8)) * s(4, 7),
        "scale": 1.86 * rng.uniform(0.92, 1.08) * (1 + 0.06 * s(4, 8)),
        "tx": 240 + 22 * s(4, 7),
        "ty": 178 + 9 * s(3, 6),
        "gx": 1.7 * rng.random() * np.tanh(3 * s(2, 5)),
        "gy": 0.6 * rng.random() * np.tanh(3 * s(2, 5)),
        "gain": rng.uniform(0.92, 1.08) * (1 + 0.04 * s(3, 6)),
        "lx": 0.12 * s(4, 9),
        "ly": 0.08 * s(4, 9),
    }
    return A, pose


def render_sequence(path, rng, n):
    A, p = sequence(rng, n)
    L = []
    with tempfile.TemporaryDirectory() as d:
        for i in range(n):
            cam = fm.camera(p["scale"][i], p["rz"][i], p["tx"][i], p["ty"][i])
            img = fm.render(fm.expression_image(A[i], (p["gx"][i], p["gy"][i])), p["rx"][i], p["ry"][i], cam)
            cv2.imwrite(f"{d}/{i:04d}.png", fm.finish(img, rng, p["gain"][i], 0, 1.3, (p["lx"][i], p["ly"][i])))
            L.append(fm.landmarks(A[i], p["rx"][i], p["ry"][i], cam))
        subprocess.check_call(
            [
                "ffmpeg",
                "-y",
                "-loglevel",
                "error",
                "-framerate",
                "30",
                "-i",
                f"{d}/%04d.png",
                "-c:v",
                "libx264",
                "-preset",
                "fast",
                "-crf",
                "21",
                "-pix_fmt",
                "yuv420p",
                "-threads",
                "1",
                path,
            ]
        )
    return A, np.array(L)


def geometry(csv, pdm):
    d = pd.read_csv(csv)
    d.columns = [c.strip() for c in d.columns]
    L = np.stack([d[[f"x_{i}" for i in range(68)]].values, d[[f"y_{i}" for i in range(68)]].values], -1)
    P = np.array([pdm.fit(points, iters=30)[1] for points in L])
    return np.c_[P @ pdm.V.T, P], d["success"].values == 1, L


def ridge(B, y, lam):
    """Weights and offset of a ridge regression."""
    w = np.linalg.solve(B.T @ B + lam * np.eye(B.shape[1]), B.T @ (y - y.mean()))
    return w, y.mean() - B.mean(0) @ w


def full(v, keep, scale):
    """Weights of all features from those of the kept ones, shortened."""
    f = np.zeros(len(scale))
    f[keep] = v
    return np.round(f * scale * 2**20) / 2**20


def main(work, pack, run):
    pdm = PDM(f"{pack}/AU_predictors/In-the-wild_aligned_PDM_68.txt")
    S, Dy, Y = [], [], []
    os.makedirs(f"{work}/au", exist_ok=True)
    for s in range(N_SEQ):
        v = f"{work}/au/seq{s}.mp4"
        if os.path.exists(v) and os.path.exists(v + ".npz"):  # pictures do not change when the models do
            q = np.load(v + ".npz")
            A, L = q["A"], q["L"]
        else:
            A, L = render_sequence(v, np.random.default_rng(810 + s), N_FRAMES)
            np.savez(v + ".npz", A=A, L=L)
        subprocess.check_call(
            [
                "./FeatureExtraction",
                "-f",
                os.path.abspath(v),
                "-mloc",
                "model/main_ceclm_general.txt",
                "-out_dir",
                os.path.abspath(f"{work}/au"),
                "-2Dfp",
                "-hogalign",
            ],
            cwd=run,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ, OPENBLAS_NUM_THREADS="1"),
        )
        H, _ = fo.read_hog(f"{work}/au/seq{s}.hog")
        G, ok, L2 = geometry(f"{work}/au/seq{s}.csv", pdm)
        err = np.linalg.norm(L2 - L, axis=2).mean(1)
        print(f"sequence {s}: success {ok.mean():.3f}, landmark error {err[ok].mean():.2f} px", flush=True)
        X = np.c_[H, G].astype(float)
        med = np.median(X[ok][::2], 0)
        med[: H.shape[1]] = np.maximum(med[: H.shape[1]], 0)
        ok &= err < 6
        S.append(X[ok])
        Dy.append((X - med)[ok])
        Y.append(A[ok])
    S, Dy, Y = np.concatenate(S), np.concatenate(Dy), np.concatenate(Y) * 5
    nh = H.shape[1]
    scale = np.r_[np.ones(nh), np.full(S.shape[1] - nh, GEOM_SCALE)]
    train = np.arange(len(S)) % 10 < 8  # blocks would be stricter; this is a smoke test only
    out = f"{pack}/AU_predictors"
    for sub in ("svr_combined", "svm_combined"):
        os.makedirs(f"{out}/{sub}", exist_ok=True)
        for f in os.listdir(f"{out}/{sub}"):
            os.remove(f"{out}/{sub}/{f}")
    mean = {"static": np.round(S.mean(0) * 256) / 256, "dynamic": np.round(Dy.mean(0) * 256) / 256}
    lists = {"best": [], "static": []}
    for kind, X in (("static", S), ("dynamic", Dy)):
        Z = (X - mean[kind]) * scale
        for k, au in enumerate(fm.AU_NAMES):
            if au in NO_STATIC if kind == "static" else au not in DYN:
                continue
            y = Y[:, k]
            c = np.abs(((Z - Z.mean(0)) * (y - y.mean())[:, None]).mean(0) / (Z.std(0) + 0.02))
            keep = np.r_[np.argsort(-c[:nh])[:N_HOG], np.arange(nh, Z.shape[1])]
            keep = np.sort(keep)
            w, b = ridge(Z[train][:, keep], y[train], 2.0)
            r = np.corrcoef(Z[~train][:, keep] @ w + b, y[~train])[0, 1]
            w, b = ridge(Z[:, keep], y, 2.0)
            # presence: on above 1 of 5; frames in between are left out
            pos = y > 1.0
            use = pos | (y < 0.5)
            svm = LinearSVC(C=0.2, class_weight="balanced", max_iter=8000, random_state=0, dual=True).fit(
                Z[use & train][:, keep], pos[use & train]
            )
            acc = svm.score(Z[use & ~train][:, keep], pos[use & ~train])
            n = int(au[2:])
            name = f"AU_{n}_{kind}_intensity_comb.dat"
            fo.write_svr(
                f"{out}/svr_combined/{name}",
                mean[kind],
                full(w, keep, scale),
                float(b),
                CUTOFF[au] if kind == "dynamic" else None,
            )
            fo.write_svm(
                f"{out}/svm_combined/AU_{n}_{kind}.dat",
                mean[kind],
                full(svm.coef_[0], keep, scale),
                float(svm.intercept_[0]),
                kind == "dynamic",
            )
            print(f"{au} {kind}: held-out correlation {r:.3f}, presence accuracy {acc:.3f}", flush=True)
    for au in fm.AU_NAMES:
        n = int(au[2:])
        for lst in lists:
            if lst == "static" and au in NO_STATIC:
                continue
            kind = "dynamic" if lst == "best" and au in DYN else "static"
            lists[lst].append(
                (f"svm_combined/AU_{n}_{kind}.dat {au}", f"svr_combined/AU_{n}_{kind}_intensity_comb.dat {au}")
            )
    for lst, lines in lists.items():
        with open(f"{out}/AU_all_{lst}.txt", "w") as f:
            f.write("\n".join([a for a, _ in lines] + [b for _, b in lines]))


if __name__ == "__main__":
    main(*sys.argv[1:])
