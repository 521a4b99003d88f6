"""Synthetic talking head made from one public-domain photo.

The photo is `skimage.data.astronaut()` (NASA portrait of Eileen Collins, public
domain, shipped inside the scikit-image wheel).  This module holds

  * the annotation of that photo (68 landmark positions),
  * hand-written displacement bases for eight action units (AU),
  * a depth model of the head,
  * a renderer:  (AU amplitudes, head rotation, camera)  ->  image + 68 landmarks.

All coordinates called "photo" are pixels of the 512x512 photo.  Displacements of
the AU bases are written in the face frame, i.e. with the small head tilt (ROLL0)
of the portrait removed: x to the viewer's right, y down.
"""

import cv2
import numpy as np
from scipy.interpolate import CubicSpline, RBFInterpolator
from scipy.spatial import Delaunay
from skimage import data

# --------------------------------------------------------------------------
# Annotation: where the 68 landmarks lie on the photo (a fact about the photo,
# read off with a landmark tracker and rounded to 0.1 px).
# --------------------------------------------------------------------------
ANNOTATION = np.array(
    [
        (180.1, 97.8),
        (179.9, 110.6),
        (180.4, 123.6),
        (181.6, 136.0),
        (185.3, 147.8),
        (192.2, 158.3),
        (200.4, 167.3),
        (209.4, 175.7),
        (219.7, 178.8),
        (230.3, 177.7),
        (240.5, 171.7),
        (250.3, 164.3),
        (259.0, 155.4),
        (265.1, 144.2),
        (268.2, 131.6),
        (270.0, 118.3),
        (271.1, 105.4),  # 0-16 jaw
        (185.5, 91.4),
        (193.0, 87.1),
        (201.8, 87.3),
        (210.3, 89.3),
        (217.6, 93.1),  # 17-21 brow
        (233.9, 93.6),
        (242.4, 90.6),
        (250.9, 90.0),
        (259.0, 91.5),
        (264.6, 96.4),  # 22-26 brow
        (225.5, 102.8),
        (225.2, 111.0),
        (224.9, 119.2),
        (224.7, 127.7),  # 27-30 ridge
        (213.8, 130.4),
        (218.7, 132.7),
        (223.6, 134.7),
        (228.8, 133.3),
        (233.3, 131.9),  # 31-35 nose
        (194.7, 100.9),
        (200.3, 98.4),
        (206.7, 99.1),
        (211.9, 103.4),
        (205.9, 103.8),
        (199.6, 103.2),
        (237.2, 104.9),
        (243.2, 100.9),
        (249.4, 101.0),
        (254.4, 104.2),
        (249.7, 105.9),
        (243.6, 105.9),
        (202.0, 139.4),
        (209.9, 138.5),
        (217.8, 139.0),
        (223.0, 140.5),
        (229.3, 139.7),
        (237.1, 140.4),
        (244.3, 141.8),
        (236.6, 150.8),
        (228.7, 155.1),
        (222.0, 155.6),
        (216.2, 154.6),
        (208.5, 149.6),
        (204.8, 140.2),
        (217.5, 142.1),
        (222.9, 143.1),
        (229.2, 142.6),
        (241.5, 142.4),
        (229.0, 149.6),
        (222.4, 150.2),
        (216.8, 149.2),
    ],
    float,
)

IRIS = np.array([(203.6, 100.6), (246.9, 102.6)])  # centres of the irises on the photo
IRIS_R, PUPIL_R = 3.8, 1.7

AU_NAMES = ["AU01", "AU02", "AU04", "AU12", "AU15", "AU25", "AU26", "AU45"]
ROLL0 = np.deg2rad(3.3)  # tilt of the head in the portrait
ORIGIN = np.array([224.0, 125.0])  # centre of rotation of the head (photo px)
MM = 1.6  # millimetres per photo pixel (face ~145 mm wide)

_c, _s = np.cos(ROLL0), np.sin(ROLL0)
_R0 = np.array([[_c, -_s], [_s, _c]])  # face frame -> photo frame


def to_face(p):
    return (np.asarray(p, float) - ORIGIN) @ _R0


def to_photo(p):
    return np.asarray(p, float) @ _R0.T + ORIGIN


# --------------------------------------------------------------------------
# Landmark displacements: portrait -> neutral face, and one basis per AU
# --------------------------------------------------------------------------
def _neutral_offset():
    """The portrait smiles with parted lips; this takes it to a closed, relaxed mouth."""
    P = to_face(ANNOTATION)
    D = np.zeros((68, 2))
    x0 = P[[51, 57, 62, 66], 0].mean()
    yl = 19.6  # height of the closed lip line
    outer_x = {
        48: -17.5,
        49: -11.5,
        50: -5.0,
        51: 0.0,
        52: 5.0,
        53: 11.5,
        54: 17.5,
        55: 11.0,
        56: 5.5,
        57: 0.0,
        58: -5.5,
        59: -11.0,
    }
    outer_y = {
        48: 0.3,
        49: -2.0,
        50: -3.3,
        51: -2.9,
        52: -3.3,
        53: -2.0,
        54: 0.3,
        55: 3.0,
        56: 4.9,
        57: 5.4,
        58: 4.9,
        59: 3.0,
    }
    inner = {
        60: (-15.6, 0.25),
        61: (-5.0, -0.15),
        62: (0.0, -0.15),
        63: (5.0, -0.15),
        64: (15.6, 0.25),
        65: (5.0, 0.15),
        66: (0.0, 0.15),
        67: (-5.0, 0.15),
    }
    for i in outer_x:
        D[i] = (x0 + outer_x[i], yl + outer_y[i]) - P[i]
    for i, (dx, dy) in inner.items():
        D[i] = (x0 + dx, yl + dy) - P[i]
    for i, dy in {5: -0.4, 6: -0.9, 7: -1.4, 8: -1.5, 9: -1.4, 10: -0.9, 11: -0.4}.items():
        D[i, 1] += dy
    for i, dx in {31: 0.7, 35: -0.7}.items():
        D[i, 0] += dx
    for i in (40, 41, 46, 47):  # cheeks no longer push the lower lids up
        D[i, 1] += 0.35
    return D


D_NEUTRAL = _neutral_offset()
NEUTRAL = to_face(ANNOTATION) + D_NEUTRAL  # 68x2, face frame, px


def _basis():
    B = {a: np.zeros((68, 2)) for a in AU_NAMES}

    def sym(name, left, right, dx, dy):
        """dx > 0 = away from the mid-line, dy > 0 = down; the same on both sides."""
        B[name][left] += (-dx, dy)
        B[name][right] += (dx, dy)

    # AU01 inner brow raiser / AU02 outer brow raiser
    for left, right_, d1, d2 in (
        (21, 22, 4.6, 0.3),
        (20, 23, 3.7, 1.3),
        (19, 24, 1.9, 3.2),
        (18, 25, 0.6, 4.2),
        (17, 26, 0.1, 3.6),
    ):
        sym("AU01", left, right_, 0, -d1)
        sym("AU02", left, right_, 0, -d2)
    for left, right_, d1, d2 in ((38, 43, 0.5, 0.2), (37, 44, 0.3, 0.5)):
        sym("AU01", left, right_, 0, -d1)
        sym("AU02", left, right_, 0, -d2)
    # AU04 brow lowerer
    for left, right_, dx, dy in (
        (21, 22, -2.6, 4.2),
        (20, 23, -2.0, 3.9),
        (19, 24, -1.1, 3.0),
        (18, 25, -0.3, 1.7),
        (17, 26, 0, 0.6),
    ):
        sym("AU04", left, right_, dx, dy)
    for left, right_, dy in ((38, 43, 1.0), (37, 44, 0.8), (41, 46, -0.3), (40, 47, -0.3)):
        sym("AU04", left, right_, 0, dy)
    B["AU04"][27] += (0, 0.8)
    # AU12 lip corner puller
    for left, right_, dx, dy in (
        (48, 54, 4.6, -5.4),
        (60, 64, 4.3, -5.0),
        (49, 53, 2.6, -2.3),
        (59, 55, 2.8, -2.2),
        (50, 52, 0.9, -0.3),
        (61, 63, 0.8, -0.2),
        (58, 56, 1.0, -0.4),
        (67, 65, 0.8, -0.2),
        (31, 35, 0.7, -0.1),
        (41, 46, 0, -0.7),
        (40, 47, 0, -0.5),
        (4, 12, 0.5, -0.3),
        (5, 11, 0.4, -0.3),
    ):
        sym("AU12", left, right_, dx, dy)
    for i, dy in ((51, 0.3), (62, 0.1), (66, 0.1), (57, -0.3)):
        B["AU12"][i] += (0, dy)
    # AU15 lip corner depressor
    for left, right_, dx, dy in (
        (48, 54, 0.6, 4.2),
        (60, 64, 0.3, 3.8),
        (49, 53, 0.2, 1.5),
        (59, 55, 0.2, 1.6),
        (50, 52, 0, 0.1),
        (58, 56, 0, -0.2),
        (7, 9, 0, -0.6),
    ):
        sym("AU15", left, right_, dx, dy)
    for i, dy in ((57, -0.5), (66, -0.2), (62, -0.2), (8, -0.7)):
        B["AU15"][i] += (0, dy)
    # AU25 lips part
    for left, right_, dy in (
        (61, 63, -1.0),
        (50, 52, -1.0),
        (49, 53, -0.6),
        (67, 65, 3.0),
        (58, 56, 2.6),
        (59, 55, 1.6),
        (60, 64, 0.3),
        (48, 54, 0.2),
    ):
        sym("AU25", left, right_, 0, dy)
    for i, dy in ((62, -1.0), (51, -1.0), (66, 3.3), (57, 2.8)):
        B["AU25"][i] += (0, dy)
    # AU26 jaw drop
    for left, right_, dx, dy in (
        (7, 9, -0.3, 7.6),
        (6, 10, -0.6, 6.4),
        (5, 11, -0.9, 4.4),
        (4, 12, -0.8, 2.2),
        (3, 13, -0.5, 0.8),
        (48, 54, -1.2, 1.8),
        (60, 64, -1.2, 1.9),
        (59, 55, -0.6, 4.6),
        (58, 56, -0.2, 6.2),
        (67, 65, 0, 6.2),
        (49, 53, -0.5, 0.3),
    ):
        sym("AU26", left, right_, dx, dy)
    for i, dy in ((8, 8.0), (57, 6.7), (66, 6.6)):
        B["AU26"][i] += (0, dy)
    # AU45 blink: the upper lid comes down to the lower one, which rises a little
    P = to_face(ANNOTATION) + D_NEUTRAL
    for up, lo in ((37, 41), (38, 40), (43, 47), (44, 46)):
        gap = P[lo] - P[up]
        B["AU45"][up] += 0.86 * gap
        B["AU45"][lo] -= 0.07 * gap
    for i in (36, 39, 42, 45):
        B["AU45"][i] += (0, 0.4)
    return np.stack([B[a] for a in AU_NAMES])


BASIS = _basis()  # 8 x 68 x 2, face frame, px


def face_shape(amp):
    """68x2 landmarks in the face frame (px) for AU amplitudes in 0..1."""
    P = NEUTRAL + np.tensordot(np.asarray(amp, float), BASIS, 1)
    for up, lo in ((37, 41), (38, 40), (43, 47), (44, 46), (61, 67), (62, 66), (63, 65)):  # never fold over
        if P[lo, 1] - P[up, 1] < 0.3:
            m = (P[lo, 1] + P[up, 1]) / 2
            P[up, 1], P[lo, 1] = m - 0.15, m + 0.15
    return P


# --------------------------------------------------------------------------
# Depth model (photo px; negative = towards the camera, as in OpenFace)
# --------------------------------------------------------------------------
def _depth_field():
    y, x = np.mgrid[0:512, 0:512].astype(float)
    f = to_face(np.stack([x, y], -1).reshape(-1, 2)).reshape(512, 512, 2)
    u, v = (f[..., 0] - 0.5) / 54.0, (f[..., 1] + 10.0) / 88.0
    r = np.abs(u) ** 2.4 + np.abs(v) ** 3.0
    z = -50.0 * np.maximum(0, 1 - r) ** 0.7
    t = np.clip((f[..., 1] + 24) / 27.0, 0, 1)  # nose: 0 at the root, 1 at the tip
    amp = (2.5 + 9.5 * t) * 1 / (1 + np.exp((f[..., 1] - 6.5) / 1.6))
    z -= amp * np.exp(-(((f[..., 0] - 0.3) / (3.5 + 4.0 * t)) ** 2)) * (f[..., 1] > -34)
    for ex in (-21.0, 22.0):  # eye sockets
        z += 3.5 * np.exp(-(((f[..., 0] - ex) / 11) ** 2) - ((f[..., 1] + 22) / 7) ** 2)
    z -= 2.5 * np.exp(-((f[..., 0] / 14) ** 2) - ((f[..., 1] - 21) / 7) ** 2)  # lips
    z -= 3.0 * np.exp(-((f[..., 0] / 12) ** 2) - ((f[..., 1] - 46) / 9) ** 2)  # chin
    return cv2.GaussianBlur(z, (0, 0), 2.0)


DEPTH = _depth_field().astype(np.float32)


def depth_at(photo_xy):
    p = np.asarray(photo_xy, np.float32).reshape(-1, 1, 2)
    return cv2.remap(DEPTH, p[..., 0], p[..., 1], cv2.INTER_LINEAR).reshape(-1).astype(float)


def _with_depth(P):
    return np.c_[P, depth_at(to_photo(P))]


def shape3d(amp):
    """68x3 landmarks, face frame, millimetres, centred at ORIGIN."""
    return _with_depth(face_shape(amp)) * MM


def euler(rx, ry, rz):
    """Rotation Rx*Ry*Rz, the same convention as OpenFace."""
    s1, s2, s3, c1, c2, c3 = *np.sin([rx, ry, rz]), *np.cos([rx, ry, rz])
    return np.array(
        [
            [c2 * c3, -c2 * s3, s2],
            [c1 * s3 + c3 * s1 * s2, c1 * c3 - s1 * s2 * s3, -c2 * s1],
            [s1 * s3 - c1 * c3 * s2, c3 * s1 + c1 * s2 * s3, c1 * c2],
        ]
    )


# --------------------------------------------------------------------------
# Renderer, step 1: expression.  A triangle mesh over the face; the openings of
# the eyes and of the mouth are holes that are painted separately.
# --------------------------------------------------------------------------
S = 4  # super-sampling of the expression image
X0, Y0, W, H = 40, 0, 472, 262  # part of the photo that is kept
FX0, FY0, FW, FH = 150, 66, 152, 150  # part that the expression mesh may change


def _spline(idx, n):
    """Linear operator: n points on a cubic spline through the landmarks idx (which are among them)."""
    t = np.linalg.norm(np.diff(ANNOTATION[list(idx)], axis=0), axis=1)
    t = np.r_[0, np.cumsum(t)]
    tt = np.unique(np.r_[np.linspace(0, t[-1], n), t])
    return CubicSpline(t, np.eye(len(idx)), bc_type="natural")(tt), list(idx)


_CURVES = {
    k: _spline(i, n)
    for k, (i, n) in {
        "le_up": ((36, 37, 38, 39), 11),
        "le_lo": ((36, 41, 40, 39), 11),
        "re_up": ((42, 43, 44, 45), 11),
        "re_lo": ((42, 47, 46, 45), 11),
        "li_up": ((60, 61, 62, 63, 64), 17),
        "li_lo": ((60, 67, 66, 65, 64), 17),
        "lo_up": ((48, 49, 50, 51, 52, 53, 54), 15),
        "lo_lo": ((48, 59, 58, 57, 56, 55, 54), 15),
        "lb": ((17, 18, 19, 20, 21), 9),
        "rb": ((22, 23, 24, 25, 26), 9),
    }.items()
}


def _mid_spline(idx):
    """The same with one extra point half way between neighbours (7 points)."""
    idx = list(idx)
    t = np.r_[0, np.cumsum(np.linalg.norm(np.diff(ANNOTATION[idx], axis=0), axis=1))]
    tt = np.sort(np.r_[t, (t[1:] + t[:-1]) / 2])
    return CubicSpline(t, np.eye(len(idx)), bc_type="natural")(tt), idx


_MESH_CURVES = dict(_CURVES)
_CURVES.update(
    {
        "le_mid_up": _mid_spline((36, 37, 38, 39)),
        "le_mid_lo": _mid_spline((36, 41, 40, 39)),
        "re_mid_up": _mid_spline((42, 43, 44, 45)),
        "re_mid_lo": _mid_spline((42, 47, 46, 45)),
    }
)


def _curve(name, P):
    A, idx = _CURVES[name]
    return A @ P[list(idx)]


class ExpressionMesh:
    def __init__(self):
        src = to_face(ANNOTATION)
        # control points whose motion is a fixed linear function of the landmarks
        eye = np.eye(68)
        rows = [eye[i] for i in range(68)]
        for A, idx in _MESH_CURVES.values():
            for r in A:
                if (r > 0.999).any():
                    continue
                row = np.zeros(68)
                row[idx] = r
                rows.append(row)
        self.ctrl = np.array(rows)  # n x 68
        ctrl_src = self.ctrl @ src
        offs = [(i, (0, 3.0)) for i in range(17, 27)]  # brow undersides: rigid copies of the brow line
        brow_rows = np.array([eye[i] for i, _ in offs])
        brow_src = np.array([src[i] + o for i, o in offs])
        self.ctrl = np.vstack([self.ctrl, brow_rows])
        ctrl_src = np.vstack([ctrl_src, brow_src])
        # anchors that never move: head outline and beyond
        a = np.linspace(0, 2 * np.pi, 44, endpoint=False)
        ring = np.c_[64 * np.cos(a), -3 + 70 * np.sin(a)]
        ring[:, 1] = np.where(ring[:, 1] < -44, -44 - 0.35 * (-44 - ring[:, 1]), ring[:, 1])
        # free vertices, moved by a smooth interpolation of the control points
        gx, gy = np.meshgrid(np.arange(-62, 63, 6.0), np.arange(-58, 76, 6.0))
        free = np.c_[gx.ravel(), gy.ravel()]
        d = np.linalg.norm(free[:, None] - np.vstack([ctrl_src, ring])[None], axis=2).min(1)
        free = free[d > 3.4]
        holes = [
            np.vstack([_curve(u, src), _curve(low, src)[::-1]])
            for u, low in (("le_up", "le_lo"), ("re_up", "re_lo"), ("li_up", "li_lo"))
        ]
        inside = np.array(
            [
                any(cv2.pointPolygonTest(h.astype(np.float32), (float(p[0]), float(p[1])), False) >= 0 for h in holes)
                for p in free
            ]
        )
        free = free[~inside]
        box = np.array(
            [
                (x, y)
                for x in np.linspace(-73, 77, 9)
                for y in np.linspace(-58, 89, 9)
                if abs(x - 2) > 70 or y < -56 or y > 86
            ]
        )
        self.src = np.vstack([ctrl_src, free, ring, box])
        self.n_ctrl, self.n_free = len(ctrl_src), len(free)
        # interpolation weights control -> free (thin plate spline with the ring held still)
        centres = np.vstack([ctrl_src, ring])
        # vertices that coincide (contours sharing a landmark) would make the system singular
        keep = np.ones(len(centres), bool)
        for i in range(len(centres)):
            if keep[i]:
                dd = np.linalg.norm(centres - centres[i], axis=1)
                dup = np.where((dd < 0.4) & (np.arange(len(centres)) > i))[0]
                keep[dup] = False
        rbf = RBFInterpolator(centres[keep], np.eye(keep.sum()), kernel="thin_plate_spline", smoothing=2.0)
        Wt = rbf(free)
        full = np.zeros((len(free), len(centres)))
        full[:, keep] = Wt
        self.W_free = full[:, : self.n_ctrl]
        tri = Delaunay(self.src).simplices
        cen = self.src[tri].mean(1)
        bad = np.array(
            [
                any(cv2.pointPolygonTest(h.astype(np.float32), (float(p[0]), float(p[1])), False) > 0 for h in holes)
                for p in cen
            ]
        )
        self.tri = tri[~bad]

    def place(self, disp68):
        d = self.ctrl @ disp68
        out = self.src.copy()
        out[: self.n_ctrl] += d
        out[self.n_ctrl : self.n_ctrl + self.n_free] += self.W_free @ d
        return out


_MESH = None
_PHOTO = None


def photo_bgr():
    """The photo, slightly sharpened because it will be enlarged, as float32 BGR."""
    global _PHOTO
    if _PHOTO is None:
        p = data.astronaut()[:, :, ::-1].astype(np.float32)
        p = p + 0.35 * (p - cv2.GaussianBlur(p, (0, 0), 1.2))
        _PHOTO = np.clip(p, 0, 255)
    return _PHOTO


def expression_image(amp, gaze=(0.0, 0.0)):
    """The photo with the expression applied; float32 BGR, S times enlarged, window (X0,Y0,W,H).
    gaze: shift of both irises in photo px (face frame); 1 px is about 8 degrees."""
    global _MESH
    if _MESH is None:
        _MESH = ExpressionMesh()
    P = face_shape(amp)
    src68 = to_face(ANNOTATION)
    dst = to_photo(_MESH.place(P - src68))
    srcv = to_photo(_MESH.src)
    ph = photo_bgr()
    # backward map on the face window
    w, h = FW * S, FH * S
    tid = np.full((h, w), -1, np.int32)
    q = np.round(((dst - (FX0, FY0)) * S + (S - 1) / 2) * 16).astype(np.int32)
    for k, t in enumerate(_MESH.tri):
        cv2.fillConvexPoly(tid, q[t], k, cv2.LINE_8, 4)
    A = np.zeros((len(_MESH.tri), 6), np.float32)
    T = dst[_MESH.tri]
    U = srcv[_MESH.tri]
    M = np.concatenate([T, np.ones((len(T), 3, 1))], 2)
    det = np.abs(np.linalg.det(M))
    ok = det > 1e-4
    A[ok] = np.swapaxes(np.linalg.solve(M[ok], U[ok]), 1, 2).reshape(-1, 6)
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    px = (xx - (S - 1) / 2) / S + FX0
    py = (yy - (S - 1) / 2) / S + FY0
    a = A[np.maximum(tid, 0)]
    mx = np.where(tid >= 0, a[..., 0] * px + a[..., 1] * py + a[..., 2], px)
    my = np.where(tid >= 0, a[..., 3] * px + a[..., 4] * py + a[..., 5], py)
    # soften the creases of the piecewise affine map away from the holes
    holes = np.zeros((h, w), np.uint8)
    polys = {}
    for key, u, low in (("le", "le_up", "le_lo"), ("re", "re_up", "re_lo"), ("mo", "li_up", "li_lo")):
        poly = to_photo(np.vstack([_curve(u, P), _curve(low, P)[::-1]]))
        polys[key] = np.round(((poly - (FX0, FY0)) * S + (S - 1) / 2) * 16).astype(np.int32)
        cv2.fillPoly(holes, [polys[key]], {"le": 1, "re": 1, "mo": 2}[key], cv2.LINE_8, 4)
    far = cv2.distanceTransform((holes == 0).astype(np.uint8), cv2.DIST_L2, 5)
    k = np.clip((far - 10) / 14, 0, 1)
    bx, by = cv2.GaussianBlur(mx - px, (0, 0), 5.0), cv2.GaussianBlur(my - py, (0, 0), 5.0)
    mx = (1 - k) * mx + k * (px + bx)
    my = (1 - k) * my + k * (py + by)
    # eyes: the eye ball stays where it is (but for gaze), the lids slide over it
    ex, ey = px, py
    if gaze[0] or gaze[1]:
        g = np.asarray(gaze, float)
        gp = _R0 @ g
        wgt = np.zeros((h, w), np.float32)
        for c in IRIS + gp:
            wgt = np.maximum(wgt, np.clip(1 - (np.hypot(px - c[0], py - c[1]) - IRIS_R - 0.4) / 3.2, 0, 1))
        ex, ey = px - wgt * gp[0], py - wgt * gp[1]
    mx = np.where(holes == 1, ex, mx).astype(np.float32)
    my = np.where(holes == 1, ey, my).astype(np.float32)
    img = cv2.remap(ph, mx, my, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    # mouth: the teeth of the portrait hang from the upper lip, darkness below them
    if (holes == 2).any():
        m = holes == 2
        f = to_face(np.stack([px[m], py[m]], 1))
        up, lo = _curve("li_up", P), _curve("li_lo", P)
        x_l, x_r = up[0, 0], up[-1, 0]
        t = (f[:, 0] - x_l) / max(x_r - x_l, 1e-3)
        v = f[:, 1] - np.interp(f[:, 0], up[:, 0], up[:, 1])
        gap = np.interp(f[:, 0], lo[:, 0], lo[:, 1]) - np.interp(f[:, 0], up[:, 0], up[:, 1])
        sup, slo = _curve("li_up", src68), _curve("li_lo", src68)
        sx = sup[0, 0] + (0.06 + 0.88 * t) * (sup[-1, 0] - sup[0, 0])
        s0 = np.interp(sx, sup[:, 0], sup[:, 1])
        sh = np.interp(sx, slo[:, 0], slo[:, 1]) - s0  # height of the teeth in the photo
        sy = s0 + 0.25 + np.minimum(v, np.maximum(sh - 1.3, 0.2))
        sp = to_photo(np.c_[sx, sy]).astype(np.float32)
        col = cv2.remap(ph, sp[:, :1], sp[:, 1:], cv2.INTER_LINEAR).reshape(-1, 3)
        dark = np.array([34, 26, 48], np.float32)  # BGR
        teeth = np.clip((sh - 1.0 - v) / 0.9, 0, 1) * np.clip(t / 0.12, 0, 1) * np.clip((1 - t) / 0.12, 0, 1)
        teeth *= np.clip((gap - 0.5) / 2.5, 0, 1) * 0.92
        shade = (0.72 + 0.28 * np.clip(v / 1.6, 0, 1))[:, None]
        img[m] = col * shade * teeth[:, None] + dark * (1 - teeth[:, None])
    # a lowered brow folds the skin: two furrows between the brows and a shadow under them
    if amp[2] > 0:
        f = to_face(np.stack([px, py], -1).reshape(-1, 2)).reshape(h, w, 2)
        fold = np.zeros((h, w))
        for i, sg in ((21, 1), (22, -1)):
            cx, cy = P[i] + (sg * 1.6, 3.4)
            fold += 0.27 * np.exp(
                -(((f[..., 0] - cx - sg * 0.10 * (f[..., 1] - cy)) / 1.25) ** 2) - ((f[..., 1] - cy) / 4.2) ** 2
            )
        fold -= 0.07 * np.exp(
            -(((f[..., 0] - (P[21, 0] + P[22, 0]) / 2) / 2.6) ** 2) - ((f[..., 1] - P[21, 1] - 2) / 6) ** 2
        )
        for a_, b_ in ((18, 19), (19, 20), (20, 21), (22, 23), (23, 24), (24, 25)):
            m_ = (P[a_] + P[b_]) / 2 + (0, 2.2)
            fold += 0.10 * np.exp(-(((f[..., 0] - m_[0]) / 4.0) ** 2) - ((f[..., 1] - m_[1]) / 2.0) ** 2)
        img = img * (1 - float(amp[2]) * np.minimum(fold, 0.5)[..., None] * np.array([1.15, 1.0, 0.8], np.float32))
    out = cv2.resize(ph[Y0 : Y0 + H, X0 : X0 + W], None, fx=S, fy=S, interpolation=cv2.INTER_CUBIC)
    # feather the window into the untouched photo
    fe = np.minimum(np.minimum(xx, w - 1 - xx), np.minimum(yy, h - 1 - yy))
    fe = np.clip(fe / (3.0 * S), 0, 1)[..., None]
    ys, xs = (FY0 - Y0) * S, (FX0 - X0) * S
    out[ys : ys + h, xs : xs + w] = img * fe + out[ys : ys + h, xs : xs + w] * (1 - fe)
    return np.clip(out, 0, 255)


# --------------------------------------------------------------------------
# Renderer, step 2: head rotation and camera
# --------------------------------------------------------------------------
def _head_weight():
    y, x = np.mgrid[0:512, 0:512].astype(float)
    f = to_face(np.stack([x, y], -1).reshape(-1, 2)).reshape(512, 512, 2)
    r = np.sqrt(((f[..., 0] - 2) / 77) ** 2 + ((f[..., 1] + 22) / 98) ** 2)
    t = np.clip((r - 0.92) / 0.42, 0, 1)
    return (1 - t * t * (3 - 2 * t)).astype(np.float32)


_HEADW = _head_weight()
assert _HEADW[np.round(ANNOTATION[:, 1]).astype(int), np.round(ANNOTATION[:, 0]).astype(int)].min() > 0.98


def _pose_field(rx, ry):
    """Displacement (photo px, face frame) of every photo pixel under the head rotation."""
    y, x = np.mgrid[0:512:4, 0:512:4].astype(np.float32)
    f = to_face(np.stack([x, y], -1).reshape(-1, 2))
    z = DEPTH[::4, ::4].reshape(-1)
    R = euler(rx, ry, 0)
    P = np.c_[f, z]
    d = ((P @ R.T)[:, :2] - f) * _HEADW[::4, ::4].reshape(-1, 1)
    return d.reshape(128, 128, 2).astype(np.float32), R


def camera(scale, roll, tx, ty):
    """Similarity face frame (px) -> image px; `roll` is the in-plane angle seen in the image."""
    c, s = scale * np.cos(roll), scale * np.sin(roll)
    return np.array([[c, -s, tx], [s, c, ty]])


def project(P, rx, ry, cam):
    """Face frame (px) points of the expression image -> image."""
    Q = (_with_depth(P) @ euler(rx, ry, 0).T)[:, :2]
    return Q @ cam[:, :2].T + cam[:, 2]


def landmarks(amp, rx, ry, cam):
    """Ground truth: 68x2 image landmarks."""
    return project(face_shape(amp), rx, ry, cam)


def eye_shape(amp, gaze, P=None):
    """2x28x2 eye landmarks, face frame px: 8 iris, 12 lid (8, 10, .. 18 are landmarks 36-41 / 42-47), 8 pupil."""
    P = face_shape(amp) if P is None else P
    out = []
    a = np.arange(8) * np.pi / 4 + np.pi
    ring = np.c_[np.cos(a), np.sin(a)]
    for e, (up, lo) in enumerate((("le_mid_up", "le_mid_lo"), ("re_mid_up", "re_mid_lo"))):
        c = to_face(IRIS[e]) + gaze
        lid = np.vstack([_curve(up, P)[:-1], _curve(lo, P)[::-1][:-1]])
        out.append(np.vstack([c + IRIS_R * ring, lid, c + PUPIL_R * ring[::-1]]))
    return np.array(out)


def eye_landmarks(amp, gaze, rx, ry, cam):
    """Ground truth: 2x28x2 image landmarks of the eyes."""
    return np.array([project(p, rx, ry, cam) for p in eye_shape(amp, gaze)])


def render(expr, rx, ry, cam, size=(480, 360), ss=2):
    """Warp an expression image into the camera.  Returns float32 BGR of the given (w, h)."""
    w, h = size[0] * ss, size[1] * ss
    Ainv = np.linalg.inv(np.vstack([cam, [0, 0, 1]]))[:2]
    # the inverse of  p -> p + d(p)  is smooth: find it on every 4th pixel
    ch, cw = size[1] // 4, size[0] // 4
    yy, xx = np.mgrid[0:ch, 0:cw].astype(np.float32) * 4 + 1.5
    f = np.stack([xx, yy], -1).reshape(-1, 2) @ Ainv[:, :2].T + Ainv[:, 2]  # face frame, after rotation
    d, _ = _pose_field(rx, ry)
    cur = f.copy()
    for _ in range(10):
        ph = (cur @ _R0.T + ORIGIN).astype(np.float32)
        dd = cv2.remap(
            d,
            (ph[:, 0] / 4).reshape(ch, cw),
            (ph[:, 1] / 4).reshape(ch, cw),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        cur = f - dd.reshape(-1, 2)
    back = ((cur - f) @ _R0.T).reshape(ch, cw, 2).astype(np.float32)  # photo px
    back = cv2.resize(back, (w, h), interpolation=cv2.INTER_LINEAR)
    # output pixel -> photo -> pixel of the expression image, all affine but for `back`
    B = _R0 @ Ainv[:, :2] / ss
    o = _R0 @ (Ainv[:, :2] @ np.full(2, -(ss - 1) / 2 / ss) + Ainv[:, 2]) + ORIGIN - (X0, Y0)
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    mx = (back[..., 0] + np.float32(B[0, 0]) * xx + np.float32(B[0, 1]) * yy + np.float32(o[0])) * S + (S - 1) / 2
    my = (back[..., 1] + np.float32(B[1, 0]) * xx + np.float32(B[1, 1]) * yy + np.float32(o[1])) * S + (S - 1) / 2
    img = cv2.remap(expr, mx, my, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    if ss > 1:
        img = cv2.resize(img, size, interpolation=cv2.INTER_AREA)
    return img


def finish(img, rng, gain=1.0, bias=0.0, noise=1.6, tilt=(0.0, 0.0)):
    """Exposure change, light gradient and sensor noise; returns uint8 BGR."""
    h, w = img.shape[:2]
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    g = gain * (1 + tilt[0] * (x / w - 0.5) + tilt[1] * (y / h - 0.5))
    out = img * g[..., None] + bias
    if noise:
        n = rng.normal(0, noise, (h, w, 1)) + rng.normal(0, noise * 0.5, (h, w, 3))
        out = out + cv2.GaussianBlur(n.astype(np.float32), (0, 0), 0.6) * 1.6
    return np.clip(np.round(out), 0, 255).astype(np.uint8)
