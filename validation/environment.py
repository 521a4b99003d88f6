"""What a run depends on besides the code: commit, machine, versions, weights, clips."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from validation.files import REPOSITORY, sha256, sha256_file

LIBRARIES = ("numpy", "numba", "llvmlite", "opencv-python-headless", "onnxruntime", "pandas", "scipy")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def fingerprint(models: Path | None = None) -> dict[str, Any]:
    """The environment of this process, for the record; unknown entries are ``None``."""
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": _dirty(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_mb": _memory_mb(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "continuous_integration": bool(os.environ.get("CI")),
        "weights": weights_digests(models) if models else None,
    }


def machine_key(environment: dict[str, Any]) -> tuple[object, ...]:
    """What must be equal for times, and for the last bits of results, to be comparable."""
    return environment["cpu"], environment["usable_cores"], environment["system"].split()[0]


def git(*arguments: str, folder: Path = REPOSITORY) -> str | None:
    """Output of a git command, ``None`` where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _dirty() -> bool | None:
    status = git("status", "--porcelain")
    return None if status is None else bool(status)


def cpu_name() -> str:
    """Model name and instruction sets that choose other kernels (AVX2, AVX-512)."""
    name, flags = platform.processor() or platform.machine(), set()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
                break
    except OSError:
        pass
    sets = [label for flag, label in (("avx2", "AVX2"), ("avx512f", "AVX-512")) if flag in flags]
    return f"{name} ({', '.join(sets)})" if sets else name


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_mb() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (AttributeError, ValueError, OSError):
        return None


def version(distribution: str) -> str | None:
    """Installed version, ``None`` if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def weights_digests(models: Path) -> dict[str, Any]:
    """Digest over the names and bytes of all files below ``model/`` and ``AU_predictors/``, or of the pack file."""
    if models.is_file():
        return {"files": 1, "sha256": sha256_file(models)}
    files = sorted(p for part in ("model", "AU_predictors") for p in (models / part).rglob("*") if p.is_file())
    lines = [f"{sha256_file(path)}  {path.relative_to(models).as_posix()}" for path in files]
    return {"files": len(files), "sha256": sha256("\n".join(lines).encode()) if files else None}


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def in_github_actions() -> bool:
    """Whether this runs in a GitHub Actions job, which understands annotations."""
    return os.environ.get("GITHUB_ACTIONS") == "true"
