"""Switch workers on or off: `ape run toggle --off porch --network …`."""

from __future__ import annotations

import click
from scripts._common import FleetCommand, acting

from quietfleet.console import Desk, View


@click.command(cls=FleetCommand)
@acting
@click.option("--on/--off", "active", required=True)
@click.argument("workers", nargs=-1, required=True)
def cli(desk: Desk, workers: tuple[str, ...], *, active: bool) -> View:
    """Switch workers on or off, by name or id; each owner's together, signed for by it or by its operator."""
    return desk.fleet.enable(*workers) if active else desk.fleet.disable(*workers)
