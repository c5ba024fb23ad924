"""`quietfleet monitor …`: the fleet's monitors on any sensor file that a person brings."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from quietfleet.monitor.sheet import Sheet
    from quietfleet.monitor.survey import Survey
    from quietfleet.monitor.telemetry import Health

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_PAGE = click.Path(path_type=Path, dir_okay=False)
_SHOWN = 40
_DAY = 86_400.0
_UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 0.0))


@click.group()
def monitor() -> None:
    """Watch sensor data for drift and faults, as processors and gateways do.

    \b
      quietfleet monitor run readings.csv --report readings.html
    """  # noqa: D301 - click wants a real backspace there


@monitor.command()
@click.argument("file", type=_FILE)
@click.option("--report", type=_PAGE, help="Write a page about it, for a browser.")
@click.option("--time", default="", metavar="COLUMN", help="Which column is the time; guessed otherwise.")
@click.option("--device", default="", metavar="COLUMN", help="Which column tells devices apart; guessed otherwise.")
@click.option("--channel", "channels", multiple=True, metavar="COLUMN", help="What to watch; all that fits otherwise.")
@click.option("--wide/--no-wide", default=None, help="Each column is a device, or none is; guessed otherwise.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def run(
    file: Path,
    report: Path | None,
    time: str,
    device: str,
    channels: tuple[str, ...],
    *,
    wide: bool | None,
    as_json: bool,
) -> None:
    """Watch FILE, a CSV or Parquet file of readings, from its first day to its last.

    A row is a reading of one device, of devices side by side (--wide), or one named value. Says how columns were
    understood, then what the monitors would have said of which device and when. Devices are taken for neighbours of
    one place. Exit code 3 when a device is faulty.
    """
    from quietfleet.monitor.sheet import read_sheet  # noqa: PLC0415 - a sensor has no numpy
    from quietfleet.monitor.survey import survey  # noqa: PLC0415
    from quietfleet.monitor.telemetry import health, named  # noqa: PLC0415
    from quietfleet.monitor.verdict import Verdict  # noqa: PLC0415

    errors = Console(stderr=True)
    with errors.status("reading"):
        sheet = read_sheet(file, time=time, device=device, channels=channels, wide=wide)
    with Bar(console=errors, transient=True) as bar:
        task = bar.add_task("watching", total=1.0)
        found = survey(sheet.readings, period=sheet.period, progress=lambda share: bar.update(task, completed=share))
    told = {device: named(rows) for device, rows in sheet.readings.items()}
    healths = {
        device: how
        for device, rows in told.items()
        if rows and (how := health(rows, now=rows[-1][0], period=sheet.period))
    }
    if report is not None:
        from quietfleet.pipeline.survey_page import render  # noqa: PLC0415 - matplotlib takes seconds to load

        report.write_text(render(file.name, sheet, found, healths))
    if as_json:
        click.echo(json.dumps(_plain(sheet, found, healths)))
    else:
        _show(sheet, found, healths, report)
    if any(found.verdict(one) is Verdict.QUARANTINE for one in found.devices):
        raise SystemExit(3)


def _plain(sheet: Sheet, found: Survey, healths: Mapping[str, Health]) -> dict[str, Any]:
    from quietfleet.monitor.survey import told  # noqa: PLC0415 - as above

    return {
        "columns": _understood(sheet),
        "since": found.since,
        "reference_until": found.reference_until,
        "until": found.until,
        "peers": found.peers,
        "drift_by": found.drift_by,
        "outages": found.outages,
        "day": found.day,
        "devices": {device: found.verdict(device).value for device in found.devices},
        "health": {device: msgspec.to_builtins(how) for device, how in healths.items()},
        "episodes": [{**msgspec.to_builtins(one), "told": told(one)} for one in found.episodes],
    }


def _understood(sheet: Sheet) -> dict[str, Any]:
    return {
        "time": sheet.time,
        "device": sheet.device or None,
        "wide": sheet.wide,
        "channels": list(sheet.channels),
        "names": sheet.names or None,
        "left_out": dict(sheet.left_out),
        "notes": list(sheet.notes),
        "refused": dict(sheet.refused),
        "period": sheet.period,
        "rows": sheet.rows,
    }


def _show(sheet: Sheet, found: Survey, healths: Mapping[str, Health], report: Path | None) -> None:
    from quietfleet.monitor.survey import told  # noqa: PLC0415 - as above

    console = Console()
    several = f"{len(found.devices)} device{'' if len(found.devices) == 1 else 's'}"
    console.print(
        f"{sheet.rows:,} readings of {several}, one every {sheet.period:g} s, "
        f"{_day(found.since)} to {_day(found.until)}"
    )
    console.print(f"time: {sheet.time}; device: {sheet.apart_by}; channels: {', '.join(sheet.channels)}")
    for name, why in sheet.left_out.items():
        console.print(f"left out: {name} {why}", style="dim")
    for note in (*sheet.notes, *(f"{count} rows are {why}" for why, count in sheet.refused.items())):
        console.print(note, style="dim")
    console.print(f"taken for sound until {_day(found.reference_until)}; {found.drift_by}", style="dim")
    if found.day < _DAY:
        console.print(f"a short recording: {_span(found.day)} of it are a day to the monitors", style="dim")
    table = Table("device", "verdict", "what was said of it")
    for device in found.devices[:_SHOWN]:
        said = len(found.of(device))
        table.add_row(device, found.verdict(device).value, {0: "nothing", 1: "once"}.get(said, f"{said} times"))
    console.print(table)
    if len(found.devices) > _SHOWN:
        console.print(f"and {len(found.devices) - _SHOWN} more: --json has them all")
    for device, how in list(healths.items())[:_SHOWN]:
        console.print(f"{device}: health {how.score:.0f} of 100{_why(how)}", highlight=False)
    for one in found.episodes[-_SHOWN:]:
        console.print(f"{_day(one.since)}  {told(one)}", highlight=False)
    if report is not None:
        console.print(f"page: {report}")


def _why(how: Health) -> str:
    """What takes points off, and how long battery and storage last."""
    lasts = [f"its {one.what} lasts {one.days:.0f} days ({one.low:.0f} to {one.high:.0f})" for one in how.longevity]
    return "".join(f"; {words}" for words in (how.words, *lasts) if words)


def _span(seconds: float) -> str:
    unit, size = next(one for one in _UNITS if seconds >= 2 * one[1])
    return f"{seconds / (size or 1.0):.3g} {unit}"


def _day(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"
