"""`quietfleet models promote|rollback|archive|alias`: what people decide about a gateway's models, and answer for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quietfleet.commands._access import APPROVED, JSON, SETTINGS, moving, said, version_of
from quietfleet.errors import RegistryError

if TYPE_CHECKING:
    from quietfleet.pipeline.registry import Registry


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("--to", "stage", type=click.Choice(["staging", "production"]), required=True)
@said
@APPROVED
@SETTINGS
@JSON
def promote(name: str, version: str, stage: str, settings: Path, *, as_json: bool, **words: Any) -> None:
    """Move VERSION of NAME to staging or production.

    What was in production before goes to the archive. The gateway, once it runs, has a version promoted to production
    released on chain, where its approver has a word, too.
    """
    from quietfleet.pipeline.registry import Stage  # noqa: PLC0415 - as above

    def move(registry: Registry) -> int:
        number = registry.entry(name, version_of(version)).version
        registry.promote(name, number, Stage(stage), at=time.time(), **words)
        return number

    moving(settings, name, move, as_json=as_json)


@click.command()
@click.argument("name")
@said
@APPROVED
@SETTINGS
@JSON
def rollback(name: str, settings: Path, *, as_json: bool, **words: Any) -> None:
    """Bring back to production what was there before.

    A release that reached the fleet comes back there by a rollback on chain (`ape run release`); this one sets the
    registry, and releases what never was.
    """
    from quietfleet.pipeline.registry import Stage  # noqa: PLC0415 - as above

    def move(registry: Registry) -> int:
        number = registry.previous(name)
        registry.promote(name, number, Stage.PRODUCTION, at=time.time(), **words)
        return number

    moving(settings, name, move, as_json=as_json)


@click.command()
@click.argument("name")
@click.argument("version")
@said
@SETTINGS
@JSON
def archive(name: str, version: str, settings: Path, *, as_json: bool, **words: Any) -> None:
    """Take VERSION of NAME out of use; its bytes and its history stay."""

    def move(registry: Registry) -> int:
        number = registry.entry(name, version_of(version)).version
        registry.archive(name, number, at=time.time(), **words)
        return number

    moving(settings, name, move, as_json=as_json)


@click.command()
@click.argument("name")
@click.argument("alias")
@click.argument("version", required=False)
@click.option("--remove", is_flag=True, help="Let it mean nothing.")
@said
@SETTINGS
@JSON
def alias(
    name: str, alias: str, version: str | None, settings: Path, *, remove: bool, as_json: bool, **words: Any
) -> None:
    """Let ALIAS mean VERSION of NAME. Champion follows the chain, production is promoted to."""
    from quietfleet.pipeline.registry import CHAMPION  # noqa: PLC0415 - as above

    if remove == (version is not None):
        raise click.UsageError("name the version that it is to mean, or --remove it")
    if alias == CHAMPION:
        raise RegistryError(f"{CHAMPION} is what the chain has open: release another")

    def move(registry: Registry) -> int | None:
        number = registry.entry(name, version_of(version)).version if version else None
        registry.point(name, alias, number, at=time.time(), **words)
        return number

    moving(settings, name, move, as_json=as_json)
