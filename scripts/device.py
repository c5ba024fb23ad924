"""What owners decide about their devices: `ape run device retire porch --network …`."""

from __future__ import annotations

import click
from scripts._groups import FILE, group

from quietfleet.console import Fleet

WORKER, WORKERS = click.argument("worker"), click.argument("workers", nargs=-1, required=True)

cli = group(
    "fleet",
    "Accept, name, tag, pass on and retire devices; replace their keys.",
    accept=(Fleet.accept, WORKERS),
    name=(Fleet.name, WORKER, click.argument("name")),
    tag=(Fleet.tag, WORKER, click.argument("tags", nargs=-1, required=True)),
    untag=(Fleet.untag, WORKER, click.argument("tags", nargs=-1)),
    offer=(Fleet.offer, WORKER, click.argument("to")),
    withdraw_offer=(Fleet.withdraw_offer, WORKER),
    take=(Fleet.take, WORKERS),
    rotate_key=(Fleet.rotate_key, click.option("--proof", "proofs", multiple=True, required=True, type=FILE)),
    retire=(Fleet.retire, WORKERS),
)
