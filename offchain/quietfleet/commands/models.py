"""`quietfleet models …`: which models a gateway has, what is in production, and who made it so, when and why."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quietfleet.commands._access import (
    FOLDER,
    JSON,
    SETTINGS,
    line_of,
    moving,
    observed,
    opened,
    said,
    time_of,
    version_of,
)
from quietfleet.commands._models_moves import alias, archive, promote, rollback
from quietfleet.commands._models_prune import prune
from quietfleet.errors import RegistryDamaged, RegistryError
from quietfleet.storage import AuditAnchors, AuditLog

if TYPE_CHECKING:
    from quietfleet.pipeline.registry import Registry


@click.group()
def models() -> None:
    """See and govern a gateway's models, also beside the running gateway; every move goes on record.

    \b
      quietfleet models list -s gateway.toml
      quietfleet models show weather production
      quietfleet models import weather runs/may/model --why "May, with the new sensors"
      quietfleet models promote weather 7 --to production --approved-by ben --why "a third better in frost"
      quietfleet models rollback weather --approved-by ben --why "frost warnings fail"
      quietfleet models prune weather --keep 10 --why "the disk fills"
      quietfleet models verify

    A VERSION is a number or an alias. To look needs no passphrase; to move needs the gateway's. Exit code 4: the
    registry is not what it was.
    """  # noqa: D301 - click wants a real backspace there


@models.command("list")
@click.argument("name", required=False)
@SETTINGS
@JSON
def list_(name: str | None, settings: Path, *, as_json: bool) -> None:
    """Print the versions of NAME, or of every name."""
    with observed(settings) as (registry, _):
        found = registry.versions(name)
    if name is not None and not found:
        raise RegistryError(name)
    if as_json:
        click.echo(json.dumps([one.told() for one in found]))
        return
    for one in found:
        click.echo(line_of(one))
    if not found:
        click.echo("no model is registered yet")


@models.command()
@click.argument("name")
@click.argument("version", default="production")
@click.option("--manifest", "whole", is_flag=True, help="Print the manifest as devices verify it, and nothing else.")
@SETTINGS
@JSON
def show(name: str, version: str, settings: Path, *, whole: bool, as_json: bool) -> None:
    """Print all about one VERSION of NAME: where it comes from, how good it is, and who moved it where."""
    from quietfleet.crypto import keccak256  # noqa: PLC0415 - as above

    with observed(settings) as (registry, _):
        model = registry.get(name, version_of(version))
        told = registry.entry(name, model.version).told()
        told["moves"] = [one.told() for one in registry.history(name) if one.version == model.version]
    if whole:
        click.echo(model.manifest, nl=False)
        return
    told["on_chain"] = "0x" + keccak256(model.manifest).hex()
    told["metrics"] = _metrics(model.manifest)
    told["bytes"] = {label: len(data) for label, data in model.artifacts.items()}
    if as_json:
        click.echo(json.dumps(told))
        return
    for key in ("name", "version", "stage", "aliases", "dataset", "run", "code", "parent", "on_chain"):
        value = told[key]
        click.echo(f"{key.replace('_', ' '):<10} {', '.join(value) if isinstance(value, list) else value}")
    click.echo(f"{'made':<10} {time_of(model.at)}")
    click.echo(f"{'artefacts':<10} {', '.join(f'{label} {size} bytes' for label, size in told['bytes'].items())}")
    for key, value in told["metrics"].items():
        click.echo(f"{key.replace('_', ' '):<10} {value}")
    for move in told["moves"]:
        click.echo(_moved(move))


@models.command()
@click.argument("name", required=False)
@SETTINGS
@JSON
def history(name: str | None, settings: Path, *, as_json: bool) -> None:
    """Print who moved which alias or stage of NAME where, when and why, oldest first."""
    with observed(settings) as (registry, _):
        moves = [one.told() for one in registry.history(name)]
    if as_json:
        click.echo(json.dumps(moves))
        return
    for move in moves:
        click.echo(_moved(move))


@models.command()
@click.option("--collect", is_flag=True, help="Remove what a crash left and no version refers to.")
@SETTINGS
@JSON
def verify(settings: Path, *, collect: bool, as_json: bool) -> None:
    """Read every object, and hold every registration and every move against the audit log.

    With the gateway's passphrase at hand also that each move was written by somebody who had it.
    """
    from quietfleet.pipeline.registry import Registry  # noqa: PLC0415 - as above
    from quietfleet.pipeline.registry_check import check, orphans  # noqa: PLC0415 - as above

    keyed = collect or any(f"QUIETFLEET_PASSPHRASE{end}" in os.environ for end in ("", "_FILE"))
    with (opened if keyed else observed)(settings) as (registry, database):
        log = AuditLog(database, create=False)
        entries = AuditAnchors(database, log).verify()
        found = check(registry, log)
        stray = registry.collect() if isinstance(registry, Registry) and collect else orphans(registry)
        count = len(registry.versions())
    told = {"versions": count, "entries": entries, "stray": stray, "collected": collect, "tags": keyed}
    if as_json:
        click.echo(json.dumps(told | {"faults": [one.told() for one in found]}))
    else:
        click.echo(f"{count} versions, {len(stray)} stray objects{' removed' if collect else ''}")
        for one in found:
            click.echo(str(one))
    if found:
        raise RegistryDamaged(f"{found[0]}" + (f" and {len(found) - 1} more" if len(found) > 1 else ""))


@models.command("import")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--image", help="Which of an OCI layout with several: weather-7.")
@said
@SETTINGS
@JSON
def import_(name: str, folder: Path, image: str | None, who: str, why: str, settings: Path, *, as_json: bool) -> None:
    """Register the model in FOLDER once it passed every check of a device.

    FOLDER is of a run (`runs/may/model`), exported, or an OCI layout, such as `skopeo` brings from a registry.
    """
    from quietfleet.pipeline.model_folder import read_model  # noqa: PLC0415 - as above
    from quietfleet.pipeline.oci import is_layout, take_release  # noqa: PLC0415

    if image is not None or is_layout(folder):
        model = take_release(folder, image, now=time.time())
        manifest, artifacts = model.manifest, dict(model.artifacts)
    else:
        manifest, artifacts = read_model(folder, now=time.time())

    def move(registry: Registry) -> int:
        return registry.register(name, manifest, artifacts, at=time.time(), who=who, why=why)

    moving(settings, name, move, as_json=as_json)


@models.command()
@click.argument("name")
@click.argument("version", default="production")
@click.option("--folder", type=FOLDER, help="A new folder with manifest and artefacts, for `models import` elsewhere.")
@click.option("--oci", type=FOLDER, help="An OCI image layout, new or not, which container registries take.")
@click.option("--mlflow", type=FOLDER, help="A new folder with an MLflow model: python_function and onnx.")
@click.option(
    "--device", default="default", help="With --mlflow: the model of this device (pseudonym), not everybody's."
)
@SETTINGS
@JSON
def export(
    name: str,
    version: str,
    folder: Path | None,
    oci: Path | None,
    mlflow: Path | None,
    device: str,
    settings: Path,
    *,
    as_json: bool,
) -> None:
    """Write VERSION of NAME to a folder for others."""
    from quietfleet.pipeline.mlflow_folder import write_mlflow  # noqa: PLC0415 - as above
    from quietfleet.pipeline.model_folder import write_model  # noqa: PLC0415
    from quietfleet.pipeline.oci import reference_of, write_release  # noqa: PLC0415

    if sum(place is not None for place in (folder, oci, mlflow)) != 1:
        raise click.UsageError("say in what form: --folder, --oci or --mlflow, and where")
    with observed(settings) as (registry, _):
        model = registry.get(name, version_of(version))
    if mlflow is not None:
        write_mlflow(model, mlflow, device)
    elif folder is not None:
        write_model(model, folder)
    place = str(oci or mlflow or folder)
    told = {"name": name, "version": model.version, "folder": place}
    if oci is not None:
        told |= {"image": reference_of(model), "digest": write_release(model, oci)}
    image = f" as {told['image']}, {told['digest']}" if oci else ""
    click.echo(json.dumps(told) if as_json else f"{name} {model.version} is in {place}{image}")


def _moved(move: dict[str, Any]) -> str:
    where = (
        f"{move['alias']} → {move['version'] or 'nothing'}" if move["alias"] else f"{move['version']} → {move['stage']}"
    )
    approved = f", approved by {move['approved_by']}" if move["approved_by"] else ""
    return f"{time_of(move['at'])}  {move['name']}  {where}  by {move['who']}{approved}: {move['why']}"


def _metrics(manifest: bytes) -> dict[str, Any]:
    try:
        found = json.loads(manifest)["metrics"]
    except (ValueError, LookupError, TypeError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, int | float)}


for command in (promote, rollback, archive, alias, prune):
    models.add_command(command)
