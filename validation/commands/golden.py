"""``python -m validation golden add|list|verify|regen|unpack``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from validation import adapter, clips, goldens
from validation.errors import HarnessError
from validation.files import GOLDEN, read_json, sha256_file, write_atomically, write_json
from validation.goldens import Clip, Golden, Store
from validation.reference import parse_csv
from validation.regenerate import differences, run_openface
from validation.verdict import EXIT_CODES as CODES
from validation.verdict import FAIL, PASS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's sub-commands and their arguments."""
    parser.add_argument("--golden", type=Path, default=GOLDEN, help="folder of the goldens (default: golden/)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the goldens with their provenance")
    verify = actions.add_parser("verify", help="check every byte of the goldens, and of the clips that are here")
    add = actions.add_parser("add", help="add a reference CSV, or let a FeatureExtraction binary make it")
    regen = actions.add_parser("regen", help="make goldens anew with a FeatureExtraction binary; fails if any changes")
    unpack = actions.add_parser("unpack", help="write the CSVs as OpenFace wrote them")
    for command in (listing, regen, unpack):
        command.add_argument("--clips", default="*", metavar="GLOB")
    for command in (listing, unpack):
        command.add_argument("--config", metavar="NAME")
    for command in (verify, regen):
        command.add_argument("--videos", type=Path, help="folder of clips")
    add.add_argument("video", type=Path)
    add.add_argument("--csv", type=Path, help="the reference CSV (or give --openface)")
    add.add_argument("--licence", required=True, help="licence of the clip")
    add.add_argument("--faces", choices=("one", "several", "none"), default="one")
    add.add_argument("--ship", action="store_true", help="the clip lies below golden/ and is part of the repository")
    for command in (add, regen):
        command.add_argument("--openface", type=Path, metavar="BINARY", help="a FeatureExtraction program")
        command.add_argument("--config", default="clnf", metavar="NAME")
    regen.add_argument("--reason", help="why goldens change; needed to rewrite any")
    unpack.add_argument("folder", type=Path)


def execute(arguments: argparse.Namespace) -> int:
    """Call the sub-command."""
    actions: dict[str, Callable[[argparse.Namespace, Store], int]] = {
        "list": _list, "verify": _verify, "add": _add, "regen": _regen, "unpack": _unpack,
    }  # fmt: skip
    return actions[arguments.action](arguments, goldens.load(arguments.golden))


def _chosen(store: Store, configuration: str | None, pattern: str) -> list[Golden]:
    names = [configuration] if configuration else list(store.configurations)
    return [golden for name in names for golden in store.find(name, pattern)]


def _list(arguments: argparse.Namespace, store: Store) -> int:
    for golden in _chosen(store, arguments.config, arguments.clips):
        settings, clip = store.configurations[golden.configuration], store.clips[golden.clip]
        program = store.programs[settings["program"]]
        size = (store.folder / golden.file).stat().st_size
        print(
            f"{golden.configuration + '/' + golden.clip:<62}{golden.rows:>6} rows{golden.csv_bytes:>9} bytes"
            f" ({size} packed)  {program['program']} {program['version']}, {settings['model']}; clip: {clip.licence}"
        )
    return CODES[PASS]


def _verify(arguments: argparse.Namespace, store: Store) -> int:
    places = clips.folders(arguments.videos)
    here = {name: path for name, clip in store.clips.items() if (path := clips.locate(store, clip, places))}
    missing = [f"{path}: a shipped clip is missing" for path in here.values() if not path.is_file()]
    here = {name: path for name, path in here.items() if path.is_file()}
    problems = [*goldens.problems(store), *missing, *goldens.clip_problems(store, here)]
    for problem in problems:
        print(f"FAIL: {problem}")
    size = sum((store.folder / golden.file).stat().st_size for golden in store.goldens if not problems)
    print(
        f"{len(store.goldens)} goldens, {len(here)} of {len(store.clips)} clips here, {len(problems)} problems"
        + (f", {size / 1e6:.1f} MB packed" if not problems else "")
    )
    return CODES[FAIL] if problems else CODES[PASS]


def _add(arguments: argparse.Namespace, store: Store) -> int:
    if (arguments.csv is None) == (arguments.openface is None):
        raise HarnessError("give --csv FILE or --openface BINARY, one of the two")
    settings = store.configurations.get(arguments.config)
    if settings is None:
        raise HarnessError(f"configuration {arguments.config!r} is not in the manifest; describe it there first")
    clip = _clip(arguments, store)
    if store.get(arguments.config, clip.name):
        raise HarnessError(f"{arguments.config}/{clip.name} has a golden; renew it with `golden regen`")
    if arguments.csv is not None:
        try:
            text = arguments.csv.read_bytes()
        except OSError as error:
            raise HarnessError(f"{arguments.csv}: cannot be read ({error.strerror})") from error
        if parse_csv(text, str(arguments.csv)).truncated_lines:
            raise HarnessError(f"{arguments.csv}: its last line is cut off; make it anew")
    else:
        text = _openface(arguments.openface, arguments.video, store, arguments.config)
    rows = len(parse_csv(text, clip.name).values)
    digests = adapter.decoded_digests(arguments.video)
    if rows and parse_csv(text, clip.name).frame.max() != len(digests):
        raise HarnessError(f"{arguments.video}: has {len(digests)} frames, the CSV another number; not the same clip?")
    store.clips[clip.name] = clip
    golden = store.put(arguments.config, clip.name, text)
    store.save()
    path = store.folder / "frame-crc32.json"
    table = read_json(path, "digests of decoded frames") if path.is_file() else {}
    write_json(path, {**table, clip.file: " ".join(digests)})
    print(f"added {golden.configuration}/{golden.clip}: {golden.rows} rows; commit {store.folder}")
    return CODES[PASS]


def _clip(arguments: argparse.Namespace, store: Store) -> Clip:
    video = arguments.video
    digest = sha256_file(video)
    known = store.clips.get(video.stem)
    if known is not None:
        if known.sha256 != digest:
            raise HarnessError(f"{video}: not the bytes of the manifest's clip {video.stem!r}; rename one of them")
        return known
    shipped = None
    if arguments.ship:
        try:
            shipped = video.resolve().relative_to(store.folder.resolve()).as_posix()
        except ValueError:
            raise HarnessError(f"{video}: is not below {store.folder}; move it there to ship it") from None
    return Clip(video.stem, video.name, digest, video.stat().st_size, arguments.licence, arguments.faces, shipped)


def _openface(binary: Path, video: Path, store: Store, configuration: str) -> bytes:
    settings = store.configurations[configuration]
    environment = store.programs[settings["program"]].get("environment", {})
    return run_openface(binary, video, settings["model"], settings["switches"], environment)


def _regen(arguments: argparse.Namespace, store: Store) -> int:
    if arguments.openface is None:
        raise HarnessError("give --openface BINARY, a FeatureExtraction program")
    chosen = store.find(arguments.config, arguments.clips)
    if not chosen:
        raise HarnessError(f"no golden of {arguments.config!r} has a clip {arguments.clips!r}")
    places, changed = clips.folders(arguments.videos), []
    for golden in chosen:
        clip = store.clips[golden.clip]
        video = clips.locate(store, clip, places)
        if video is None:
            raise HarnessError(f"{clip.file} is in no folder of clips; run `python -m validation clips fetch`")
        clips.require_same(clip, video)
        old, new = store.csv(golden), _openface(arguments.openface, video, store, arguments.config)
        lines = differences(old, new)
        print(f"{golden.configuration}/{golden.clip}: {f'{len(lines)} differences' if lines else 'the same bytes'}")
        print("\n".join(f"    {line}" for line in lines), end="\n" if lines else "")
        if lines:
            changed.append((golden, new))
    if not changed:
        return CODES[PASS]
    if not arguments.reason:
        raise HarnessError(f"{len(changed)} goldens would change; give --reason to rewrite them")
    _rewrite(store, changed, arguments.reason)
    print(f"FAIL: {len(changed)} goldens were rewritten; look at the differences, then commit and run again")
    return CODES[FAIL]


def _rewrite(store: Store, changed: list[tuple[Golden, bytes]], reason: str) -> None:
    """Store the new CSVs; what is packed against an old one is packed anew."""
    for golden, text in changed:
        kept = [(other, store.csv(other)) for other in store.dependants(golden)]
        new = store.put(golden.configuration, golden.clip, text)
        for other, csv in kept:
            store.put(other.configuration, other.clip, csv)
        store.log.append(
            {
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
                "golden": f"{golden.configuration}/{golden.clip}",
                "before": golden.csv_sha256,
                "after": new.csv_sha256,
                "reason": reason,
            }
        )
    store.save()


def _unpack(arguments: argparse.Namespace, store: Store) -> int:
    for golden in _chosen(store, arguments.config, arguments.clips):
        write_atomically(arguments.folder / golden.configuration / f"{golden.clip}.csv", store.csv(golden))
    print(f"unpacked to {arguments.folder}")
    return CODES[PASS]
