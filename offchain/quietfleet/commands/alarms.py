"""`quietfleet alarms …`: what a processor has found, what it does about it, and a person's word on that."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from quietfleet.commands._access import JSON, gateway_at, said, time_of, unlocked
from quietfleet.errors import MonitorError, StorageError
from quietfleet.monitor.rules import CAUSES, Action, load_rules
from quietfleet.settings import load_settings
from quietfleet.storage import AuditLog, Database

if TYPE_CHECKING:
    from quietfleet.monitor.alarms import Alarm
    from quietfleet.workers._alarms import Alarms

_UNITS: Final = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_FILE = click.Path(path_type=Path, dir_okay=False)
SETTINGS = click.option(
    "--settings", "-s", type=_FILE, default=Path("worker.toml"), show_default=True, help="The processor's TOML file."
)


@click.group()
def alarms() -> None:
    """Look at a processor's alarms and say what is to be done, also beside the running processor.

    \b
      quietfleet alarms list -s processor.toml
      quietfleet alarms approve 3 -s processor.toml --why "a new roof: it is warmer there"
      quietfleet alarms silence 4 -s processor.toml --for 7d --why "the battery comes on Monday"
      quietfleet alarms override 5 -s processor.toml --action tell --why "it is dry there for months"
    """  # noqa: D301 - click wants a real backspace there


@alarms.command("list")
@click.option("--all", "everything", is_flag=True, help="Those too that are over.")
@SETTINGS
@JSON
def show_all(settings: Path, *, everything: bool, as_json: bool) -> None:
    """Print the alarms that are open, a sentence each; leaves with 1 if there are any that nobody spoke about."""
    found = _known(settings)
    chosen = [one for one in found if everything or one.state != "ended"]
    if as_json:
        click.echo(json.dumps([_told(one) for one in chosen]))
    else:
        click.echo("\n".join(map(_line, chosen)) or "No alarms.")
    if any(one.state == "open" and not one.quiet(time.time()) for one in chosen):
        raise SystemExit(1)


@alarms.command()
@click.argument("number", type=int)
@SETTINGS
@JSON
def show(number: int, settings: Path, *, as_json: bool) -> None:
    """Print one alarm, and every entry of the trail that names it."""
    one = next((one for one in _known(settings) if one.number == number), None)
    if one is None:
        raise MonitorError(f"there is no alarm {number}")
    _, file = gateway_at(settings)
    with Database.observe(file) as database:
        kinds = {"alarm", "alarm-over", "alarm-spoken"}
        entries = AuditLog(database, create=False).entries()
        trail = [
            {"at": entry.at, "kind": entry.kind, **entry.detail}
            for entry in entries
            if entry.kind in kinds and entry.detail["number"] == number
        ]
    told = _told(one) | {"trail": trail}
    click.echo(json.dumps(told) if as_json else "\n".join([_line(one), json.dumps(told, indent=2)]))


@alarms.command()
@click.argument("number", type=int)
@SETTINGS
@said
@JSON
def approve(number: int, settings: Path, who: str, why: str, *, as_json: bool) -> None:
    """Agree with what is done; a drift that waits for a person's word is learned from then."""
    _speak(settings, number, lambda one: one.approved(who, why), "approve", as_json=as_json)


@alarms.command()
@click.argument("number", type=int)
@click.option("--for", "within", required=True, help="How long, such as 12h, 7d or 2w.")
@SETTINGS
@said
@JSON
def silence(number: int, within: str, settings: Path, who: str, why: str, *, as_json: bool) -> None:
    """Hear nothing of it for a while; what is done about it goes on."""
    until = time.time() + _seconds(within)
    _speak(settings, number, lambda one: one.silenced(until, who, why), "silence", as_json=as_json)


@alarms.command()
@click.argument("number", type=int)
@click.option("--action", "actions", multiple=True, type=click.Choice([*map(str, Action)]), help="What to do instead.")
@SETTINGS
@said
@JSON
def override(number: int, actions: tuple[str, ...], settings: Path, who: str, why: str, *, as_json: bool) -> None:
    """Have something else done while it lasts; without --action, nothing."""
    chosen = tuple(map(Action, actions))
    _speak(settings, number, lambda one: one.overridden(chosen, who, why), "override", as_json=as_json)


@alarms.command()
@click.option("--check", type=_FILE, help="Read this file instead, and say what is wrong with it.")
@click.option("--settings", "-s", type=_FILE, help="The processor's TOML file; else the rules that Quietfleet brings.")
@JSON
def rules(check: Path | None, settings: Path | None, *, as_json: bool) -> None:
    """Print the rules in force, from findings to actions, and the words there are."""
    path = check
    if path is None and settings is not None:
        chosen = load_settings(settings, os.environ)
        path = chosen.path(chosen.processor.rules) if chosen.processor.rules else None
    found = load_rules(path)
    if as_json:
        click.echo(json.dumps({"rules": msgspec.to_builtins(found.rules), "causes": sorted(CAUSES)}))
        return
    for rule in found.rules:
        channel = f" in {', '.join(rule.channel)}" if rule.channel else ""
        click.echo(f"{', '.join(rule.when)}{channel} → {', '.join(rule.then) or 'tell'}")
    click.echo(f"What can be found: {', '.join(sorted(CAUSES))}.")


def _speak(path: Path, number: int, word: Callable[[Alarm], Alarm], verb: str, *, as_json: bool) -> None:
    with unlocked(path) as (_, _, database), database.transaction():
        now = time.time()
        one = _ledger(database).change(number, word)
        said = {"number": number, "word": verb, "who": one.by, "why": one.why, "actions": list(map(str, one.done))}
        if verb == "silence":
            said["until"] = one.quiet_until
        AuditLog(database).append("alarm-spoken", said, now)
    click.echo(json.dumps(_told(one)) if as_json else _line(one))


def _known(path: Path) -> list[Alarm]:
    _, file = gateway_at(path)
    with Database.observe(file) as database:
        return _ledger(database).all()


def _ledger(database: Database) -> Alarms:
    """A processor's alarms; `StorageError` when it is another worker's folder."""
    from quietfleet.workers._alarms import Alarms  # noqa: PLC0415 - each command loads only what it needs

    if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'alarms'").fetchone() is None:
        raise StorageError("this is no processor's folder: processors are who raises alarms")
    return Alarms(database, create=False)


def _told(one: Alarm) -> dict[str, Any]:
    from quietfleet.monitor.alarms import sentence  # noqa: PLC0415 - as above

    told: dict[str, Any] = msgspec.to_builtins(one)
    return told | {"done": list(map(str, one.done)), "sentence": sentence(one)}


def _line(one: Alarm) -> str:
    from quietfleet.monitor.alarms import sentence  # noqa: PLC0415 - as above

    quiet = f", silent until {time_of(one.quiet_until)}" if one.quiet(time.time()) else ""
    return f"{one.number}  {one.state}{quiet}  {sentence(one)}"


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no time such as 12h, 7d or 2w")
    return int(found[1]) * _UNITS[found[2]]
