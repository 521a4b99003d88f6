"""The ``pyfaceau`` command: reads options, calls the library, reports. No logic of its own.

Exit codes: 0 done, 2 something the user can mend (one line on stderr says what), 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyfaceau import __version__, collector
from pyfaceau.config import COLUMN_GROUPS, Config
from pyfaceau.errors import PyfaceauError

if TYPE_CHECKING:
    from pyfaceau.jobs import Job

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def _columns(text: str) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in text.split(",") if name.strip())


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _add_extract(subparsers: Any) -> None:
    parser = subparsers.add_parser("extract", help="measure videos, folders of images or a camera")
    parser.set_defaults(run=_extract)
    parser.add_argument("inputs", nargs="*", metavar="VIDEO", help="video file or folder of images")
    parser.add_argument("--device", type=int, metavar="N", help="camera N instead of files; end with Ctrl-C")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-o", dest="output", type=Path, metavar="FILE.csv", help="the CSV to write, for one input")
    where.add_argument("--out-dir", type=Path, default=Path("processed"), metavar="DIR", help="default: processed")
    parser.add_argument("--jobs", type=_positive, default=1, metavar="N", help="N videos at once, one thread each")
    parser.add_argument("--timings", action="store_true", help="print the time of each stage")
    parser.add_argument("--preset", default="openface-2.2", metavar="NAME", help="openface-2.2 (default) or wild")
    _add_settings(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Options whose names are those of `Config`; what is not given stays as the preset has it."""

    def add(name: str, **how: Any) -> None:
        parser.add_argument(name, default=argparse.SUPPRESS, **how)

    add("--models", metavar="DIR|FILE", help="weights: folder, pack or 'demo' (default: the usual places)")
    add("--landmarks", metavar="MODEL", help="ceclm, clnf, clm or a main list's name (default: ceclm if there)")
    add("--au", choices=("dynamic", "static"), help="person-calibrated (default) or static action unit models")
    add("--columns", type=_columns, metavar="A,B", help=f"CSV groups out of {','.join(COLUMN_GROUPS)} (default: all)")
    add("--dialect", choices=("source", "release"), help="separators of the CSV (default: source)")
    add("--hog", action="store_true", help="also write the descriptors, .hog")
    add("--aligned", action="store_true", help="also write the aligned faces")
    add("--tracked", action="store_true", help="also write a video with the face drawn into it")
    add("--threads", type=_positive, metavar="N", help="threads of one run (default: 2)")
    camera = parser.add_argument_group("camera")
    for name, what in (("fx", "focal length"), ("fy", "focal length"), ("cx", "centre"), ("cy", "centre")):
        camera.add_argument(
            f"--{name}", type=float, default=argparse.SUPPRESS, metavar="PX", help=f"{what} (default: from the size)"
        )
    for name in ("camera-width", "camera-height"):
        camera.add_argument(
            f"--{name}", type=_positive, default=argparse.SUPPRESS, metavar="PX", help="asked of --device"
        )
    fit = parser.add_argument_group("fit")
    for name, kind in (("sigma", float), ("reg", float), ("w-reg", float), ("n-iter", int)):
        fit.add_argument(f"--{name}", type=kind, default=argparse.SUPPRESS, metavar="X", help="as in OpenFace")
    fit.add_argument(
        "--no-validate", dest="validate", action="store_false", default=argparse.SUPPRESS, help="accept every fit"
    )
    aligned = parser.add_argument_group("aligned faces")
    aligned.add_argument("--aligned-size", type=_positive, default=argparse.SUPPRESS, metavar="PX")
    aligned.add_argument("--aligned-scale", type=float, default=argparse.SUPPRESS, metavar="X", help="px per mm")
    aligned.add_argument("--aligned-format", choices=("bmp", "png", "jpg"), default=argparse.SUPPRESS)
    aligned.add_argument("--aligned-gray", action="store_true", default=argparse.SUPPRESS)
    for name, what in (("mask", "keep what is outside the face"), ("failed", "skip frames without a face")):
        aligned.add_argument(
            f"--no-aligned-{name}", dest=f"aligned_{name}", action="store_false", default=argparse.SUPPRESS, help=what
        )


def _config(args: argparse.Namespace) -> Config:
    from dataclasses import fields

    names = {field.name for field in fields(Config)}
    changes = {name: value for name, value in vars(args).items() if name in names}
    return Config.preset(args.preset, **changes)


def _jobs(args: argparse.Namespace) -> list[Job]:
    from pyfaceau.jobs import Job

    inputs: list[str | int] = list(args.inputs)
    if args.device is not None:
        inputs.append(args.device)
    if not inputs:
        raise PyfaceauError("nothing to measure: name a video, a folder of images, or --device N")
    if args.output is not None and len(inputs) > 1:
        raise PyfaceauError(f"-o {args.output} names one file for {len(inputs)} inputs: use --out-dir")
    jobs = [Job(path, args.output, args.out_dir) for path in inputs]
    taken: dict[str, str | int] = {}
    for job in jobs:
        if job.name is not None and (other := taken.setdefault(job.name, job.path)) is not job.path:
            raise PyfaceauError(f"{other} and {job.path} would both write {job.name}.csv: run them one by one")
    return jobs


def _extract(args: argparse.Namespace) -> int:
    from pyfaceau.jobs import run_jobs

    return EXIT_BAD_INPUT if run_jobs(_jobs(args), _config(args), args.jobs, timings=args.timings) else 0


def _doctor(args: argparse.Namespace) -> int:
    from pyfaceau.doctor import report

    text, healthy = report(args.models)
    print(text)
    return 0 if healthy else EXIT_BAD_INPUT


def _warmup(args: argparse.Namespace) -> int:
    from pyfaceau.pipeline import Pipeline
    from pyfaceau.warmup import warm_up

    pipeline = Pipeline(_config(args))
    collector.resume()
    warm_up(pipeline)
    return 0


def _parser() -> argparse.ArgumentParser:
    from pyfaceau.weights.cli import add_models_parser

    parser = argparse.ArgumentParser(prog="pyfaceau", description="Facial action units in video as OpenFace 2.2 does.")
    parser.add_argument("--version", action="version", version=f"pyfaceau {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_extract(subparsers)
    add_models_parser(subparsers)
    doctor = subparsers.add_parser("doctor", help="say what is installed, which weights were found, what is missing")
    doctor.add_argument("--models", metavar="DIR|FILE", help="look here instead of the usual places")
    doctor.set_defaults(run=_doctor)
    warmup = subparsers.add_parser("warmup", help="compile all kernels now, once after an installation")
    warmup.add_argument("--models", metavar="DIR|FILE", default=argparse.SUPPRESS)
    warmup.add_argument("--landmarks", metavar="MODEL", default=argparse.SUPPRESS)
    warmup.set_defaults(run=_warmup, preset="openface-2.2")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    # Threads are the pipeline's: a linear algebra library that brings its own would only get in its way.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    try:
        with collector.paused():
            args = _parser().parse_args(arguments)
            code: int = args.run(args)
    except PyfaceauError as error:
        print(f"pyfaceau: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        print("pyfaceau: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return code


if __name__ == "__main__":
    sys.exit(main())
