"""`quietfleet recalibrate`: have a processor's sensors recalibrate, and see what came of it so far."""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quietfleet.commands._access import JSON, gateway_at, time_of, unlocked
from quietfleet.errors import StorageError, UnknownSensor
from quietfleet.storage import AuditLog, Database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quietfleet.workers._recalibrations import Asked

_SETTINGS = click.option(
    "--settings",
    "-s",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("worker.toml"),
    show_default=True,
    help="The processor's TOML file.",
)


@click.command()
@click.argument("sensors", nargs=-1)
@_SETTINGS
@click.option("--channel", "channels", multiple=True, help="Only this channel; may be given again. All by default.")
@click.option("--relearn", is_flag=True, help="It stands elsewhere now: learn anew how far from the others it reads.")
@click.option("--who", default=getpass.getuser, help="Your name; your login's otherwise.")
@click.option("--why", default="by hand", show_default=True, help="Why; it goes on record and to the sensor.")
@click.option("--list", "listing", is_flag=True, help="Show who was asked when and why, and what came of it.")
@JSON
def recalibrate(
    sensors: tuple[str, ...],
    settings: Path,
    channels: tuple[str, ...],
    who: str,
    why: str,
    *,
    relearn: bool,
    listing: bool,
    as_json: bool,
) -> None:
    """Have a processor ask SENSORS to recalibrate, also beside the running processor.

    It takes the processor's passphrase; `--list` does not.

    \b
      quietfleet recalibrate 0x12ab… -s processor.toml --channel temp --why "reads high"
      quietfleet recalibrate 0x12ab… -s processor.toml --relearn --why "moved to another wall"
      quietfleet recalibrate --list -s processor.toml
    """  # noqa: D301 - click wants a real backspace there
    if listing:
        _show(settings, sensors, as_json=as_json)
        return
    if not sensors:
        raise click.UsageError("name the sensors by their ids, or look with --list")
    requested = _request(settings, sensors, channels, {"who": who, "why": why, "relearn": relearn})
    told = {"requested": requested, "channels": list(channels), "relearn": relearn}
    click.echo(
        json.dumps(told) if as_json else f"{len(requested)} asked as soon as the processor runs: --list shows it"
    )


def _request(path: Path, sensors: Sequence[str], channels: Sequence[str], said: dict[str, Any]) -> list[str]:
    from quietfleet.workers._recalibrations import Recalibrated  # noqa: PLC0415 - each command loads what it needs

    with unlocked(path) as (_, _, database), database.transaction():
        known = {device.casefold(): device for device in _devices(database)}
        unknown = [sensor for sensor in sensors if sensor.casefold() not in known]
        if unknown:
            raise UnknownSensor(", ".join(unknown))
        ledger, found = Recalibrated(database, create=False), [known[sensor.casefold()] for sensor in sensors]
        for device in dict.fromkeys(found):
            ledger.request(device, channels, said["why"], relearn=said["relearn"])
            detail = {"sensor": device, "channels": list(channels), **said}
            AuditLog(database).append("recalibration-requested", detail, time.time())
    return list(dict.fromkeys(found))


def _show(path: Path, sensors: Sequence[str], *, as_json: bool) -> None:
    from quietfleet.workers._recalibrations import Recalibrated  # noqa: PLC0415 - as above

    _, file = gateway_at(path)
    with Database.observe(file) as database:
        _devices(database)
        wanted = {sensor.casefold() for sensor in sensors}
        found = [
            one for one in Recalibrated(database, create=False).all() if not wanted or one.device.casefold() in wanted
        ]
    if as_json:
        click.echo(json.dumps([one.told() for one in found]))
        return
    click.echo("\n".join(map(_line, found)) if found else "nobody was asked to recalibrate yet")


def _devices(database: Any) -> list[str]:
    """The sensors of a processor's folder; `StorageError` when it is another worker's."""
    wanted = "SELECT count(*) FROM sqlite_master WHERE name IN ('devices', 'calibration_requests')"
    if database.execute(wanted).fetchone()[0] != 2:  # noqa: PLR2004 - both of them
        raise StorageError("this is no processor's folder: processors are whom sensors are asked by")
    return [row[0] for row in database.execute("SELECT id FROM devices ORDER BY id").fetchall()]


def _line(one: Asked) -> str:
    result = one.answer.result if one.answer else None
    in_force = result.in_force if result else {}
    corrected = [f"{channel} {each.offset:+.2f}, times {each.gain:.3f}" for channel, each in in_force.items()]
    refused = {**one.withheld, **(result.refused if result else {})}
    left = [f"{channel}: {why}" for channel, why in refused.items()]
    parts = [f"{one.number:>4}  {time_of(one.asked)}  {one.device}  {one.state:<10}  {one.reason}"]
    parts += [f"      corrected in all: {', '.join(corrected)}"] * bool(corrected)
    parts += [f"      left alone: {', '.join(left)}"] * bool(left)
    return "\n".join(parts)
