"""`quietfleet store …`: what a gateway keeps, what must stay, what is erased, and the proof that it is."""

from __future__ import annotations

import getpass
import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quietfleet.clock import SystemClock
from quietfleet.commands._access import gateway_at
from quietfleet.crypto.keystore import load_keystore
from quietfleet.errors import StorageError
from quietfleet.settings import load_settings, passphrase
from quietfleet.storage import AuditLog, Database, Hold, Lake, certificates

if TYPE_CHECKING:
    from quietfleet.workers._veil import Veil

_FILE = click.Path(path_type=Path, dir_okay=False)
_settings = click.option("--settings", "-s", type=_FILE, default=Path("worker.toml"), help="The gateway's TOML file.")
_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
_who = click.option("--who", default=getpass.getuser, help="Who asks; your login name otherwise.")
_why = click.option("--why", required=True, help="Why; it goes on record.")


@click.group()
def store() -> None:
    """Govern a gateway's readings, also beside the running gateway; everything done goes on record."""


@store.command("list")
@_settings
@click.option("--check", is_flag=True, help="Also open every file.")
@_json
def list_(settings: Path, *, check: bool, as_json: bool) -> None:
    """Print devices with their tags in the trail, and holds; with --check, files that are not what was written."""
    with opened_store(settings) as (lake, *_):
        devices = {device: lake.tag(device) for device in lake.devices()}
        holds, faults = [hold.told() for hold in lake.holds()], lake.check() if check else []
    found: dict[str, Any] = {"devices": devices, "holds": holds, "faults": faults}
    _say(found, "\n".join([f"{len(devices)} devices", *devices, *map(json.dumps, holds), *faults]), as_json=as_json)
    if faults:
        raise StorageError(f"{len(faults)} files are not what was written, or not of this store")


@store.command()
@click.argument("name")
@click.option("--device", default=None, help="One pseudonym; otherwise all.")
@click.option("--since", type=click.DateTime(), default=None, help="UTC.")
@click.option("--until", type=click.DateTime(), default=None, help="UTC.")
@_who
@_why
@_settings
@_json
def hold(
    settings: Path, name: str, since: datetime | None, until: datetime | None, *, as_json: bool, **more: Any
) -> None:
    """Have readings stay, whatever their age and whoever asks."""
    one = Hold(name, since=_unix(since, -math.inf), until=_unix(until, math.inf), at=time.time(), **more)
    from quietfleet.workers._veil import hold_device  # noqa: PLC0415 - needs the gateway's packages

    with opened_store(settings) as (lake, veil, _):
        hold_device(lake, veil, one)
    _say(one.told(), f"hold {name} is in force", as_json=as_json)


@store.command("release-hold")
@click.argument("name")
@_who
@_why
@_settings
@_json
def release_hold(name: str, who: str, why: str, settings: Path, *, as_json: bool) -> None:
    """Lift a hold: what it kept goes when it is due."""
    from quietfleet.workers._veil import lift_hold  # noqa: PLC0415 - needs the gateway's packages

    with opened_store(settings) as (lake, *_):
        lift_hold(lake, name, who=who, why=why)
    _say({"released": name}, f"hold {name} is released", as_json=as_json)


@store.command()
@click.argument("device")
@_who
@_why
@_settings
@_json
def forget(device: str, who: str, why: str, settings: Path, *, as_json: bool) -> None:
    """Erase everything of one DEVICE, by any of its pseudonyms; what it sent until now is refused from then on."""
    from quietfleet.workers._veil import forget_device  # noqa: PLC0415 - needs the gateway's packages

    with opened_store(settings) as (lake, veil, now):
        erased = forget_device(lake, veil, device, now=now, who=who, why=why)
    _say({"erased": erased}, f"{erased} readings are erased", as_json=as_json)


@store.command()
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), default=None, help="A whole day, unread.")
@_who
@_why
@_settings
@_json
def erase(day: datetime | None, who: str, why: str, settings: Path, *, as_json: bool) -> None:
    """Erase now what is due, or a whole day whose file is damaged."""
    with opened_store(settings) as (lake, _, now):
        number = int(_unix(day, 0) // 86_400)
        erased = lake.erase(now, who=who) if day is None else lake.erase_day(number, who=who, why=why)
    _say({"erased": erased}, f"{erased} readings are erased", as_json=as_json)


@store.command("certificates")
@click.option("--device", default=None, help="About one device, by its tag.")
@_settings
@_json
def certificates_(device: str | None, settings: Path, *, as_json: bool) -> None:
    """Print what was erased, when, for whom and why, with the hashes of its files."""
    chosen = load_settings(settings, os.environ)
    with Database.observe(chosen.path(chosen.worker.state) / "worker.db") as database:
        for one in certificates(AuditLog(database, create=False), device):
            _say(
                one,
                f"{one['number']}: {one['rows']} readings, {one['what']}, {one['who']}: {one['why']}",
                as_json=as_json,
            )


@contextmanager
def opened_store(path: Path) -> Iterator[tuple[Lake, Veil, float]]:
    from quietfleet.workers._month import DAY, open_lake  # noqa: PLC0415 - needs the gateway's packages
    from quietfleet.workers._veil import Veil  # noqa: PLC0415 - as above

    (settings, file), clock = gateway_at(path), SystemClock()
    secret = load_keystore(settings.path(settings.worker.keystore), passphrase(os.environ)).to_bytes()
    with Database(file) as database:
        trail = AuditLog(database).append
        lake, _ = open_lake(settings, database, secret, trail=trail, clock=clock.now, begin=False)
        veil = Veil(database, secret, settings.store.retention_days * DAY)
        yield lake, veil, settings.data_clock(clock).now()


def _unix(moment: datetime | None, otherwise: float) -> float:
    return otherwise if moment is None else moment.replace(tzinfo=UTC).timestamp()


def _say(found: dict[str, Any], line: str, *, as_json: bool) -> None:
    click.echo(json.dumps(found) if as_json else line)
