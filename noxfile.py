"""Sessions that set up everything they need: ``python -m nox -s demo`` (or tests, lint, validate, bench)."""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.4"
nox.options.sessions = ["tests", "lint"]
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_external_run = True


@nox.session
def demo(session: nox.Session) -> None:
    """Measure clips beside the C++ program's CSVs, with a verdict and a page; uses the demo pack or real weights."""
    session.install("-e", ".[report]")
    session.run("python", "-m", "validation", "demo", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests; those that need OpenFace's weights skip where there are none."""
    session.install("-e", ".[report,test]")
    session.run("python", "-m", "pytest", "-q", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    session.install("-e", ".[report,test,dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def validate(session: nox.Session) -> None:
    """Every clip that has a reference CSV, with every model at hand: one verdict and a page."""
    session.install("-e", ".[report]")
    session.run("python", "-m", "validation", "all", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Time per stage on recorded inputs."""
    session.install("-e", ".[report,test]")
    session.run("python", "-m", "pytest", "benchmarks", "--benchmark-only", *session.posargs)
