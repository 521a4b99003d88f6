"""Step 2: point distribution model and triangulations.   python make_pdm.py PACK_DIR"""

import os
import sys

import face_model as fm
import formats as fo
import numpy as np
from scipy.spatial import Delaunay

N_MODES = 12


def main(pack):
    rng = np.random.default_rng(21)
    mean = fm.shape3d(np.zeros(8))
    mean = mean - mean.mean(0)
    # expression directions ...
    dirs = [(fm.shape3d(e) - fm.shape3d(np.zeros(8)), 0.6) for e in np.eye(8)]
    # ... and mild shape variations besides
    x, y, z = mean.T
    o = np.zeros(68)
    jaw = np.zeros(68)
    jaw[:17] = 1
    mouth = np.zeros(68)
    mouth[48:] = 1
    brow = np.zeros(68)
    brow[17:27] = 1
    nose = np.exp(-((x / 18) ** 2) - ((y - 5) / 26) ** 2)
    dirs += [
        (np.c_[0.03 * x, -0.03 * y, o], 1),
        (np.c_[o, o, 0.08 * z], 1),
        (np.c_[0.04 * x * jaw, o, o], 1),
        (np.c_[o, 1.5 * mouth, o], 1),
        (np.c_[o, 1.5 * brow, o], 1),
        (np.c_[o, o, 3 * nose], 1),
        (np.c_[o, 0.02 * x, o], 1),
        (np.c_[1.2 * mouth, o, o], 1),
    ]
    X = np.zeros((4000, 68, 3))
    for d, s in dirs:
        X += rng.normal(0, s, 4000)[:, None, None] * d
    X = X.transpose(0, 2, 1).reshape(4000, -1)
    # remove what pose already explains: translation, rotation, scale
    m = mean.T.reshape(-1)
    T = []
    for k in range(3):
        t = np.zeros((3, 68))
        t[k] = 1
        T.append(t.reshape(-1))
    T += [np.stack([o, -z, y]).reshape(-1), np.stack([z, o, -x]).reshape(-1), np.stack([-y, x, o]).reshape(-1), m]
    Q = np.linalg.qr(np.array(T).T)[0]
    X -= (X @ Q) @ Q.T
    _U, S, V = np.linalg.svd(X, full_matrices=False)
    eig = S[:N_MODES] ** 2 / len(X)
    comps = V[:N_MODES].T
    comps *= np.sign(comps[np.abs(comps).argmax(0), range(N_MODES)])
    print("explained %.4f" % ((S[:N_MODES] ** 2).sum() / (S**2).sum()), "eigenvalues", np.round(eig, 1))
    os.makedirs(f"{pack}/model/pdms", exist_ok=True)
    os.makedirs(f"{pack}/AU_predictors", exist_ok=True)
    for p in ("model/pdms/In-the-wild_aligned_PDM_68.txt", "AU_predictors/In-the-wild_aligned_PDM_68.txt"):
        fo.write_pdm(f"{pack}/{p}", m, comps, eig)
    tri = Delaunay(mean[:, :2]).simplices
    a = mean[tri][:, :, :2]
    area = 0.5 * np.abs(np.cross(a[:, 1] - a[:, 0], a[:, 2] - a[:, 0]))
    tri = tri[area > 0.4]
    tri = tri[np.lexsort(tri.T[::-1])]
    print(len(tri), "triangles")
    fo.write_triangulation(f"{pack}/AU_predictors/tris_68_full.txt", tri)
    fo.write_view_triangulations(f"{pack}/model/tris_68.txt", [tri] * 3)


if __name__ == "__main__":
    main(sys.argv[1])
