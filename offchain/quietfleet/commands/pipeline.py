"""`quietfleet pipeline …`: what an ML engineer does before a gateway does it by itself."""

from __future__ import annotations

import getpass
import json
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import Progress as Bar

from quietfleet.commands.store import opened_store
from quietfleet.errors import PipelineError

if TYPE_CHECKING:
    from quietfleet.pipeline.ingest import Reading
    from quietfleet.pipeline.lineage import SaltKeeper
    from quietfleet.pipeline.names import Names
    from quietfleet.pipeline.project import Project
    from quietfleet.pipeline.runtime import Model

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


def _reading(command: Callable[..., None]) -> Callable[..., None]:
    """Say what data to read, and how."""
    for option in (
        click.option("--timezone", help="Of timestamps that name none, such as Europe/Paris."),
        click.option("--column", "columns", multiple=True, metavar="NAME=COLUMN", help="What NAME is called there."),
        click.option("--why", default="training by hand", show_default=True, help="Why the store is read, on record."),
        click.option("--store", type=_FILE, help="Read a gateway's store instead: its TOML file."),
        click.option("--data", type=_FILE, multiple=True, help="A Parquet or CSV file."),
    ):
        command = option(command)
    return command


@click.group()
def pipeline() -> None:
    """Train a model as an engineer's file says, or look whether the file can be used.

    \b
      quietfleet pipeline check pipelines/forecast.py
      quietfleet pipeline run forecast --data month.parquet --out runs/may
      quietfleet pipeline run forecast --store gateway/worker.toml --out runs/june
      quietfleet pipeline report runs/may

    A run that was stopped goes on where it was when started again.
    """  # noqa: D301 - click wants a real backspace there


@pipeline.command()
@click.argument("project")
@_json
def check(project: str, *, as_json: bool) -> None:
    """Load PROJECT, a file or the name of a shipped one, and say what it would do."""
    from quietfleet.pipeline.train import candidates  # noqa: PLC0415 - scikit-learn takes seconds to load

    loaded = _load(project)
    told = _told(loaded) | {"candidates": len(candidates(loaded, 0))}
    if as_json:
        click.echo(json.dumps(told))
        return
    for name, value in told.items():
        click.echo(f"{name:<12} {', '.join(value) if isinstance(value, list) else value}")


@pipeline.command()
@click.argument("folder", type=_FOLDER)
@click.argument("project")
@_reading
def rebuild(folder: Path, project: str, **source: Any) -> None:
    """Find again in the data the exact rows that the run in FOLDER learned from, or say that some are gone."""
    from quietfleet.pipeline.lineage import rebuild as again  # noqa: PLC0415 - as above
    from quietfleet.pipeline.names import Names  # noqa: PLC0415
    from quietfleet.pipeline.run_folder import read_trace  # noqa: PLC0415

    loaded = _load(project)
    with _opened(loaded, Names.of(folder), again=True, **source) as (readings, sites, keeper):
        dataset = again(read_trace(folder), readings, loaded, keeper, sites=sites)
    click.echo(f"dataset {dataset.id}: all {len(dataset)} rows, to the bit")


@pipeline.command()
@click.argument("project")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The run's folder.")
@_reading
@click.option("--seed", type=click.IntRange(min=0, max=2**32 - 1), default=2013, show_default=True)
@click.option(
    "--champion", type=_FOLDER, help="Also judge it against the model in this folder, such as runs/may/model."
)
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes for devices' models."
)
@click.option("--dask", default="", metavar="ADDRESS", help="Or a Dask scheduler: tls://10.0.0.5:8786.")
@click.option("--own-names", is_flag=True, help="Call devices in all that is written what --data calls them.")
@click.option("--fresh", is_flag=True, help="Begin anew, whatever an earlier run found out.")
@_json
def run(
    project: str,
    out: Path,
    seed: int,
    champion: Path | None,
    jobs: int,
    dask: str,
    *,
    own_names: bool,
    fresh: bool,
    as_json: bool,
    **source: Any,
) -> None:
    """Train PROJECT on files or a gateway's store; after Ctrl-C, which stops between fits, the next start goes on.

    Devices of --data get pseudonyms under a key in the run's folder, which `pipeline names` looks them up with.
    """
    from quietfleet.pipeline.ingest import ingest  # noqa: PLC0415 - as above
    from quietfleet.pipeline.run import learn  # noqa: PLC0415
    from quietfleet.pipeline.run_folder import RunFolder  # noqa: PLC0415

    loaded = _load(project)
    names = _names(out, own=own_names) if source["data"] else None
    with _opened(loaded, names, **source) as (readings, sites, keeper):
        dataset = ingest(readings, loaded, sites=sites)
        folder = RunFolder(out, loaded, dataset, seed, random=secrets.token_bytes, keeper=keeper)
    if fresh:
        folder.clear()
    place = folder.finished
    if place is None or champion:  # the fits are remembered
        stop = threading.Event()
        before = signal.signal(signal.SIGINT, lambda *_: stop.set())
        try:
            with Bar(console=Console(stderr=True), transient=True) as bar:
                task = bar.add_task("search", total=1.0)
                candidate = learn(
                    dataset,
                    loaded,
                    seed=seed,
                    now=time.time(),
                    champion=_model(champion) if champion else None,
                    progress=lambda stage, share: bar.update(task, description=stage, completed=share),
                    stopped=stop.is_set,
                    memory=folder,
                    jobs=jobs,
                    dask=dask,
                )
        finally:
            signal.signal(signal.SIGINT, before)
        place = folder.finish(candidate)
    result = json.loads((place / "report.json").read_bytes())
    if as_json:
        click.echo(json.dumps({"folder": str(place), **result}))
        return
    metrics = result["metrics"]
    click.echo(f"{place}: RMSE {metrics['rmse']} {loaded.unit}, persistence {metrics['persistence_rmse']}")
    click.echo(
        f"dataset {result['dataset']}: {result['lineage']['rows']} rows, refused {result['lineage']['rejected']}"
    )
    if own := result.get("personal"):
        told = ", ".join(f"{count} {kind}" for kind, count in own["counts"].items())
        click.echo(f"devices: {told}; RMSE {own['rmse']} {loaded.unit} instead of {own['pooled_rmse']}")
    click.echo(f"page: {place / 'report.html'}")


@pipeline.command()
@click.argument("folder", type=_FOLDER)
@click.argument("devices", nargs=-1, required=True)
def names(folder: Path, devices: tuple[str, ...]) -> None:
    """Print what DEVICES are called in all that the run in FOLDER wrote."""
    from quietfleet.pipeline.names import Names  # noqa: PLC0415 - as above

    found = Names.of(folder)
    for device in devices:
        click.echo(f"{device} {found.pseudonym(device) if found else device}")


@pipeline.command()
@click.argument("file", type=_FILE)
def inspect(file: Path) -> None:
    """Say what is in FILE, an ONNX model or a skops archive, without trusting it; exit code 1 if it is refused."""
    from quietfleet.pipeline.archive import open_model  # noqa: PLC0415 - as above
    from quietfleet.pipeline.onnx_guard import MAXIMUM_BYTES, guard  # noqa: PLC0415

    with file.open("rb") as opened:
        data = opened.read(2 * MAXIMUM_BYTES + 1)
    if file.suffix == ".skops":
        click.echo(f"{file}: a fitted model that may be opened\n{open_model(data)!r}")
    else:
        names = sorted(".".join(filter(None, operator)) for operator in guard(data))
        click.echo(f"{file}: a model that devices take, of {', '.join(names)}; {len(data)} bytes")


@pipeline.command()
@click.argument("folder", type=_FOLDER)
def report(folder: Path) -> None:
    """Make the page about the finished run in FOLDER again, from its JSON."""
    from quietfleet.pipeline.run_folder import write_page  # noqa: PLC0415 - as above

    click.echo(write_page(folder))


def _model(folder: Path) -> Model:
    from quietfleet.crypto import keccak256  # noqa: PLC0415 - as above
    from quietfleet.pipeline.runtime import load_model  # noqa: PLC0415

    try:
        manifest, artifact = ((folder / name).read_bytes() for name in ("manifest.json", "model.onnx"))
    except OSError as error:
        raise PipelineError(f"{folder} holds no model: {error.strerror}") from error
    return load_model(manifest, artifact, keccak256(manifest))


def _load(project: str) -> Project:
    from quietfleet.pipeline.project import find_project, load_project  # noqa: PLC0415 - a sensor has no numpy

    return load_project(find_project(project))


def _told(project: Project) -> dict[str, Any]:
    features = project.features
    return {
        "name": project.name,
        "code": project.code,
        "channels": list(project.schema),
        "target": f"{features.target} ({project.unit}), {features.horizon} periods of {features.period} s ahead",
        "features": list(features.names),
        "schema": features.schema_hash,
    }


def _names(folder: Path, *, own: bool) -> Names | None:
    """The names of a run's devices; what was begun under pseudonyms goes on under them."""
    from quietfleet.pipeline.names import FILE, Names  # noqa: PLC0415 - as above

    if not own:
        return Names.kept(folder, secrets.token_bytes)
    if Names.of(folder) is not None:
        raise PipelineError(f"{folder / FILE}: this run has pseudonyms; leave --own-names out or name another folder")
    return None


@contextmanager
def _opened(
    project: Project,
    names: Names | None,
    data: tuple[Path, ...],
    store: Path | None,
    why: str,
    columns: tuple[str, ...],
    timezone: str | None,
    *,
    again: bool = False,
) -> Iterator[tuple[list[Reading], dict[str, str] | None, SaltKeeper | None]]:
    """Yield readings, the devices' places where these are known, and who keeps the rows' salts beside them.

    A gateway's devices go by their newest name, or `again` by all they have.
    """
    if bool(data) == bool(store):
        raise PipelineError("say where the readings are: files by --data, or a gateway's store by --store")
    if store is None:
        readings = _read(project, data, columns, timezone)
        yield names.veil(readings) if names else readings, None, None
        return
    from quietfleet.workers._veil import JoinedSalts  # noqa: PLC0415 - needs the gateway's packages

    with opened_store(store) as (lake, veil, _):
        kept = lake.scan(who=getpass.getuser(), why=why)
        found = veil.under_all(kept) if again else veil.join(kept)[0]
        readings = [(one, at, values) for one, rows in found.items() for at, values in rows]
        yield readings, veil.sites(), JoinedSalts(lake.salts, veil)


def _read(project: Project, data: tuple[Path, ...], columns: tuple[str, ...], timezone: str | None) -> list[Reading]:
    from quietfleet.pipeline.tables import read_table  # noqa: PLC0415 - as above

    called = dict(_pair(one) for one in columns)
    return [row for path in data for row in read_table(path, project, columns=called, timezone=timezone)]


def _pair(text: str) -> tuple[str, str]:
    name, separator, column = text.partition("=")
    if not separator:
        raise PipelineError(f"--column {text}: write NAME=COLUMN, such as time=measured_at")
    return name, column
