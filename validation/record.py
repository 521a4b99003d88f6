"""One JSON record a run: everything that tables, verdicts, figures and the report are made from.

``record.schema.json`` says what is in it. A record is checked against it when written and when read. Its ``schema``
number rises with every change that an older reader would misunderstand.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from validation.errors import HarnessError
from validation.figures import DEFINITIONS
from validation.files import REPOSITORY, read_json, write_json

SCHEMA = 1
RUNS = REPOSITORY / "runs"
"""Where records and the history are put, unless told otherwise; not part of the repository."""


def new(kind: str, environment: dict[str, Any], **content: Any) -> dict[str, Any]:
    """The head of a record of this kind ("run", "compare", "speed", "sensitivity"), then its content."""
    now = time.gmtime()
    return {
        "schema": SCHEMA,
        "kind": kind,
        "id": f"{time.strftime('%Y%m%dT%H%M%SZ', now)}-{uuid.uuid4().hex[:6]}",
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", now),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "environment": environment,
        "definitions": {name: vars(definition) for name, definition in DEFINITIONS.items()},
        **content,
    }


def save(record: dict[str, Any], path: Path | None = None) -> Path:
    """Write the record, by default as ``runs/<id>.json``; returns its path."""
    problems = check(record)
    if problems:
        raise HarnessError(f"the record breaks its own schema: {problems[0]}")
    path = path or RUNS / f"{record['id']}.json"
    write_json(path, record, indent=None)
    return path


def load(path: Path) -> dict[str, Any]:
    """A record; ``HarnessError`` if it is not one, or of a schema that this harness does not read."""
    record = read_json(path, "a record of `python -m validation run`")
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise HarnessError(f"{path}: record schema {found!r}; this harness reads {SCHEMA}, so make a new run")
    problems = check(record)
    if problems:
        raise HarnessError(f"{path}: not a whole record ({problems[0]}); make a new run")
    return record


def check(record: dict[str, Any]) -> list[str]:
    """What in the record is not as the schema says, one line each."""
    schema = json.loads((Path(__file__).with_name("record.schema.json")).read_text(encoding="utf-8"))
    return list(_problems(record, schema, schema, "record"))


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def _problems(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str) -> list[str]:
    """The part of JSON Schema that ``record.schema.json`` uses: type, enum, required, properties, items, $ref."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        return [f"{where} is {type(value).__name__}, not {' or '.join(kinds)}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where} is {value!r}, not one of {schema['enum']}"]
    found = []
    if isinstance(value, dict):
        found += [f"{where} lacks {name!r}" for name in schema.get("required", []) if name not in value]
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, item in value.items():
            if name in properties:
                found += _problems(item, properties[name], root, f"{where}.{name}")
            elif isinstance(others, dict):
                found += _problems(item, others, root, f"{where}.{name}")
            elif others is False:
                found.append(f"{where} has an unknown entry {name!r}")
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            found += _problems(item, schema["items"], root, f"{where}[{i}]")
    return found


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])
