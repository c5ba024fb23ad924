"""What commands on a gateway's folder have in common: options, and how its database and registry are opened."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quietfleet.crypto.keystore import load_keystore
from quietfleet.errors import StorageError
from quietfleet.settings import Settings, load_settings, passphrase
from quietfleet.storage import AuditLog, Database

if TYPE_CHECKING:
    from quietfleet.pipeline.registry import Registry
    from quietfleet.pipeline.registry_catalogue import Catalogue
    from quietfleet.pipeline.registry_tables import VersionEntry

_FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
SETTINGS = click.option(
    "--settings", "-s", type=_FILE, default=Path("worker.toml"), show_default=True, help="The gateway's TOML file."
)
JSON = click.option("--json", "as_json", is_flag=True, help="For programs.")


def said(command: Callable[..., None]) -> Callable[..., None]:
    """Who moves something, and why; a name of the gateway's own is nobody's."""
    command = click.option("--why", required=True, callback=_worded, help="Why; it goes on record.")(command)
    return click.option(
        "--who", default=getpass.getuser, callback=_somebody, help="Your name; your login's otherwise."
    )(command)


def _worded(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("say why: it goes on record")
    return value.strip()


def _somebody(context: click.Context, option: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("give a name: it goes on record")
    return _person(context, option, value)


def _person(_context: click.Context, _option: click.Parameter, value: str) -> str:
    from quietfleet.pipeline.registry_tables import CHAIN, GATEWAY  # noqa: PLC0415 - each command loads only what it needs

    if value.strip().casefold() in {CHAIN, GATEWAY}:
        raise click.BadParameter(f"{value} is no person: give a name")
    return value.strip()


APPROVED = click.option(
    "--approved-by", default="", callback=_person, help="Who else looked at it: production takes two persons."
)


@contextmanager
def observed(path: Path) -> Iterator[tuple[Catalogue, Database]]:
    """Open a gateway's registry to look at."""
    from quietfleet.pipeline.registry_catalogue import Catalogue  # noqa: PLC0415 - as above
    from quietfleet.workers._models import objects_of  # noqa: PLC0415

    settings, file = gateway_at(path)
    with Database.observe(file) as database:
        yield Catalogue(database, objects_of(settings)), database


@contextmanager
def opened(path: Path) -> Iterator[tuple[Registry, Database]]:
    """Open a gateway's registry to move things in it, which takes the gateway's passphrase."""
    from quietfleet.pipeline.registry_catalogue import Catalogue  # noqa: PLC0415 - as above
    from quietfleet.workers._models import objects_of, open_registry  # noqa: PLC0415

    with unlocked(path) as (settings, secret, database):
        Catalogue(database, objects_of(settings))  # nobody but a gateway makes one
        yield open_registry(settings, database, secret, AuditLog(database).append), database


@contextmanager
def unlocked(path: Path) -> Iterator[tuple[Settings, bytes, Database]]:
    """Open a gateway's database with its passphrase: its settings, its identity's secret, the database."""
    settings, file = gateway_at(path)
    secret = load_keystore(settings.path(settings.worker.keystore), passphrase(os.environ)).to_bytes()
    with Database(file) as database:
        yield settings, secret, database


def gateway_at(path: Path) -> tuple[Settings, Path]:
    """Return a gateway's settings, or another worker's, and its database; `StorageError` when it never ran."""
    settings = load_settings(path, os.environ)
    file = settings.path(settings.worker.state) / "worker.db"
    if not file.is_file():
        raise StorageError(f"{file} does not exist: this worker never ran")
    return settings, file


def moving(settings: Path, name: str, move: Callable[[Registry], int | None], *, as_json: bool) -> None:
    """Make a move, and tell how the version stands then."""
    with opened(settings) as (registry, _):
        number = move(registry)
        entry = registry.entry(name, number) if number is not None else None
    if as_json:
        click.echo(json.dumps(entry.told() if entry else {"name": name, "version": None}))
        return
    click.echo(line_of(entry) if entry else f"{name}: done")


def version_of(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def line_of(one: VersionEntry) -> str:
    meant = f"  ({', '.join(one.aliases)})" if one.aliases else ""
    source = f"  run {one.facts.run}" if one.facts.run else ""
    return (
        f"{one.name} {one.version}  {one.stage:<10}  {time_of(one.at)}  dataset {one.facts.dataset[:12]}{source}{meant}"
    )


def time_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
