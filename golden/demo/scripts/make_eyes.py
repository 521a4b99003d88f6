"""Step 6b: eye models (28 points: iris, lids, pupil), CCNF patch experts of two scales.

python make_eyes.py WORK_DIR PACK_DIR
"""

import os
import struct
import sys

import cv2
import face_model as fm
import formats as fo
import numpy as np
import torch
from make_training import random_amp
from shape_fit import PDM, align

N_MODES, K = 6, 2  # modes of the shape model, neurons per patch
SUP, RESP = 11, 11
AOI = SUP + RESP - 1
WINDOWS = (3, 5, 7, 9, 11, 15)
SCALES = ((1.0, 1.3), (1.5, 1.5))  # scale, width of the wanted response
STEPS = 700
NEUTRAL_EYES = fm.eye_shape(np.zeros(8), (0, 0))


def eye3d(amp, gaze, e):
    """28x3, mm.  The lids lie on a ball (the real depth model is too flat there: with six lid points the
    tilt of a flat eye could not be told from its shape)."""
    P = fm.eye_shape(amp, gaze)[e] * fm.MM
    c = (NEUTRAL_EYES[e][8] + NEUTRAL_EYES[e][14]) / 2 * fm.MM
    r2 = ((P - c) ** 2).sum(1)
    return np.c_[P, -np.sqrt(np.maximum(16.0**2 - r2, 9.0))]


def make_pdm(path, e, rng):
    mean = eye3d(np.zeros(8), (0, 0), e)
    c = mean.mean(0)
    mean = mean - c
    X = []
    for _ in range(1500):
        a = random_amp(rng)
        if rng.random() < 0.4:
            a[7] = rng.random()
        P = eye3d(a, (rng.normal(0, 1.3), rng.normal(0, 0.6)), e) - c - mean
        r = rng.normal(0, 0.05)  # the pupil changes its size
        P[20:] += r * (mean[20:] - mean[20:].mean(0)) * 3
        P += np.c_[0.05 * rng.normal() * mean[:, 0], 0.05 * rng.normal() * mean[:, 1], np.zeros(28)]
        X.append(P.T.reshape(-1))
    X = np.array(X)
    x, y, z = mean.T
    o, one = np.zeros(28), np.ones(28)
    T = np.array(
        [
            np.r_[one, o, o],
            np.r_[o, one, o],
            np.r_[o, o, one],
            np.r_[o, -z, y],
            np.r_[z, o, -x],
            np.r_[-y, x, o],
            mean.T.reshape(-1),
        ]
    )
    Q = np.linalg.qr(T.T)[0]
    X -= (X @ Q) @ Q.T
    _U, S, V = np.linalg.svd(X, full_matrices=False)
    V = V[:N_MODES].T
    V *= np.sign(V[np.abs(V).argmax(0), range(N_MODES)])
    print(
        "eye",
        e,
        "explained %.3f" % ((S[:N_MODES] ** 2).sum() / (S**2).sum()),
        "eigenvalues",
        np.round(S[:N_MODES] ** 2 / len(X), 2),
    )
    fo.write_pdm(path, mean.T.reshape(-1), V, S[:N_MODES] ** 2 / len(X))


def cut(img, L, pdm, fits, scale, rng):
    """Areas around disturbed guesses of the 28 points."""
    n = len(img)
    out, pos = np.zeros((n, 28, AOI, AOI), np.uint8), np.zeros((n, 28, 2), np.float32)
    for i in range(n):
        g, p = fits[i][0].copy(), fits[i][1]
        g[0] *= np.exp(rng.normal(0, 0.04))
        g[1:4] += rng.normal(0, 0.06, 3)
        g[4:6] += rng.normal(0, 0.9, 2) / scale * g[0]
        p = p * rng.uniform(-0.1, 1, len(p)) + rng.normal(0, 0.25, len(p)) * np.sqrt(pdm.E)
        cur = pdm.shape2d(g, p)
        ref = pdm.shape2d(np.array([scale, 0, 0, 0, 0, 0.0]), p)
        M = np.linalg.inv(align(cur, ref))
        a, b, c = M[0, 0], -M[0, 1], (AOI - 1) / 2
        pos[i] = (L[i] - cur) @ np.linalg.inv(np.array([[a, -b], [b, a]])).T + (RESP - 1) / 2
        for j, (x, y) in enumerate(cur):
            sim = np.array([[a, -b, x - a * c + b * c], [b, a, y - a * c - b * c]])
            out[i, j] = np.clip(
                cv2.warpAffine(img[i], sim, (AOI, AOI), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) + 0.5, 0, 255
            )
    return torch.from_numpy(out), torch.from_numpy(pos)


def train(aoi, pos, sigma, seed):
    """Per point: response = mean of K logistic units, weighted by alpha."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    E, B, far = 28, 16, 30
    W = (torch.randn(E, SUP * SUP, K, generator=g) * 0.5).requires_grad_()
    b = torch.full((E, 1, K), -2.0).requires_grad_()
    al = (torch.randn(E, 1, K, generator=g) * 0.1).requires_grad_()
    opt = torch.optim.Adam([W, b, al], 3e-2)
    sch = torch.optim.lr_scheduler.OneCycleLR(opt, 5e-2, STEPS)
    near = torch.stack(torch.meshgrid(torch.arange(-2, 3), torch.arange(-2, 3), indexing="ij"), -1).reshape(1, 1, 25, 2)
    ok = ((pos > -1) & (pos < RESP)).all(2)
    pools = [torch.where(ok[:, j])[0] for j in range(E)]
    off = torch.arange(SUP * SUP)
    off = (off % SUP) * AOI + off // SUP

    def batch(nb):
        ix = torch.stack([p[torch.randint(len(p), (nb,), generator=g)] for p in pools])
        a = aoi[ix, torch.arange(E)[:, None]].float()
        t = pos[ix, torch.arange(E)[:, None]].flip(2)
        yx = torch.cat(
            [
                (t.round().long()[:, :, None] + near).clamp(0, RESP - 1),
                torch.randint(RESP, (E, nb, far, 2), generator=g),
            ],
            2,
        )
        q = (yx[..., 0] * AOI + yx[..., 1])[..., None] + off
        u = torch.gather(a.reshape(E, nb, -1), 2, q.reshape(E, nb, -1)).reshape(E, -1, SUP * SUP)
        u = u - u.mean(2, keepdim=True)
        u = u / u.norm(dim=2, keepdim=True).clamp_min(1e-6)
        return u, torch.exp(-((t[:, :, None] - yx) ** 2).sum(-1) / (2 * sigma**2)).reshape(E, -1)

    def f(x):
        return (torch.softmax(al, 2) * torch.sigmoid(torch.bmm(x, W) + b)).sum(2).clamp(1e-5, 1 - 1e-5)

    for _s in range(STEPS):
        x, y = batch(B)
        loss = torch.nn.functional.binary_cross_entropy(f(x), y) + 1e-5 * (W**2).sum() / E
        opt.zero_grad()
        loss.backward()
        opt.step()
        sch.step()
    with torch.no_grad():
        x, y = batch(100)
        r = f(x)
        c = np.array([np.corrcoef(r[e], y[e])[0, 1] for e in range(E)])
    return W.detach().numpy(), b.detach().numpy(), torch.softmax(al, 2).detach().numpy(), c


def write_ccnf(path, scale, W, b, al, conf):
    out = struct.pack("<di", scale, 1) + fo.mat_bin(np.zeros((3, 1)), "f8") + fo.mat_bin(np.ones((28, 1)), "i4")
    out += struct.pack("<i", len(WINDOWS)) + b"".join(struct.pack("<2i", w, 0) for w in WINDOWS)  # no sigma components
    for j in range(28):
        out += struct.pack("<4i", 5, SUP, SUP, K)
        for k in range(K):
            w = W[j, :, k].reshape(SUP, SUP).T  # column by column -> matrix
            nrm = float(np.float32(np.linalg.norm(w)))
            out += struct.pack(
                "<2i3d", 2, 0, nrm, float(np.round(b[j, 0, k], 5)), float(np.round(10 * al[j, 0, k], 5))
            ) + fo.mat_bin(fo.short(w / nrm), "f4")
        out += struct.pack("<d", float(conf[j]))
    with open(path, "wb") as f:
        f.write(out)


def main(work, pack):
    torch.set_num_threads(1)
    d = np.load(f"{work}/train.npz")
    img = np.array([cv2.cvtColor(i, cv2.COLOR_BGR2GRAY) for i in d["img"]]).astype(np.float32)
    root = f"{pack}/model/model_eye"
    os.makedirs(f"{root}/pdms", exist_ok=True)
    os.makedirs(f"{root}/patch_experts", exist_ok=True)
    for e, side in enumerate(("left", "right")):
        pre = "left_" if side == "left" else ""
        pdm_file = "pdm_28_l_eye_3D_closed.txt" if side == "left" else "pdm_28_eye_3D_closed.txt"
        make_pdm(f"{root}/pdms/{pdm_file}", e, np.random.default_rng(71 + e))
        pdm = PDM(f"{root}/pdms/{pdm_file}")
        L = d["eyes"][:, e]
        fits = [pdm.fit(points, iters=25, reg=1.0) for points in L]
        names = []
        for scale, sigma in SCALES:
            aoi, pos = cut(img, L, pdm, fits, scale, np.random.default_rng(75 + e))
            W, b, al, c = train(aoi, pos, sigma, 77 + e)
            names.append(f"{pre}ccnf_patches_{scale:.2f}_synth_lid_.txt")
            write_ccnf(f"{root}/patch_experts/{names[-1]}", scale, W, b, al, c)
            print(
                side,
                scale,
                f"response correlation {c.mean():.3f} (min {c.min():.3f})",
                os.path.getsize(f"{root}/patch_experts/{names[-1]}"),
                "bytes",
                flush=True,
            )
        with open(f"{root}/clnf_{side}_synth.txt", "w") as f:
            f.write(f"PDM pdms/{pdm_file}\n" + "\n".join(f"PatchesCCNF patch_experts/{n}" for n in names))
        with open(f"{root}/main_clnf_synth_{side}.txt", "w") as f:
            f.write(f"LandmarkDetector clnf_{side}_synth.txt")


if __name__ == "__main__":
    main(*sys.argv[1:])
