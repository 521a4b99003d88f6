"""Step 3: training pictures (other random warps than those of the clips).   python make_training.py WORK_DIR"""

import sys

import cv2
import face_model as fm
import numpy as np

N_EXPR, N_POSE, SIZE = 320, 5, (480, 360)


def random_amp(rng):
    a = np.where(rng.random(8) < 0.33, rng.random(8) ** 0.8, 0)
    if rng.random() < 0.12:
        a[rng.integers(8)] = 1
    if rng.random() < 0.25:  # brows often rise together
        a[1] = a[0]
    if a[6] > 0:  # the jaw does not drop behind closed lips
        a[5] = max(a[5], 0.3 + 0.5 * rng.random())
    if rng.random() < 0.1:
        a[:] = 0
    return a


def augment(img, rng):
    img = fm.finish(
        img, rng, np.exp(rng.normal(0, 0.12)), rng.normal(0, 8), rng.uniform(0, 2.6), rng.normal(0, 0.15, 2)
    ).astype(np.float32)
    if rng.random() < 0.4:
        img = cv2.GaussianBlur(img, (0, 0), rng.uniform(0.3, 1.1))
    if rng.random() < 0.5:
        img = 255 * (np.clip(img, 0, 255) / 255) ** np.exp(rng.normal(0, 0.15))
    img = np.clip(img, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        img = cv2.imdecode(cv2.imencode(".jpg", img, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))])[1], 1)
    return img


def main(work):
    rng = np.random.default_rng(31)
    D = np.deg2rad
    imgs, L, E, A, P = [], [], [], [], []
    for _i in range(N_EXPR):
        a = random_amp(rng)
        gaze = (rng.uniform(-2, 2), rng.uniform(-0.8, 0.8)) if rng.random() < 0.8 else (0, 0)
        e = fm.expression_image(a, gaze)
        for _ in range(N_POSE):
            ry = np.clip(rng.normal(0, D(10)), -D(25), D(25))
            rx = np.clip(rng.normal(0, D(6.5)), -D(15), D(15))
            rz = rng.normal(0, D(6))
            cam = fm.camera(1.86 * np.exp(rng.normal(0, 0.12)), rz, 240 + rng.normal(0, 30), 180 + rng.normal(0, 16))
            imgs.append(augment(fm.render(e, rx, ry, cam, SIZE), rng))
            L.append(fm.landmarks(a, rx, ry, cam))
            E.append(fm.eye_landmarks(a, gaze, rx, ry, cam))
            A.append(a)
            P.append((rx, ry, rz))
    np.savez(
        f"{work}/train.npz", img=np.array(imgs), lm=np.array(L), eyes=np.array(E), amp=np.array(A), pose=np.array(P)
    )
    print(len(imgs), "pictures")


if __name__ == "__main__":
    main(sys.argv[1])
