"""The four verdicts, their order and their exit codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

PASS, FAIL, ERROR, INCONCLUSIVE = "PASS", "FAIL", "ERROR", "INCONCLUSIVE"
EXIT_CODES = {PASS: 0, FAIL: 1, ERROR: 2, INCONCLUSIVE: 3}
_WORST_FIRST = (ERROR, FAIL, INCONCLUSIVE, PASS)


@dataclass(frozen=True)
class Result:
    """One gate's answer for one clip, or over all clips (``clip`` is ``None``)."""

    gate: str
    verdict: str
    sentence: str
    figure: str | None = None
    clip: str | None = None
    value: float | None = None
    bound: float | None = None

    @property
    def of_time(self) -> bool:
        """Whether it judges a time, the only figures that a second run of the same program changes."""
        return self.figure is not None and self.figure.startswith("speed.")

    def to_json(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return asdict(self)


def overall(results: Iterable[Result]) -> dict[str, Any]:
    """The worst verdict, its sentence and exit code; no result at all is an ERROR, as nothing was checked."""
    results = list(results)
    if not results:
        return {"verdict": ERROR, "sentence": "nothing was checked", "exit_code": EXIT_CODES[ERROR]}
    verdict = next(v for v in _WORST_FIRST if any(r.verdict == v for r in results))
    of_kind = [r for r in results if r.verdict == verdict]
    if verdict == PASS:
        sentence = f"all {len(results)} checks passed"
    else:
        more = f" (and {len(of_kind) - 1} more)" if len(of_kind) > 1 else ""
        sentence = of_kind[0].sentence + more
    return {"verdict": verdict, "sentence": sentence, "exit_code": EXIT_CODES[verdict]}
