"""Small numpy versions of the geometry that training needs."""

import formats as fo
import numpy as np
from face_model import euler


class PDM:
    def __init__(self, path):
        self.mean, self.V, self.E = fo.read_pdm(path)
        self.n, self.m = len(self.mean) // 3, len(self.E)

    def shape3d(self, p):
        return (self.mean + self.V @ p).reshape(3, self.n)

    def shape2d(self, g, p):
        """g = scale, rx, ry, rz, tx, ty -> (n, 2)."""
        R = euler(*g[1:4])[:2]
        return (g[0] * R @ self.shape3d(p)).T + g[4:6]

    def fit(self, L, iters=60, reg=1.0):
        """Gauss-Newton fit of pose and local parameters to 2D landmarks."""
        M = self.mean.reshape(3, -1)
        s = np.ptp(L[:, 0]) / np.ptp(M[0])
        g = np.array([s, 0, 0, 0, *(L.mean(0) - s * M[:2].mean(1))])
        R, p = np.eye(3), np.zeros(self.m)
        V = self.V.reshape(3, self.n, self.m)
        for _ in range(iters):
            X = self.shape3d(p)
            Y = R[:2] @ X
            r = np.concatenate(list(L.T - g[0] * Y - g[4:6, None]))
            z = np.zeros(self.n)
            J = np.zeros((2 * self.n, 6 + self.m))
            J[:, 0] = Y.reshape(-1)
            for k, d in enumerate((np.stack([z, -X[2], X[1]]), np.stack([X[2], z, -X[0]]), np.stack([-X[1], X[0], z]))):
                J[:, 1 + k] = (g[0] * R[:2] @ d).reshape(-1)
            J[: self.n, 4] = 1
            J[self.n :, 5] = 1
            J[:, 6:] = (g[0] * np.einsum("ij,jnm->inm", R[:2], V)).reshape(2 * self.n, self.m)
            D = np.r_[np.zeros(6), reg / self.E]
            b = J.T @ r - np.r_[np.zeros(6), reg / self.E * p]
            u = 0.75 * np.linalg.solve(J.T @ J + np.diag(D), b)
            g[0] += u[0]
            g[4:6] += u[4:6]
            K = np.array([[1, -u[3], u[2]], [u[3], 1, -u[1]], [-u[2], u[1], 1]])
            a, _, c = np.linalg.svd(K)
            R = R @ (a @ c)
            p = p + u[6:]
        g[1:4] = euler_of(R)
        return g, p


def euler_of(R):
    return np.array([np.arctan2(-R[1, 2], R[2, 2]), np.arcsin(np.clip(R[0, 2], -1, 1)), np.arctan2(-R[0, 1], R[0, 0])])


def align(src, dst):
    """2x2 scaled rotation A with A*src ~ dst (both about their means)."""
    a, b = src - src.mean(0), dst - dst.mean(0)
    sa, sb = np.sqrt((a**2).sum() / len(a)), np.sqrt((b**2).sum() / len(b))
    U, _, Vt = np.linalg.svd((a / sa).T @ (b / sb))
    d = np.sign(np.linalg.det(Vt.T @ U.T))
    return sb / sa * Vt.T @ np.diag([1, d]) @ U.T
