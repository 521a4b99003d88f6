"""``python -m validation repeat N``: does an untouched tree pass every time, with the same figures?"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from validation import record
from validation.errors import HarnessError
from validation.files import REPOSITORY
from validation.options import add_places
from validation.verdict import FAIL, PASS, Result, overall


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("times", type=int, metavar="N", help="so many whole runs, each in a process of its own")
    parser.add_argument("--config", default="clnf", help="configuration of golden/manifest.json (default: clnf)")
    parser.add_argument("--clips", default="*", metavar="GLOB", help="names of clips, with commas (default: all)")
    add_places(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run, print each verdict; PASS if every run passed and no figure but time differs from the first run's."""
    if arguments.times < 2:
        raise HarnessError(f"{arguments.times} runs show nothing about repeating; ask for at least 2")
    results: list[Result] = []
    passed, first = 0, None
    for number, data in enumerate(_runs(arguments), start=1):
        found, sentence = data["verdict"]["verdict"], data["verdict"]["sentence"]
        results.append(Result(f"run {number}", found, f"run {number}: {sentence}"))
        passed += found == PASS
        first = first or data
        if changed := differing(first, data):
            where = f"run {number}: {changed[0]} is not the first run's"
            results.append(Result(f"run {number}, same figures", FAIL, f"{where} ({len(changed)} differ)"))
        print(f"{number:>3}  {data['seconds']:>6.0f} s  {found:<13}{sentence}", flush=True)
    verdict = overall(results)
    print(f"{verdict['verdict']}: {passed} of {arguments.times} runs pass; {verdict['sentence']}")
    return int(verdict["exit_code"])


def _runs(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "validation", "run", "--config", arguments.config, "--clips", arguments.clips]
    command += ["--threads", str(arguments.threads), "--golden", str(arguments.golden)]
    command += ["--models", str(arguments.models.resolve())] if arguments.models else []
    command += ["--videos", str(arguments.videos.resolve())] if arguments.videos else []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.times):
            path = Path(folder) / f"{number}.json"
            started = time.perf_counter()
            complaint = start([*command, "-o", str(path)])
            if not path.is_file():
                words = complaint.strip().splitlines()[-1:] or ["it said nothing"]
                raise HarnessError(f"run {number + 1} left no record: {words[0]}")
            yield {**record.load(path), "seconds": time.perf_counter() - started}
            path.unlink()


def start(command: list[str]) -> str:
    """Run a process to its end; what it wrote to stderr."""
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True).stderr


def differing(first: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Clip and name of every figure that two records do not share to the last bit, times excepted; sorted."""
    tables = [
        {
            f"{clip['clip']}: {name}": figure["value"]
            for clip in data["clips"]
            for name, figure in clip["figures"].items()
            if not name.startswith("speed.")
        }
        for data in (first, other)
    ]
    return sorted(n for n in tables[0].keys() | tables[1].keys() if tables[0].get(n) != tables[1].get(n))
