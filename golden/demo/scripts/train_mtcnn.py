"""Step 5: face detector (three small nets, MTCNN cascade).   python train_mtcnn.py WORK_DIR PACK_DIR

Faces: the synthetic pictures of step 3.  Background: the same pictures away from
the face, the rest of the photo, and other pictures of scikit-image that are
public domain or CC0 (camera, coffee, chelsea, rocket, hubble_deep_field, brick,
grass, gravel).
"""

import os
import sys
import time

import cv2
import formats as fo
import numpy as np
import torch
import torch.nn as nn
from skimage import data

PW, RW, OW = (8, 12, 16), (12, 16, 24, 32), (12, 20, 24, 32, 48)


def seq(*ls):
    return nn.Sequential(*ls)


def pnet():
    a, b, c = PW
    return seq(
        nn.Conv2d(3, a, 3),
        nn.PReLU(a),
        nn.MaxPool2d(2, 2, ceil_mode=True),
        nn.Conv2d(a, b, 3),
        nn.PReLU(b),
        nn.Conv2d(b, c, 3),
        nn.PReLU(c),
        nn.Conv2d(c, 6, 1),
    )


def rnet():
    a, b, c, d = RW
    return seq(
        nn.Conv2d(3, a, 3),
        nn.PReLU(a),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(a, b, 3),
        nn.PReLU(b),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(b, c, 2),
        nn.PReLU(c),
        nn.Flatten(),
        nn.Linear(9 * c, d),
        nn.PReLU(d),
        nn.Linear(d, 6),
    )


def onet():
    a, b, c, d, e = OW
    return seq(
        nn.Conv2d(3, a, 3),
        nn.PReLU(a),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(a, b, 3),
        nn.PReLU(b),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(b, c, 3),
        nn.PReLU(c),
        nn.MaxPool2d(2, 2, ceil_mode=True),
        nn.Conv2d(c, d, 2),
        nn.PReLU(d),
        nn.Flatten(),
        nn.Linear(9 * d, e),
        nn.PReLU(e),
        nn.Linear(e, 6),
    )


def export(net, path, last_map=None):
    ls, after_flat = [], False
    for m in net:
        if isinstance(m, nn.Conv2d):
            w, b = m.weight.detach().numpy(), m.bias.detach().numpy()
            if m.kernel_size == (1, 1):  # PNet's last layer is stored as fully connected
                ls.append(("fc", w[:, :, 0, 0], b))
            else:
                ls.append(("conv", w, b))
                chans = w.shape[0]
        elif isinstance(m, nn.PReLU):
            ls.append(("prelu", m.weight.detach().numpy()))
        elif isinstance(m, nn.MaxPool2d):
            k, s = m.kernel_size, m.stride
            ls.append(("pool", k, k, s, s))
        elif isinstance(m, nn.Flatten):
            after_flat = True
        elif isinstance(m, nn.Linear):
            w = m.weight.detach().numpy()
            if after_flat:
                w, after_flat = fo.fc_from_chw(w, chans, 3, 3), False
            ls.append(("fc", w, m.bias.detach().numpy()))
    with open(path, "wb") as f:
        f.write(fo.net_layers(ls, True))


def face_box(L):
    """x1, y1, x2, y2 such that the tracker's fixed correction gives the box around the landmarks."""
    x1, y1 = np.moveaxis(L.min(-2), -1, 0)
    x2, y2 = np.moveaxis(L.max(-2), -1, 0)
    w, h = (x2 - x1) / 1.0323, (y2 - y1) / 0.7751
    bx, by = x1 + 0.0075 * w, y1 - 0.2459 * h
    return np.stack([bx, by, bx + w, by + h], -1)


def iou(b, g):
    iw = np.clip(np.minimum(b[..., 2], g[..., 2]) - np.maximum(b[..., 0], g[..., 0]), 0, None)
    ih = np.clip(np.minimum(b[..., 3], g[..., 3]) - np.maximum(b[..., 1], g[..., 1]), 0, None)
    i = iw * ih
    return i / (
        (b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) + (g[..., 2] - g[..., 0]) * (g[..., 3] - g[..., 1]) - i
    )


def norm(x):
    """BGR uint8/float HWC batch -> RGB CHW tensor."""
    return torch.from_numpy(np.ascontiguousarray((np.asarray(x, np.float32)[..., ::-1] - 127.5) * 0.0078125)).permute(
        0, 3, 1, 2
    )


def crop(img, b, n):
    """The detector's way of cutting a proposal: one pixel up and left, zero outside, plain bilinear."""
    x, y, w, h = int(b[0]), int(b[1]), int(b[2] - b[0]), int(b[3] - b[1])
    t = np.zeros((h + 1, w + 1, 3), np.float32)
    H, W = img.shape[:2]
    xi, yi = max(x - 1, 0), max(y - 1, 0)
    xe, ye = min(x + w, W), min(y + h, H)
    if xe > xi and ye > yi:
        xo, yo = max(1 - x, 0), max(1 - y, 0)
        t[yo : yo + ye - yi, xo : xo + xe - xi] = img[yi:ye, xi:xe]
    return cv2.resize(t, (n, n))


def nms(b, s, thr, minimum=False):
    order, keep = list(np.argsort(-s, kind="stable")), []
    while order:
        i = order.pop(0)
        keep.append(i)
        rest = []
        for j in order:
            iw = min(b[i, 2], b[j, 2]) - max(b[i, 0], b[j, 0])
            ih = min(b[i, 3], b[j, 3]) - max(b[i, 1], b[j, 1])
            inter = max(iw, 0) * max(ih, 0)
            a, c = (b[i, 2] - b[i, 0]) * (b[i, 3] - b[i, 1]), (b[j, 2] - b[j, 0]) * (b[j, 3] - b[j, 1])
            if inter / (min(a, c) if minimum else a + c - inter) <= thr:
                rest.append(j)
        order = rest
    return keep


def correct(b, c):
    w, h = b[:, 2] - b[:, 0], b[:, 3] - b[:, 1]
    return b + c * np.stack([w, h, w, h], 1)


def square(b):
    w, h = b[:, 2] - b[:, 0], b[:, 3] - b[:, 1]
    m = np.maximum(w, h)
    x, y = np.trunc(b[:, 0] + 0.5 * (w - m)), np.trunc(b[:, 1] + 0.5 * (h - m))
    m = np.trunc(m)
    return np.stack([x, y, x + m, y + m], 1)


def pyramid(img):
    H, W = img.shape[:2]
    for i in range(int(np.floor(np.log(60 / min(H, W)) / np.log(0.709))) + 1):
        s = 12 / 60 * 0.709**i
        yield s, cv2.resize(img.astype(np.float32), (int(np.ceil(W * s)), int(np.ceil(H * s))))


@torch.no_grad()
def stage1(net, img, t=0.6):
    B, S, C = [], [], []
    for s, im in pyramid(img):
        if min(im.shape[:2]) < 12:
            continue
        o = net(norm(im[None]))[0].numpy()
        p = 1 / (1 + np.exp(o[0] - o[1]))
        y, x = np.where(p >= t)
        b = np.stack(
            [
                np.trunc((2 * x + 1) / s),
                np.trunc((2 * y + 1) / s),
                np.trunc((2 * x + 12) / s),
                np.trunc((2 * y + 12) / s),
            ],
            1,
        )
        sc, c = p[y, x], o[2:, y, x].T
        k = nms(b, sc, 0.5)
        B.append(b[k])
        S.append(sc[k])
        C.append(c[k])
    B, S, C = np.concatenate(B), np.concatenate(S), np.concatenate(C)
    k = nms(B, S, 0.7)
    return square(correct(B[k], C[k]))


@torch.no_grad()
def stage2(net, img, boxes, n, t=0.7):
    if not len(boxes):
        return boxes, np.zeros(0), np.zeros((0, 4))
    o = net(norm([crop(img, b, n) for b in boxes])).numpy()
    p = 1 / (1 + np.exp(o[:, 0] - o[:, 1]))
    k = p >= t
    return boxes[k], p[k], o[k, 2:]


def detect(nets, img):
    b = stage1(nets[0], img)
    b, p, c = stage2(nets[1], img, b, 24)
    k = nms(b, p, 0.7)
    b = square(correct(b[k], c[k]))
    b, p, c = stage2(nets[2], img, b, 48)
    b = correct(b, c)
    k = nms(b, p, 0.7, True)
    return b[k], p[k]


def backgrounds(rng):
    """Free pictures without the face."""
    a = data.astronaut()[:, :, ::-1].copy()
    out = [a[190:, :], a[:, 305:], a[200:500, 0:300]]
    for nm in ("camera", "coffee", "chelsea", "rocket", "hubble_deep_field", "brick", "grass", "gravel"):
        im = getattr(data, nm)()
        im = cv2.cvtColor(im, cv2.COLOR_GRAY2BGR) if im.ndim == 2 else im[:, :, 2::-1]
        out.append(im[:640, :800])
    import make_clips

    for _k in range(3):
        im = out[rng.integers(len(out))]
        im = cv2.resize(im, (480, 360)).astype(np.float32)
        out.append(make_clips.board(im, rng.uniform(0.6, 1.0)).astype(np.uint8))
    return [cv2.resize(o, None, fx=s, fy=s) for o in out for s in (1.0, 0.6) if min(o.shape[:2]) * s > 150]


def fit(net, X, y, r, m_cls, m_reg, steps, seed, lr=4e-3):
    """Cross entropy where m_cls, squared error of the box where m_reg."""
    torch.manual_seed(seed)
    opt = torch.optim.Adam(net.parameters(), lr, weight_decay=1e-5)
    sch = torch.optim.lr_scheduler.OneCycleLR(opt, lr, steps)
    g = torch.Generator().manual_seed(seed)
    X, y, r = norm(X), torch.from_numpy(y), torch.from_numpy(r.astype(np.float32))
    m_cls, m_reg = torch.from_numpy(m_cls), torch.from_numpy(m_reg)
    pos, neg = torch.where(m_reg)[0], torch.where(m_cls & (y == 0))[0]
    for _s in range(steps):
        ix = torch.cat(
            [pos[torch.randint(len(pos), (96,), generator=g)], neg[torch.randint(len(neg), (160,), generator=g)]]
        )
        o = net(X[ix]).reshape(len(ix), 6)
        mc, mr = m_cls[ix], m_reg[ix]
        loss = nn.functional.cross_entropy(o[mc][:, :2], y[ix][mc]) + 4 * ((o[mr][:, 2:] - r[ix][mr]) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        sch.step()
    with torch.no_grad():
        o = torch.cat([net(X[i : i + 2000]).reshape(-1, 6) for i in range(0, len(X), 2000)])
        c = (o[:, 1] > o[:, 0]).long()
        right = c == y
        print(
            f"   samples {len(X)}, accuracy faces {right[m_cls & (y == 1)].float().mean():.4f} "
            f"background {right[m_cls & (y == 0)].float().mean():.5f}, "
            f"box error {(o[m_reg][:, 2:] - r[m_reg]).abs().mean():.4f}",
            flush=True,
        )
    net.eval()
    return net


def labels(b, g):
    i = iou(b, g)
    w, h = b[:, 2] - b[:, 0], b[:, 3] - b[:, 1]
    r = (g - b) / np.stack([w, h, w, h], 1)
    y = (i > 0.56).astype(np.int64)
    return y, r, (i > 0.56) | (i < 0.30), i > 0.42


def sample_boxes(rng, g, n, W, H):
    """Square boxes near the face (all qualities) and anywhere."""
    c = (g[:2] + g[2:]) / 2
    s = max(g[2] - g[0], g[3] - g[1])
    k = rng.random(n)
    sz = np.where(k < 0.7, s * np.exp(rng.normal(-0.05, 0.18, n)), np.exp(rng.uniform(np.log(50), np.log(340), n)))
    sp = np.where(k < 0.35, 0.07, 0.25)[:, None]
    cc = np.where((k < 0.7)[:, None], c + rng.normal(0, 1, (n, 2)) * sp * s, rng.uniform(0, 1, (n, 2)) * (W, H))
    b = np.c_[cc - sz[:, None] / 2, cc + sz[:, None] / 2]
    return np.trunc(b)


def main(work, pack):
    torch.set_num_threads(1)
    t0 = time.time()
    torch.manual_seed(50)
    rng = np.random.default_rng(51)
    d = np.load(f"{work}/train.npz")
    img = d["img"][::2]
    G = face_box(d["lm"][::2])
    # some pictures much smaller or larger than the clips'
    extra_i, extra_g = [], []
    for _ in range(250):
        i = rng.integers(len(img))
        s = np.exp(rng.uniform(np.log(0.5), np.log(1.35)))
        M = np.array([[s, 0, rng.uniform(-40, 40) + 240 * (1 - s)], [0, s, rng.uniform(-40, 40) + 180 * (1 - s)]])
        extra_i.append(cv2.warpAffine(img[i], M, (480, 360), borderValue=tuple(rng.integers(0, 255, 3).tolist())))
        extra_g.append(np.r_[G[i][:2] * s + M[:, 2], G[i][2:] * s + M[:, 2]])
    img = np.concatenate([img, np.array(extra_i)])
    G = np.concatenate([G, np.array(extra_g)])
    bgs = backgrounds(rng)
    far = np.array([-1e4, -1e4, -9.9e3, -9.9e3])
    # ---- PNet: 12x12 windows of the pyramid
    X, B, T = [], [], []
    for i, im in enumerate(img):
        for s, p in pyramid(im):
            h, w = (p.shape[0] - 12) // 2, (p.shape[1] - 12) // 2
            yy, xx = np.mgrid[0 : h + 1, 0 : w + 1]
            b = np.stack([(2 * xx + 1) / s, (2 * yy + 1) / s, (2 * xx + 12) / s, (2 * yy + 12) / s], -1).reshape(-1, 4)
            q = iou(b, G[i])
            pick = np.r_[np.where(q > 0.42)[0], rng.choice(np.where(q < 0.3)[0], min(6, (q < 0.3).sum()), False)]
            if rng.random() < 0.6:
                near = np.where((q > 0.1) & (q < 0.3))[0]
                pick = np.r_[pick, rng.choice(near, min(5, len(near)), False)]
            for k in pick:
                y, x = 2 * yy.ravel()[k], 2 * xx.ravel()[k]
                X.append(p[y : y + 12, x : x + 12])
                B.append(b[k])
                T.append(G[i])
    for im in bgs:
        for _, p in pyramid(im):
            h, w = p.shape[0] - 12, p.shape[1] - 12
            for _ in range(min(150, (h + 1) * (w + 1))):
                y, x = rng.integers(h + 1), rng.integers(w + 1)
                X.append(p[y : y + 12, x : x + 12])
                B.append(np.array([0, 0, 50, 50.0]))
                T.append(far)
    print(f"PNet, samples after {time.time() - t0:.0f} s", flush=True)
    P = fit(pnet(), np.array(X), *labels(np.array(B), np.array(T)), 2200, 1)
    # ---- RNet and ONet: random boxes plus what the stages before let through
    nets = [P]
    for name, make, n, steps, seed in (("RNet", rnet, 24, 1600, 2), ("ONet", onet, 48, 1300, 3)):
        X, B, T = [], [], []
        for i, im in enumerate(img):
            b = sample_boxes(rng, G[i], 14, 480, 360)
            if i % 2 == 0:
                q = stage1(P, im)
                if n == 48:
                    q, p, c = stage2(nets[1], im, q, 24)
                    q = square(correct(q, c))
                b = np.concatenate([b, q[rng.permutation(len(q))[:12]]])
            for bb in b:
                if 30 < bb[2] - bb[0] < 600 and bb[0] < 478 and bb[1] < 358 and bb[2] > 2 and bb[3] > 2:
                    X.append(crop(im, bb, n))
                    B.append(bb)
                    T.append(G[i])
        for im in bgs:
            q = stage1(P, im)
            if n == 48:
                q, p, c = stage2(nets[1], im, q, 24)
                q = square(correct(q, c)) if len(q) else q
            r = sample_boxes(rng, np.array([0, 0, 120.0, 120.0]), 30, im.shape[1], im.shape[0])
            for bb in np.concatenate([q[:80], r]):
                if (
                    20 < bb[2] - bb[0] < 900
                    and bb[0] < im.shape[1] - 2
                    and bb[1] < im.shape[0] - 2
                    and bb[2] > 2
                    and bb[3] > 2
                ):
                    X.append(crop(im, bb, n))
                    B.append(bb)
                    T.append(far)
        print(f"{name}, samples after {time.time() - t0:.0f} s", flush=True)
        nets.append(fit(make(), np.array(X), *labels(np.array(B), np.array(T)), steps, seed))
    out = f"{pack}/model/mtcnn_detector"
    os.makedirs(out, exist_ok=True)
    for nm, net in zip(("PNet", "RNet", "ONet"), nets, strict=True):
        export(net, f"{out}/{nm}.dat")
        print(nm, os.path.getsize(f"{out}/{nm}.dat"), "bytes")
    with open(f"{out}/MTCNN_detector.txt", "w") as f:
        f.write("PNet PNet.dat\nRNet RNet.dat\nONet ONet.dat\n")
    # ---- check on pictures not used above
    im, g = d["img"][1::40], face_box(d["lm"][1::40])
    res = [detect(nets, i) for i in im]
    one = [r for r in res if len(r[0])]
    e = [iou(r[0][np.argmax(r[0][:, 2] - r[0][:, 0])], t) for r, t in zip(res, g, strict=True) if len(r[0])]
    print(
        f"found in {len(one)} of {len(im)}, faces per picture {np.mean([len(r[0]) for r in res]):.2f}, "
        f"overlap with the truth mean {np.mean(e):.3f} min {np.min(e):.3f}"
    )
    print("false faces in backgrounds:", sum(len(detect(nets, b)[0]) for b in bgs), "of", len(bgs))


if __name__ == "__main__":
    main(*sys.argv[1:])
