"""Step 6: landmark validator (small net on the face warped to a mean shape).

python train_validator.py WORK_DIR PACK_DIR

The net answers with one of 20 classes; class 0 = landmarks right, class 19 = nothing like a face.
"""

import os
import struct
import sys

import cv2
import formats as fo
import numpy as np
import torch
import torch.nn as nn
from face_model import euler
from shape_fit import PDM
from train_mtcnn import backgrounds

VIEWS = [(0, 0, 0), (0, -20, 0), (0, 20, 0)]
SCALE = 0.235  # warped face: about 34 px wide
CH = (6, 10, 12, 24)
BINS = 20


def read_tri(path):
    with open(path) as f:
        v = f.read().split()
    return np.array(v[3:], int).reshape(-1, 3)


class Warp:
    """Piecewise affine warp onto a fixed shape, as OpenFace's PAW."""

    def __init__(self, dst, tri):
        self.dst, self.tri = dst.astype(np.float32), tri.astype(np.int32)
        self.min = dst.min(0)
        w, h = (dst.max(0) - self.min + 1.5).astype(int)
        j, k, m = (self.dst[tri[:, i]] for i in range(3))
        c1, c2, c4, c3 = m[:, 1] - j[:, 1], m[:, 0] - j[:, 0], k[:, 1] - j[:, 1], k[:, 0] - j[:, 0]
        c5 = c3 * c1 - c2 * c4
        self.alpha = np.stack([(j[:, 1] * c2 - j[:, 0] * c1) / c5, c1 / c5, -c2 / c5], 1)
        self.beta = np.stack([(j[:, 0] * c4 - j[:, 1] * c3) / c5, -c4 / c5, c3 / c5], 1)
        yy, xx = np.mgrid[0:h, 0:w]
        p = np.stack([xx.ravel() + self.min[0], yy.ravel() + self.min[1]], 1)
        b = self.alpha[None, :, 0] + p[:, :1] * self.alpha[:, 1] + p[:, 1:] * self.alpha[:, 2]
        c = self.beta[None, :, 0] + p[:, :1] * self.beta[:, 1] + p[:, 1:] * self.beta[:, 2]
        ok = (b >= 0) & (c >= 0) & (b + c <= 1)
        self.tid = np.where(ok.any(1), ok.argmax(1), -1).reshape(h, w).astype(np.int32)
        self.mask = (self.tid >= 0).astype(np.int32)
        self.p, self.n = p, int(self.mask.sum())

    def warp(self, gray, L):
        t = np.maximum(self.tid.ravel(), 0)
        b = self.alpha[t, 0] + self.p[:, 0] * self.alpha[t, 1] + self.p[:, 1] * self.alpha[t, 2]
        c = self.beta[t, 0] + self.p[:, 0] * self.beta[t, 1] + self.p[:, 1] * self.beta[t, 2]
        i, j, k = (L[self.tri[t, q]] for q in range(3))
        s = (i + (j - i) * b[:, None] + (k - i) * c[:, None]).astype(np.float32)
        return cv2.remap(
            gray, s[:, 0].reshape(self.tid.shape), s[:, 1].reshape(self.tid.shape), cv2.INTER_LINEAR
        )  # zero outside

    def vector(self, img):
        """Pixels inside the mask, column by column, zero mean, unit deviation."""
        v = img.T[self.mask.T > 0].astype(np.float64)
        s = v.std()
        return (v - v.mean()) / (s if s else 1)

    def image(self, v):
        out = np.zeros(self.tid.T.shape)
        out[self.mask.T > 0] = v
        return out.T

    def write(self):
        b = struct.pack("<i2d", self.n, *self.min)
        b += fo.mat_bin(self.dst.T.reshape(-1, 1), "f8") + fo.mat_bin(self.tri, "i4")
        b += fo.mat_bin(self.tid, "i4") + fo.mat_bin(self.mask, "i4")
        return b + fo.mat_bin(self.alpha, "f8") + fo.mat_bin(self.beta, "f8")


def quality(err_mm):
    """0: within 1 mm;  19: beyond 13 mm;  OpenFace accepts 0 to 4 (5 lies on the limit)."""
    return np.clip(np.ceil(np.maximum(err_mm - 1.0, 0) / 12.0 * 19), 0, 19).astype(int)


def pooled(s):
    return -(-(s - 2) // 2) + 1


def main(work, pack):
    torch.set_num_threads(1)
    rng = np.random.default_rng(61)
    d = np.load(f"{work}/train.npz")
    pdm = PDM(f"{pack}/model/pdms/In-the-wild_aligned_PDM_68.txt")
    tri = read_tri(f"{pack}/AU_predictors/tris_68_full.txt")
    bgs = [cv2.cvtColor(b, cv2.COLOR_BGR2GRAY) for b in backgrounds(rng)]
    n = len(d["img"])
    fits = [pdm.fit(points, iters=25) for points in d["lm"]]
    warps = [Warp(SCALE * (euler(*np.deg2rad(o))[:2] @ pdm.mean.reshape(3, -1)).T, tri) for o in VIEWS]
    S = {0: [], 1: [], 2: []}
    for i in range(0, n, 2):
        gray = cv2.cvtColor(d["img"][i], cv2.COLOR_BGR2GRAY)
        g, p = fits[i]
        for k in range(11):
            gg, pp, im = g.copy(), p.copy(), gray
            if k >= 1:  # ever larger mistakes
                m = (0, 0.35, 0.5, 0.7, 1, 1.6, 2.5, 4, 6, 8, 10)[k]
                gg[4:6] += rng.normal(0, 2.2 * m, 2) * g[0]
                gg[0] *= np.exp(rng.normal(0, 0.025 * m))
                gg[1:4] += rng.normal(0, 0.03 * m, 3)
                pp = pp * rng.uniform(0.4, 1) if m < 2 else pp + rng.normal(0, 0.5, len(p)) * np.sqrt(pdm.E)
            L = pdm.shape2d(gg, pp)
            err = np.linalg.norm(L - d["lm"][i], axis=1).mean() / g[0]
            if k == 9:  # something else where the face should be
                im = bgs[rng.integers(len(bgs))]
                s = min(im.shape) / 420
                gg = np.array(
                    [
                        g[0] * s * rng.uniform(0.6, 1.1),
                        *g[1:4],
                        rng.uniform(0.3, 0.7) * im.shape[1],
                        rng.uniform(0.3, 0.7) * im.shape[0],
                    ]
                )
                L, err = pdm.shape2d(gg, pp), 99.0
            if k == 10:  # a partly covered face
                im = gray.copy()
                x, y = L[:, 0], L[:, 1]
                f = rng.uniform(0.35, 1.1)
                side = rng.integers(4)
                x1, x2, y1, y2 = x.min() - 30, x.max() + 30, y.min() - 30, y.max() + 30
                if side == 0:
                    x2 = x.min() + f * np.ptp(x)
                elif side == 1:
                    x1 = x.max() - f * np.ptp(x)
                elif side == 2:
                    y2 = y.min() + f * np.ptp(y)
                else:
                    y1 = y.max() - f * np.ptp(y)
                b = np.clip([x1, x2, y1, y2], 0, [480, 480, 360, 360]).astype(int)
                fill = bgs[rng.integers(len(bgs))]
                fill = (
                    cv2.resize(fill, (480, 360))
                    if rng.random() < 0.7
                    else np.full((360, 480), rng.integers(256), np.uint8)
                )
                im[b[2] : b[3], b[0] : b[1]] = fill[b[2] : b[3], b[0] : b[1]]
                err = 99.0 if f > 0.45 else 9.0
            view = int(np.argmin([np.linalg.norm(gg[1:4] - np.deg2rad(v)) for v in VIEWS]))
            w = warps[view]
            S[view].append((w.vector(w.warp(im, L)).astype(np.float32), err))
            if k == 0:
                S[view] += [S[view][-1]]
    out = struct.pack("<2i", 3, len(VIEWS)) + b"".join(fo.mat_bin(np.array(v, float)[:, None], "f8") for v in VIEWS)
    for v, o in enumerate(VIEWS):
        w = warps[v]
        V = np.array([a for a, _ in S[v]])
        q = quality(np.array([e for _, e in S[v]]))
        mean, std = V[q < 5].mean(0), V.std(0) + 0.05
        X = torch.from_numpy(np.array([w.image(a) for a in (V - mean) / std], np.float32))[:, None]
        y = torch.from_numpy(q)
        torch.manual_seed(v)
        h, wd = w.tid.shape
        h2, w2 = (pooled(pooled(pooled(a - 4) - 2) - 2) for a in (h, wd))
        net = nn.Sequential(
            nn.Conv2d(1, CH[0], 5),
            nn.ReLU(),
            nn.MaxPool2d(2, 2, ceil_mode=True),
            nn.Conv2d(CH[0], CH[1], 3),
            nn.ReLU(),
            nn.MaxPool2d(2, 2, ceil_mode=True),
            nn.Conv2d(CH[1], CH[2], 3),
            nn.ReLU(),
            nn.MaxPool2d(2, 2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(CH[2] * h2 * w2, CH[3]),
            nn.ReLU(),
            nn.Linear(CH[3], BINS),
        )
        perm = torch.randperm(len(X), generator=torch.Generator().manual_seed(v))
        tr, te = perm[len(X) // 10 :], perm[: len(X) // 10]
        steps = 1000 if v == 0 else 800
        opt = torch.optim.Adam(net.parameters(), 3e-3, weight_decay=1e-4)
        sch = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, steps)
        for _ in range(steps):
            ix = tr[torch.randint(len(tr), (128,))]
            t = torch.exp(-(((torch.arange(BINS)[None] - y[ix][:, None]) / 1.2) ** 2))  # neighbours are nearly right
            t[y[ix] == 0] = nn.functional.one_hot(torch.zeros(1, dtype=torch.long), BINS).float()
            t[y[ix] == 19] = nn.functional.one_hot(torch.full((1,), 19), BINS).float()
            loss = (
                -(
                    t
                    / t.sum(1, keepdim=True)
                    * nn.functional.log_softmax(net(X[ix] + 0.25 * torch.randn(X[ix].shape) * (X[ix] != 0)), 1)
                )
                .sum(1)
                .mean()
            )
            opt.zero_grad()
            loss.backward()
            opt.step()
            sch.step()
        net.eval()
        with torch.no_grad():
            a = net(X[te]).argmax(1)
        good, bad = y[te] <= 1, y[te] >= 10
        print(
            f"view {o}: {len(X)} samples, {h}x{wd} px, "
            f"right landmarks accepted {float((a[good] < 5).float().mean()):.4f}, "
            f"bad refused {float((a[bad] >= 6).float().mean()):.4f}",
            flush=True,
        )
        ls = []
        for m in net:
            if isinstance(m, nn.Conv2d):
                ls.append(("conv", m.weight.detach().numpy(), m.bias.detach().numpy()))
            elif isinstance(m, nn.ReLU):
                ls.append(("relu",))
            elif isinstance(m, nn.MaxPool2d):
                ls.append(("pool",))
            elif isinstance(m, nn.Linear):
                wt = m.weight.detach().numpy()
                if wt.shape[0] == CH[3]:
                    wt = fo.fc_from_chw(wt, CH[2], h2, w2)
                ls.append(("fc", wt, m.bias.detach().numpy()))
        out += (
            fo.mat_bin(np.round(mean[None], 4), "f8")
            + fo.mat_bin(np.round(std[None], 4), "f8")
            + fo.net_layers(ls, False)
            + w.write()
        )
    os.makedirs(f"{pack}/model/detection_validation", exist_ok=True)
    p = f"{pack}/model/detection_validation/validator_cnn_68.txt"
    with open(p, "wb") as f:
        f.write(out)
    print(os.path.getsize(p), "bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
