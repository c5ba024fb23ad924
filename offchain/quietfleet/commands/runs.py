"""`quietfleet runs …`: why a gateway trained, what came of it, and a run begun by hand."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quietfleet.commands._access import JSON, SETTINGS, gateway_at, opened, said, time_of
from quietfleet.commands._story import plain
from quietfleet.storage import AuditLog, Database

if TYPE_CHECKING:
    from quietfleet.workers._runs import Run, Runs


@click.group()
def runs() -> None:
    """Look at a gateway's training runs, begin one and cancel one, also beside the running gateway.

    \b
      quietfleet runs list -s gateway.toml
      quietfleet runs start -s gateway.toml --why "new sensors since Monday"
      quietfleet runs show 0123456789abcdef -s gateway.toml
    """  # noqa: D301 - click wants a real backspace there


@runs.command("list")
@SETTINGS
@JSON
def show_all(settings: Path, *, as_json: bool) -> None:
    """Print every run, oldest first."""
    with _observed(settings) as (ledger, _):
        found = ledger.all()
    click.echo(json.dumps([one.told() for one in found]) if as_json else "\n".join(map(_line, found)))


@runs.command()
@click.argument("run")
@SETTINGS
@JSON
def show(run: str, settings: Path, *, as_json: bool) -> None:
    """Print a run: what triggered it, what came of it, and every entry of the trail that names it."""
    with _observed(settings) as (ledger, database):
        one = ledger.get(run)
        trail = [plain(entry) for entry in AuditLog(database, create=False).entries() if entry.detail.get("run") == run]
    told = one.told() | {"trail": trail}
    click.echo(json.dumps(told) if as_json else "\n".join([_line(one), json.dumps(told, indent=2)]))


@runs.command()
@SETTINGS
@said
@JSON
def start(settings: Path, who: str, why: str, *, as_json: bool) -> None:
    """Have the gateway train, by hand; it takes the gateway's passphrase."""
    with opened(settings) as (_, database), database.transaction():
        now = time.time()
        run = _ledger(database).begin("manual", {"who": who, "why": why}, now=now)
        AuditLog(database).append("run-asked", {"run": run, "who": who, "why": why}, now)
    click.echo(json.dumps({"run": run}) if as_json else f"run {run} waits for the gateway")


@runs.command()
@click.argument("run")
@SETTINGS
@said
@JSON
def cancel(run: str, settings: Path, who: str, why: str, *, as_json: bool) -> None:
    """Cancel a run that waits."""
    with opened(settings) as (_, database), database.transaction():
        now = time.time()
        _ledger(database).cancel(run, who, now=now)
        AuditLog(database).append("run-cancelled", {"run": run, "who": who, "why": why}, now)
    click.echo(json.dumps({"run": run, "state": "cancelled"}) if as_json else f"run {run} is cancelled")


@contextmanager
def _observed(path: Path) -> Iterator[tuple[Runs, Database]]:
    _, file = gateway_at(path)
    with Database.observe(file) as database:
        yield _ledger(database), database


def _ledger(database: Database) -> Runs:
    from quietfleet.workers._runs import Runs  # noqa: PLC0415 - each command loads only what it needs

    return Runs(database, os.urandom)


def _line(one: Run) -> str:
    why = ", ".join(str(line["trigger"]) for line in one.evidence)
    return f"{one.id}  {one.state:<9}  {time_of(one.begun)}  tries {one.tries}  {why}"
