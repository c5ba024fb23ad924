"""Rotate the messaging configuration: `ape run rotate --epoch epoch.json --network …`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from scripts._common import FleetCommand, acting

from quietfleet.console import Desk, View


@click.command(cls=FleetCommand)
@acting
@click.option("--epoch", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--keep-keys", is_flag=True, help="Keep all that is not named here, say to raise --min-pow in a flood.")
@click.option("--at-once", is_flag=True, help="In an emergency: in force now, without grace.")
@click.option("--lead", type=int, help="Seconds until it is in force.  [default: 0]")
@click.option("--grace", type=int, help="Seconds for which the one before stays accepted.  [default: 60]")
@click.option("--min-pow", type=float, help="Least proof of work of an envelope.  [default: 0.2]")
@click.option("--max-ttl", type=int, help="Longest life of an envelope, in seconds.  [default: 60]")
@click.option("--max-size", type=int, help="Most bytes of data in an envelope.  [default: 131072]")
def cli(desk: Desk, epoch: Path | None, *, keep_keys: bool, at_once: bool, **limits: Any) -> View:
    """Set the next configuration; refused when the epoch is not the next version."""
    named = {name: limit for name, limit in limits.items() if limit is not None}
    return desk.service.rotate(epoch, keep_keys=keep_keys, at_once=at_once, **named)
