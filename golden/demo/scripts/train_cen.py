"""Step 4: CEN patch experts (122 -> H -> 1) for four scales and three views.   python train_cen.py WORK_DIR PACK_DIR"""

import os
import sys
import time

import cv2
import formats as fo
import numpy as np
import torch
from shape_fit import PDM, align

SCALES = [(0.25, 3), (0.35, 4), (0.50, 4), (1.00, 3)]  # scale, hidden units
CENTERS = [(0, 0, 0), (0, -20, 0), (0, 20, 0)]  # degrees; view 2 is the mirror image of view 1
HIDDEN_IN_1 = (15, 16)  # jaw points turned away at -20 degrees
MIRROR = (
    list(range(16, -1, -1))
    + list(range(26, 16, -1))
    + [27, 28, 29, 30]
    + [35, 34, 33, 32, 31]
    + [45, 44, 43, 42, 47, 46]
    + [39, 38, 37, 36, 41, 40]
    + [54, 53, 52, 51, 50, 49, 48]
    + [59, 58, 57, 56, 55]
    + [64, 63, 62, 61, 60]
    + [67, 66, 65]
)
AOI, SUP = 25, 11
RESP = AOI - SUP + 1
STEPS = int(os.environ.get("CEN_STEPS", 700))
SIGMA_T = 1.0


def cut(img, L, pdm, fits, scale, rng):
    """Areas of interest around disturbed landmarks, as the tracker cuts them, and where the truth lies in them."""
    n = len(img)
    out = np.zeros((n, 68, AOI, AOI), np.uint8)
    pos = np.zeros((n, 68, 2), np.float32)
    for i in range(n):
        g, p = fits[i]
        k = rng.random()
        gg = g.copy()
        gg[0] *= np.exp(rng.normal(0, 0.05))
        gg[1:4] += rng.normal(0, np.deg2rad(4), 3)
        pp = p * rng.uniform(0, 1) if k < 0.7 else p + rng.normal(0, 0.4, len(p)) * np.sqrt(pdm.E)
        gg[4:6] += rng.normal(0, 1.2, 2) / scale * g[0]
        cur = pdm.shape2d(gg, pp) + rng.normal(0, 0.8, (68, 2)) / scale * g[0]
        ref = pdm.shape2d(np.array([scale, 0, 0, 0, 0, 0]), pp)
        M = np.linalg.inv(align(cur, ref))
        a1, b1 = M[0, 0], -M[0, 1]
        c = (AOI - 1) / 2
        T = (L[i] - cur) @ np.linalg.inv(np.array([[a1, -b1], [b1, a1]])).T + (RESP - 1) / 2
        pos[i] = T
        gray = cv2.cvtColor(img[i], cv2.COLOR_BGR2GRAY).astype(np.float32)
        for j in range(68):
            x, y = cur[j]
            sim = np.array([[a1, -b1, x - a1 * c + b1 * c], [b1, a1, y - a1 * c - b1 * c]])
            out[i, j] = np.clip(
                cv2.warpAffine(gray, sim, (AOI, AOI), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP) + 0.5, 0, 255
            )
    return out, pos


def patches(a, yx):
    """Areas (E, B, AOI, AOI), response positions (E, B, K, 2) -> (E, B*K, 121): each patch column by
    column, zero mean, unit norm."""
    E, B, K = yx.shape[:3]
    k = torch.arange(SUP * SUP)
    off = (k % SUP) * AOI + k // SUP  # column-major walk through the 11x11 support
    ix = (yx[..., 0] * AOI + yx[..., 1])[..., None] + off  # E,B,K,121
    u = torch.gather(a.reshape(E, B, -1), 2, ix.reshape(E, B, -1)).reshape(E, B * K, -1)
    u = u - u.mean(2, keepdim=True)
    return u / u.norm(dim=2, keepdim=True).clamp_min(1e-6)


def train(pools, H, seed, steps):
    """pools: per expert (areas, positions).  Returns weights and the correlation with the wanted response."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    E, B = len(pools), 10
    W1 = (torch.randn(E, SUP * SUP, H, generator=g) * 0.8).requires_grad_()
    b1 = torch.full((E, 1, H), 0.1).requires_grad_()
    W2 = (torch.randn(E, H, 1, generator=g) * 0.5).requires_grad_()
    b2 = torch.full((E, 1, 1), -3.0).requires_grad_()
    par = [W1, b1, W2, b2]
    opt = torch.optim.Adam(par, 3e-2)
    sch = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-2, steps, pct_start=0.15)
    near = torch.stack(torch.meshgrid(torch.arange(-2, 3), torch.arange(-2, 3), indexing="ij"), -1).reshape(1, 1, 25, 2)

    def batch(nb, far=36):
        """The 5x5 responses around the truth and random ones elsewhere."""
        idx = [torch.randint(len(p[0]), (nb,), generator=g) for p in pools]
        a = torch.stack([p[0][ix] for p, ix in zip(pools, idx, strict=True)]).float()
        t = torch.stack([p[1][ix] for p, ix in zip(pools, idx, strict=True)]).flip(2)  # y, x
        yx = torch.cat(
            [
                (t.round().long()[:, :, None] + near).clamp(0, RESP - 1),
                torch.randint(RESP, (E, nb, far, 2), generator=g),
            ],
            2,
        )
        d2 = ((t[:, :, None] - yx) ** 2).sum(-1)
        y = torch.exp(-d2 / (2 * SIGMA_T**2)).reshape(E, -1, 1)
        w = torch.cat([torch.ones(25), torch.full((far,), 3.0)]).repeat(nb)[None, :, None]
        return patches(a, yx), y, w

    for _s in range(steps):
        x, y, w = batch(B)
        z = torch.bmm(torch.relu(torch.bmm(x, W1) + b1), W2) + b2
        loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y, w) + 2e-6 * (W1**2).sum() / E
        opt.zero_grad()
        loss.backward()
        opt.step()
        sch.step()
    with torch.no_grad():
        x, y, w = batch(60)
        r = torch.sigmoid(torch.bmm(torch.relu(torch.bmm(x, W1) + b1), W2) + b2)
        c = [float(np.corrcoef(r[e, :, 0], y[e, :, 0])[0, 1]) for e in range(E)]
    return [t.detach().numpy() for t in par], np.array(c), float(loss.detach())


def expert(par, e, conf):
    W1, b1, W2, b2 = par
    H = W1.shape[2]
    w = np.zeros((H, SUP * SUP + 1), np.float32)
    w[:, 1:] = W1[e].T
    w[:, 0] = 0.5 * b1[e, 0]  # half of the bias through the constant input ...
    return fo.cen_expert([(2, 0.5 * b1[e, 0], w), (0, b2[e, 0], W2[e].T)], conf)  # ... half as layer bias


def pool(i, view, cuts, yaw):
    """Areas and true places of a landmark in a view, those of its mirror image among them."""
    aoi, pos, fl, fpos = cuts
    front = torch.from_numpy(np.abs(yaw) < 14)
    neg, posy = torch.from_numpy(yaw < -5), torch.from_numpy(yaw > 5)
    j = MIRROR[i]
    if view == 0:
        a, p = [aoi[front, i]], [pos[front, i]]
        if j != i:
            a.append(fl[front, j])
            p.append(fpos[front, j])
    else:
        a, p = [aoi[neg, i], fl[posy, j]], [pos[neg, i], fpos[posy, j]]
    a, p = torch.cat(a), torch.cat(p)
    k = (p > 0).all(1) & (p < RESP - 1).all(1)
    return a[k], p[k]


def main(work, pack):
    torch.set_num_threads(1)
    d = np.load(f"{work}/train.npz")
    img, L, pose = d["img"], d["lm"], np.rad2deg(d["pose"])
    pdm = PDM(f"{pack}/model/pdms/In-the-wild_aligned_PDM_68.txt")
    fits = [pdm.fit(points, iters=25) for points in L]
    yaw = pose[:, 1]
    os.makedirs(f"{pack}/model/patch_experts", exist_ok=True)
    left = [i for i in range(68) if MIRROR[i] >= i]
    for si, (scale, H) in enumerate(SCALES):
        t0 = time.time()
        aoi, pos = cut(img, L, pdm, fits, scale, np.random.default_rng(41 + si))
        aoi, pos = torch.from_numpy(aoi), torch.from_numpy(pos)
        fl = aoi.flip(3)
        fpos = pos.clone()
        fpos[..., 0] = RESP - 1 - fpos[..., 0]
        cuts = (aoi, pos, fl, fpos)
        side = [i for i in range(68) if i not in HIDDEN_IN_1]
        p0, c0, l0 = train([pool(i, 0, cuts, yaw) for i in left], H, 100 + si, STEPS)
        p1, c1, l1 = train([pool(i, 1, cuts, yaw) for i in side], H, 200 + si, STEPS)
        empty = fo.cen_expert([], 0.0)
        v0 = [
            expert(p0, left.index(i), c0[left.index(i)]) if i in left else fo.cen_expert([], c0[left.index(MIRROR[i])])
            for i in range(68)
        ]
        v1 = [expert(p1, side.index(i), c1[side.index(i)]) if i in side else empty for i in range(68)]
        v2 = [fo.cen_expert([], c1[side.index(MIRROR[i])]) if MIRROR[i] in side else empty for i in range(68)]
        vis = [[1] * 68, [int(i in side) for i in range(68)], [int(MIRROR[i] in side) for i in range(68)]]
        path = f"{pack}/model/patch_experts/cen_patches_{scale:.2f}_of.dat"
        fo.write_cen(path, scale, CENTERS, vis, MIRROR, [0, 2, 1], [v0, v1, v2])
        print(
            f"scale {scale}: loss {l0:.4f} {l1:.4f}  response correlation "
            f"{c0.mean():.3f} (min {c0.min():.3f} at {left[c0.argmin()]}) "
            f"{c1.mean():.3f} (min {c1.min():.3f} at {side[c1.argmin()]})  "
            f"{os.path.getsize(path) // 1024} KiB  {time.time() - t0:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
