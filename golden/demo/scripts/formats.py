"""Writers (and a few readers) for the file formats OpenFace 2.2 reads.

Binary matrices: int32 rows, cols, OpenCV type code (4 = int32, 5 = float32,
6 = float64), then the values row by row.  Everything is little-endian.
"""

import struct

import numpy as np

_CODE = {np.dtype("u1"): 0, np.dtype("i4"): 4, np.dtype("f4"): 5, np.dtype("f8"): 6}
_TYPE = {v: k for k, v in _CODE.items()}


def mat_bin(a, dtype):
    a = np.ascontiguousarray(a, dtype)
    if a.ndim == 1:
        a = a[:, None]
    return struct.pack("<3i", a.shape[0], a.shape[1], _CODE[a.dtype]) + a.tobytes()


def read_mat_bin(f):
    r, c, t = struct.unpack("<3i", f.read(12))
    d = _TYPE[t]
    return np.frombuffer(f.read(r * c * d.itemsize), d).reshape(r, c)


def mat_txt(a, code, fmt):
    a = np.atleast_2d(a)
    return f"{a.shape[0]}\n{a.shape[1]}\n{code}\n" + "".join(" ".join(fmt % v for v in row) + " \n" for row in a)


def short(a, bits=12):
    """Round float32 values to `bits` mantissa bits: the files compress better in archives."""
    a = np.ascontiguousarray(a, np.float32)
    m, e = np.frexp(a)
    return np.ldexp(np.round(m * 2**bits) / 2**bits, e).astype(np.float32)


# ---------------------------------------------------------------- shape model
def write_pdm(path, mean, comps, eig):
    """mean (3n), comps (3n, m), eig (m); order: all x, all y, all z; millimetres."""
    with open(path, "w") as f:
        f.write("# The mean values of the components (in mm)\n" + mat_txt(mean[:, None], 6, "%.6f"))
        f.write("# The principal components (eigenvectors) of expression and identity\n" + mat_txt(comps, 6, "%.6f"))
        f.write("# The variances of the components (eigenvalues)\n" + mat_txt(eig[None], 6, "%.6f"))


def read_pdm(path):
    out, vals = [], []
    with open(path) as f:
        for line in f:
            if not line.startswith("#"):
                vals += line.split()
    k = 0
    for _ in range(3):
        r, c = int(vals[k]), int(vals[k + 1])
        k += 3
        out.append(np.array(vals[k : k + r * c], float).reshape(r, c))
        k += r * c
    return out[0][:, 0], out[1], out[2][0]


def write_triangulation(path, tri):
    with open(path, "w") as f:
        f.write(mat_txt(tri, 4, "%d"))


def write_view_triangulations(path, tris):
    with open(path, "w") as f:
        f.write(f"# Number of triangulations\n{len(tris)}\n")
        for i, t in enumerate(tris):
            f.write(f"# Triangulation {i + 1}\n" + mat_txt(t, 4, "%d"))


# ---------------------------------------------------------------- patch experts (CEN)
def cen_expert(layers, confidence, support=11):
    """layers: list of (activation, bias (out), weight (out, in)); activation 0 = sigmoid, 2 = ReLU.
    An empty list marks an expert that is taken, mirrored, from another landmark / view."""
    b = struct.pack("<4i", 6, support, support, len(layers))
    for act, bias, weight in layers:
        b += struct.pack("<i", act) + mat_bin(short(bias), "f4") + mat_bin(short(weight), "f4")
    return b + struct.pack("<d", confidence)


def write_cen(path, scale, centers_deg, visibility, mirror_inds, mirror_views, experts):
    """experts[view][landmark] = bytes of cen_expert()."""
    with open(path, "wb") as f:
        f.write(struct.pack("<d", scale) + struct.pack("<i", len(centers_deg)))
        for c in centers_deg:
            f.write(mat_bin(np.array(c, float)[:, None], "f8"))
        for v in visibility:
            f.write(mat_bin(np.array(v)[:, None], "i4"))
        f.write(mat_bin(np.array(mirror_inds)[None], "i4") + mat_bin(np.array(mirror_views)[None], "i4"))
        for view in experts:
            for e in view:
                f.write(e)


# ---------------------------------------------------------------- convolutional nets
def net_layers(layers, pool_args):
    """layers: ('conv', weight (out,in,h,w), bias) | ('pool', kx, ky, sx, sy) | ('fc', weight (out,in), bias)
    | ('prelu', slopes) | ('relu',).  The detector's pooling carries four integers, the validator's none.
    A convolution is stored per input map and kernel; a fully connected layer as (in, out)."""
    b = struct.pack("<i", len(layers))
    for kind, *p in layers:
        if kind == "conv":
            w, bias = p
            b += struct.pack("<3i", 0, w.shape[1], w.shape[0]) + short(bias).astype("<f4").tobytes()
            for i in range(w.shape[1]):
                for k in range(w.shape[0]):
                    b += mat_bin(short(w[k, i]), "f4")
        elif kind == "pool":
            b += struct.pack("<i", 1) + (struct.pack("<4i", *p) if pool_args else b"")
        elif kind == "fc":
            w, bias = p
            b += struct.pack("<i", 2) + mat_bin(short(bias), "f4") + mat_bin(short(w.T), "f4")
        elif kind == "prelu":
            b += struct.pack("<i", 3) + mat_bin(short(p[0]), "f4")
        elif kind == "relu":
            b += struct.pack("<i", 3)
        else:
            raise ValueError(kind)
    return b


def fc_from_chw(w, c, h, wd):
    """torch flattens (c, h, w); OpenFace flattens each map column by column: reorder the weights."""
    return w.reshape(w.shape[0], c, h, wd).transpose(0, 1, 3, 2).reshape(w.shape[0], -1)


# ---------------------------------------------------------------- AU predictors
def write_svr(path, mean, w, bias, cutoff=None):
    """Static (cutoff None) or dynamic linear regressor."""
    with open(path, "wb") as f:
        f.write(struct.pack("<i", 0) if cutoff is None else struct.pack("<id", 1, cutoff))
        f.write(mat_bin(mean[None], "f8") + mat_bin(w[:, None], "f8") + struct.pack("<d", bias))


def write_svm(path, mean, w, bias, dynamic):
    with open(path, "wb") as f:
        f.write(struct.pack("<i", 5 if dynamic else 4))
        f.write(mat_bin(mean[None], "f8") + mat_bin(w[:, None], "f8") + struct.pack("<3d", bias, 1.0, 0.0))


def read_hog(path):
    """.hog of the C++ recorder: per frame int cols, rows, channels, float valid, then the descriptor."""
    with open(path, "rb") as f:
        raw = f.read()
    k, X, ok = 0, [], []
    while k < len(raw):
        c, r, _n = struct.unpack_from("<3i", raw, k)
        ok.append(struct.unpack_from("<f", raw, k + 12)[0] > 0)
        X.append(np.frombuffer(raw, "<f4", c * r * 31, k + 16))
        k += 16 + 4 * c * r * 31
    return np.array(X), np.array(ok)
