"""`pyfaceau models list | fetch | verify | import | pack | validate`: thin wrappers of the functions beside it.

Every start of `pyfaceau` imports this module for its options, so each command imports what it alone needs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pyfaceau.errors import ModelError
from pyfaceau.weights import registry
from pyfaceau.weights.source import (
    DEMO,
    DYNAMIC_LIST,
    STATIC_LIST,
    ModelSource,
    choose_landmark_model,
    demo_source,
    find_models,
    landmark_models,
    models_cache,
)

OK, FAILED = 0, 2


def add_models_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command ``models`` to the ``add_subparsers()`` of the main parser; its ``run`` default is `run`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "models", help="find, fetch, check and pack OpenFace's weights", description=registry.LICENCE
    )
    parser.set_defaults(run=run)
    commands = parser.add_subparsers(dest="models_command", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="say which models are found where, and which can be loaded")
    _add_source(listing)

    fetching = commands.add_parser("fetch", help="download what is missing, checked by SHA-256")
    fetching.add_argument("--cen", action="store_true", help="also the CE-CLM patch experts, 430 MB")
    fetching.add_argument("--base-url", metavar="URL", help=f"in place of {registry.BASE_URL}")
    fetching.add_argument(
        "--cen-url",
        metavar="URL",
        action="append",
        default=[],
        help="folder that serves the CEN files; repeatable",
    )
    _add_destination(fetching)

    verifying = commands.add_parser("verify", help="compare every file with its SHA-256")
    _add_source(verifying)
    verifying.add_argument("--allow-missing", action="store_true", help="succeed although files are missing")

    importing = commands.add_parser("import", help="copy the files of an installed OpenFace after checking them")
    importing.add_argument("folder", type=Path, metavar="DIR", help="its folder, e.g. build/bin, or its repository")
    _add_destination(importing)

    packing = commands.add_parser("pack", help="write a models folder into one compact file")
    packing.add_argument("source", metavar="DIR", help="folder with model/ and AU_predictors/")
    packing.add_argument("file", type=Path, metavar="FILE", help="the pack to write, e.g. mine.tar.xz")

    validating = commands.add_parser("validate", help="check that every list and file parses and fits the others")
    validating.add_argument("source", metavar="FILE|DIR", help="pack, models folder, or demo")
    return parser


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", metavar="DIR|FILE", help="folder, pack or 'demo' (default: the usual places)")


def _add_destination(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", type=Path, metavar="DIR", help="models folder to fill (default: the user cache)")


def run(args: argparse.Namespace) -> int:
    """Run a ``models`` command; returns the exit code. Raises ModelError for what the user can mend."""
    command = {
        "list": _list,
        "fetch": _fetch,
        "verify": _verify,
        "import": _import,
        "pack": _pack,
        "validate": _validate,
    }[args.models_command]
    return command(args)


def _list(args: argparse.Namespace) -> int:
    try:
        source = find_models(args.models)
    except ModelError:
        print(f"user cache (to be filled by `pyfaceau models fetch`): {models_cache()}")
        raise
    print(f"weights: {source.path} ({source.origin})")
    for name, missing in landmark_models(source).items():
        state = "complete" if not missing else f"lacks {', '.join(path.name for path in missing)}"
        print(f"  {name}: {state}")
    print(f"landmark model used by default: {choose_landmark_model(source)}")
    for kind, name in (("dynamic", DYNAMIC_LIST), ("static", STATIC_LIST)):
        present = (source.action_units / name).is_file()
        print(f"action units, {kind}: {'found' if present else 'missing'}")
    try:
        print(f"also: --models {DEMO} ({demo_source().origin}): {demo_source().path}")
    except ModelError:
        print(f"no demo pack (--models {DEMO}) in this installation")
    print(registry.LICENCE)
    return OK


def _fetch(args: argparse.Namespace) -> int:
    from pyfaceau.weights import fetch

    folder = args.to or models_cache()
    print(registry.LICENCE)
    fetched = fetch.fetch_models(folder, args.base_url, _show_progress)
    if args.cen:
        fetched += fetch.fetch_cen(folder, args.cen_url, _show_progress)
    print(f"{len(fetched)} files fetched, {folder} is complete")
    if not args.cen and landmark_models(ModelSource(folder, "fetched")).get("main_ceclm_general"):
        print("CLNF and CLM landmark models are ready; OpenFace's default, CE-CLM, needs `pyfaceau models fetch --cen`")
    return OK


def _verify(args: argparse.Namespace) -> int:
    from pyfaceau.weights import install

    source = find_models(args.models)
    report = install.verify_models(source, _show_progress)
    if len(report.damaged) > len(report.intact):
        raise ModelError(
            f"{source.path}: holds other weights than OpenFace 2.2's and no {install.MANIFEST} of its own; "
            "check it with `pyfaceau models validate`"
        )
    print(f"{source.path} ({source.origin})")
    _print_names("damaged", report.damaged)
    _print_names("missing", report.missing)
    _print_names("CE-CLM patch experts missing (optional)", report.cen_missing)
    _print_names("without a known digest", report.unknown)
    print(f"{len(report.intact)} files intact, {len(report.damaged)} damaged, {len(report.missing)} missing")
    if report.damaged or (report.missing and not args.allow_missing):
        print("replace them with `pyfaceau models fetch` or `pyfaceau models import DIR`")
        return FAILED
    return OK


def _import(args: argparse.Namespace) -> int:
    from pyfaceau.weights import install

    folder = args.to or models_cache()
    # A folder without model/ may still hold CEN files that the user has downloaded.
    source = ModelSource(args.folder, "named") if args.folder.is_dir() else find_models(args.folder)
    report = install.import_models(source, folder, _show_progress)
    _print_names("not as published, left out", report.damaged)
    _print_names("not there", report.absent)
    print(f"{len(report.imported)} files imported into {folder}, {len(report.present)} were there already")
    return FAILED if report.damaged else OK


def _pack(args: argparse.Namespace) -> int:
    from pyfaceau.weights.pack import pack_models

    names = pack_models(find_models(args.source), args.file, _show_progress)
    print(f"{args.file}: {len(names)} files, {args.file.stat().st_size} bytes; use it with --models {args.file}")
    return OK


def _validate(args: argparse.Namespace) -> int:
    from pyfaceau.weights.validate import validate_models

    report = validate_models(find_models(args.source))
    for what in report.usable:
        print(f"  good: {what}")
    for name, missing in report.incomplete.items():
        print(f"  incomplete: {name} lacks {', '.join(path.name for path in missing)}")
    _print_names("read by nothing", report.unread)
    for error in report.errors:
        print(f"  error: {error}")
    return FAILED if report.errors else OK


def _print_names(title: str, names: list[str]) -> None:
    if names:
        print(f"  {title}:")
        for name in names:
            print(f"    {name}")


def _show_progress(what: str, done: int, total: int) -> None:
    """One line on a terminal that is overwritten; nothing where the output goes to a file."""
    if not sys.stderr.isatty():
        return
    text = f"{100 * done // max(total, 1):3d} %  {what}"[:79]
    sys.stderr.write(f"\r{text:79}" + ("\r" + " " * 79 + "\r" if done >= total else ""))
    sys.stderr.flush()
