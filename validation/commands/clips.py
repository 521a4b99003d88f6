"""``python -m validation clips list|fetch``."""

from __future__ import annotations

import argparse
from fnmatch import fnmatch
from pathlib import Path

from validation import clips, goldens
from validation.errors import HarnessError
from validation.files import GOLDEN, sha256_file
from validation.verdict import ERROR, EXIT_CODES, PASS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("action", choices=("list", "fetch"))
    parser.add_argument("--clips", default="*", metavar="GLOB")
    parser.add_argument("--videos", type=Path, help="a folder of yours to look in first")
    parser.add_argument("--to", type=Path, help="download here (default: the user's cache)")
    parser.add_argument("--golden", type=Path, default=GOLDEN, help=argparse.SUPPRESS)
    parser.add_argument("--base-url", default=clips.RAW, help="mirror, with {repository}, {commit} and {path}")


def execute(arguments: argparse.Namespace) -> int:
    """List, or download what is nowhere yet; a clip that cannot be had does not stop the others."""
    store = goldens.load(arguments.golden)
    chosen = [clip for name, clip in store.clips.items() if fnmatch(name, arguments.clips)]
    if not chosen:
        raise HarnessError(f"no clip {arguments.clips!r} in the manifest")
    places, failed = clips.folders(arguments.videos), 0
    for clip in chosen:
        found = clips.locate(store, clip, [*places, *([arguments.to] if arguments.to else [])])
        if found is not None and found.is_file() and sha256_file(found) != clip.sha256:
            print(f"{clip.file}: {found} has other bytes than the goldens were made from")
            found = None
        if found is None and arguments.action == "fetch":
            try:
                found = clips.fetch(clip, arguments.to or clips.download_folder(), arguments.base_url)
            except HarnessError as error:
                failed += 1
                print(f"{clip.file}: ERROR: {error}")
                continue
        print(f"{clip.file:<44} {found or 'not here'!s:<60} licence: {clip.licence}")
    return EXIT_CODES[ERROR] if failed else EXIT_CODES[PASS]
