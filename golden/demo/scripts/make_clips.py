"""Step 1: the clips and their ground truth.   python make_clips.py OUT_DIR

OUT_DIR/clips/astronaut.mp4       270 frames, eight action units, head motion
OUT_DIR/clips/astronaut_lost.mp4  100 frames, the face is covered, then leaves the picture
OUT_DIR/clips/astronaut_lost.avi  its first 60 frames as motion JPEG, for readers without H.264
OUT_DIR/truth/*.npz               landmarks (n,68,2), eye landmarks (n,2,28,2), amplitudes (n,8) in 0..1,
                                  gaze (n,2), pose, visible (n)
"""

import os
import subprocess
import sys
import tempfile

import cv2
import face_model as fm
import numpy as np

FPS, SIZE = 30, (480, 360)


def bump(n, start, up, hold, down, peak=1.0):
    """Smooth rise, plateau, smooth fall."""
    t = np.arange(n, dtype=float)
    a = np.clip((t - start) / up, 0, 1)
    b = np.clip((start + up + hold + down - t) / down, 0, 1)
    f = np.minimum(a, b)
    return peak * f * f * (3 - 2 * f)


def timeline(n, events):
    A = np.zeros((n, len(fm.AU_NAMES)))
    for au, *e in events:
        k = fm.AU_NAMES.index(au)
        A[:, k] = np.maximum(A[:, k], bump(n, *e))
    return A


def main_clip():
    n = 270
    ev = [
        ("AU45", 16, 3, 2, 3),
        ("AU45", 83, 3, 2, 3),
        ("AU45", 124, 3, 2, 3),
        ("AU45", 180, 3, 2, 3),
        ("AU45", 212, 4, 9, 5),
        ("AU45", 262, 3, 2, 3, 0.9),
        ("AU01", 25, 6, 10, 8),
        ("AU02", 25, 6, 10, 8),
        ("AU04", 53, 6, 12, 8),
        ("AU12", 90, 8, 14, 10),
        ("AU25", 99, 6, 8, 6, 0.9),
        ("AU25", 128, 5, 8, 5, 0.75),
        ("AU25", 149, 6, 14, 8, 0.55),
        ("AU26", 150, 7, 11, 9),
        ("AU15", 183, 7, 11, 8),
        ("AU01", 187, 6, 9, 7, 0.7),
        ("AU04", 188, 6, 8, 6, 0.35),
        ("AU01", 236, 5, 9, 8, 0.85),
        ("AU02", 236, 5, 9, 8, 0.85),
        ("AU25", 235, 5, 11, 8, 0.6),
        ("AU26", 236, 6, 9, 8, 0.8),
    ]
    A = timeline(n, ev)
    t = np.arange(n) / FPS
    ease = np.minimum(1, t / 1.0)
    D = np.deg2rad
    pose = {
        "ry": D(11.5) * np.sin(2 * np.pi * t / 4.6) * ease,
        "rx": D(7.5) * np.sin(2 * np.pi * t / 3.7 + 0.4) * ease,
        "rz": D(7.5) * np.sin(2 * np.pi * t / 5.3 + 0.2) * ease,
        "zoom": 1 + 0.09 * np.sin(2 * np.pi * t / 6.3),
        "tx": 24 * np.sin(2 * np.pi * t / 5.9),
        "ty": 10 * np.sin(2 * np.pi * t / 3.3),
        "gx": 1.6 * np.tanh(3 * np.sin(2 * np.pi * t / 3.1)),
        "gy": 0.6 * np.tanh(3 * np.sin(2 * np.pi * t / 4.3)),
    }
    light = {
        "gain": 1 + 0.05 * np.sin(2 * np.pi * t / 4.1),
        "bias": 3 * np.sin(2 * np.pi * t / 2.9),
        "tx": 0.10 * np.sin(2 * np.pi * t / 6.7),
        "ty": 0.05 * np.cos(2 * np.pi * t / 7.3) - 0.05,
    }
    return n, A, pose, light


def lost_clip():
    n = 100
    A = timeline(
        n,
        [
            ("AU12", 4, 5, 6, 6),
            ("AU45", 58, 3, 2, 3),
            ("AU01", 60, 4, 3, 4),
            ("AU02", 60, 4, 3, 4),
            ("AU12", 88, 5, 20, 6, 0.8),
        ],
    )
    t = np.arange(n) / FPS
    D = np.deg2rad
    k = np.clip((np.arange(n) - 30) / 20.0, 0, 1)  # moves aside while it is hidden
    k = k * k * (3 - 2 * k)
    pan = bump(n, 65, 9, 9, 9)  # later the camera turns away, the face leaves on the left
    pose = {
        "ry": D(6) * np.sin(2 * np.pi * t / 2.9),
        "rx": D(4) * np.sin(2 * np.pi * t / 2.3),
        "rz": D(4) * np.sin(2 * np.pi * t / 3.1),
        "zoom": 1 - 0.08 * k,
        "tx": -45 * k - 300 * pan,
        "ty": 12 * k,
        "gx": 1.2 * np.tanh(3 * np.sin(2 * np.pi * t / 1.7)),
        "gy": 0 * t,
    }
    light = {"gain": 1 + 0.03 * np.sin(2 * np.pi * t / 2.2), "bias": 0 * t, "tx": 0 * t, "ty": 0 * t - 0.05}
    return n, A, pose, light


def board(img, cover):
    """A clip board drawn by hand; cover 0..1 slides it in from the left."""
    if cover <= 0:
        return img
    _h, w = img.shape[:2]
    out = img.copy()
    x1 = int(-330 + cover * 415)
    x2, y1, y2 = x1 + 310, 14, 345
    b = np.full((y2 - y1, x2 - x1, 3), (58, 92, 128), np.float32)
    g = np.random.default_rng(7).normal(0, 9, b.shape[:2]).astype(np.float32)
    b += cv2.GaussianBlur(g, (0, 0), 3)[..., None] * 3
    cv2.rectangle(b, (22, 46), (288, 318), (226, 232, 235), -1)
    for k in range(9):
        cv2.line(b, (44, 84 + 25 * k), (90 + (k * 53) % 170, 84 + 25 * k), (110, 96, 92), 3)
    cv2.rectangle(b, (110, 8), (200, 40), (120, 124, 128), -1)
    xs, xe = max(x1, 0), min(x2, w)
    if xe > xs:
        out[y1:y2, xs:xe] = b[:, xs - x1 : xe - x1]
    return out


def make(name, spec, out, seed, crf, covers=None, avi_frames=0):
    n, A, pose, light = spec
    rng = np.random.default_rng(seed)
    L, E = np.zeros((n, 68, 2)), np.zeros((n, 2, 28, 2))
    frames = []
    for i in range(n):
        cam = fm.camera(1.86 * pose["zoom"][i], pose["rz"][i], 240 + pose["tx"][i], 178 + pose["ty"][i])
        img = fm.render(
            fm.expression_image(A[i], (pose["gx"][i], pose["gy"][i])), pose["rx"][i], pose["ry"][i], cam, SIZE
        )
        L[i] = fm.landmarks(A[i], pose["rx"][i], pose["ry"][i], cam)
        E[i] = fm.eye_landmarks(A[i], (pose["gx"][i], pose["gy"][i]), pose["rx"][i], pose["ry"][i], cam)
        if covers is not None:
            img = board(img, covers[i])
        frames.append(fm.finish(img, rng, light["gain"][i], light["bias"][i], 1.3, (light["tx"][i], light["ty"][i])))
    vis = np.ones(n, bool)
    inside = ((L[..., 0] > 0) & (L[..., 0] < SIZE[0] - 1) & (L[..., 1] > 0) & (L[..., 1] < SIZE[1] - 1)).mean(1)
    vis &= inside > 0.97
    if covers is not None:
        vis &= (-330 + covers * 415 + 310) < L[..., 0].min(1)
    os.makedirs(f"{out}/clips", exist_ok=True)
    os.makedirs(f"{out}/truth", exist_ok=True)
    np.savez_compressed(
        f"{out}/truth/{name}.npz",
        landmarks=L.astype(np.float32),
        eye_landmarks=E.astype(np.float32),
        gaze_px=np.c_[pose["gx"], pose["gy"]],
        amplitudes=A.astype(np.float32),
        au_names=np.array(fm.AU_NAMES),
        rx=pose["rx"],
        ry=pose["ry"],
        rz=pose["rz"],
        scale_px_per_mm=1.86 * pose["zoom"] / fm.MM,
        visible=vis,
    )
    with tempfile.TemporaryDirectory() as d:
        for i, f in enumerate(frames):
            cv2.imwrite(f"{d}/{i:04d}.png", f)
        src = ["ffmpeg", "-y", "-loglevel", "error", "-framerate", str(FPS), "-i", f"{d}/%04d.png"]
        subprocess.check_call(
            [
                *src,
                "-c:v",
                "libx264",
                "-preset",
                "veryslow",
                "-crf",
                str(crf),
                "-pix_fmt",
                "yuv420p",
                "-bf",
                "0",
                "-g",
                "60",
                "-threads",
                "1",
                "-movflags",
                "+faststart",
                "-map_metadata",
                "-1",
                "-fflags",
                "+bitexact",
                "-flags:v",
                "+bitexact",
                f"{out}/clips/{name}.mp4",
            ]
        )
        if avi_frames:
            subprocess.check_call(
                [
                    *src,
                    "-frames:v",
                    str(avi_frames),
                    "-c:v",
                    "mjpeg",
                    "-q:v",
                    "16",
                    "-pix_fmt",
                    "yuvj420p",
                    "-threads",
                    "1",
                    "-map_metadata",
                    "-1",
                    "-fflags",
                    "+bitexact",
                    f"{out}/clips/{name}.avi",
                ]
            )
    for e in ("mp4", "avi") if avi_frames else ("mp4",):
        print(
            name,
            e,
            n if e == "mp4" else avi_frames,
            "frames",
            os.path.getsize(f"{out}/clips/{name}.{e}") // 1024,
            "KiB",
        )


if __name__ == "__main__":
    out = sys.argv[1]
    make("astronaut", main_clip(), out, 11, 22)
    n, A, pose, light = lost_clip()
    covers = bump(n, 24, 7, 21, 6)
    make("astronaut_lost", (n, A, pose, light), out, 12, 23, covers, 60)
