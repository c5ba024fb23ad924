"""`quietfleet models prune`: what a gateway need not keep any more goes, for good and on record."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from quietfleet.commands._access import JSON, SETTINGS, line_of, said, unlocked
from quietfleet.storage import AuditLog


@click.command()
@click.argument("name")
@click.option("--keep", type=click.IntRange(min=1), required=True, help="How many of the newest versions stay.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@said
@SETTINGS
@JSON
def prune(name: str, keep: int, settings: Path, *, dry_run: bool, as_json: bool, **words: Any) -> None:
    """Remove the artefacts of all but the newest versions of NAME.

    What any alias means stays, what is in staging or production or was there before, and what the chain has open or a
    rollback brings back. Of what goes, the manifest and the history stay; single devices' models go with it.
    """
    from quietfleet.pipeline.registry_catalogue import Catalogue  # noqa: PLC0415 - as above
    from quietfleet.workers._models import objects_of, open_registry  # noqa: PLC0415
    from quietfleet.workers._pruning import Pruning  # noqa: PLC0415

    with unlocked(settings) as (known, secret, database):
        Catalogue(database, objects_of(known))
        registry = open_registry(known, database, secret, AuditLog(database).append)
        pruning = Pruning(known, database, secret, registry)
        left: list[str] = []
        if dry_run:
            gone = pruning.prunable(name, keep)
        else:
            gone, left = pruning.prune(name, keep, at=time.time(), **words)
    if as_json:
        told = {"name": name, "versions": [one.version for one in gone], "dry_run": dry_run, "left_on_shelf": left}
        click.echo(json.dumps(told))
        return
    for one in gone:
        click.echo(line_of(one))
    click.echo(f"{len(gone)} versions {'would go' if dry_run else 'are pruned'}")
    for address in left:
        click.echo(f"the shelf did not let go of {address}: remove that file by hand", err=True)
