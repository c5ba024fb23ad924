"""The files of a deployment: `deployments/<chain-id>.json`, and older ones under a number."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

from quietfleet.errors import DeploymentExists


def place(folder: Path, chain_id: int, number: int = 0) -> Path:
    return folder / (f"{chain_id}.{number}.json" if number else f"{chain_id}.json")


def verification(record: Path) -> Path:
    """Where the data lies with which an explorer verifies the sources of a recorded deployment."""
    return record.with_suffix(".verify")


def require_free(folder: Path, chain_id: int) -> None:
    """Raise DeploymentExists if the chain has a deployment on record."""
    if place(folder, chain_id).exists():
        raise DeploymentExists(str(place(folder, chain_id)))


def write(folder: Path, deployment: dict[str, Any]) -> Path:
    """Write a new record; DeploymentExists if there is one: what it names may still be in use."""
    path = place(folder, deployment["chain_id"])
    try:
        with path.open("x") as file:
            file.write(json.dumps(deployment, indent=2) + "\n")
    except FileExistsError as error:
        raise DeploymentExists(str(path)) from error
    return path


def archive(folder: Path, chain_id: int) -> Path | None:
    """Put the chain's record, if there is one, under the first free number, with its verification data."""
    current = place(folder, chain_id)
    if not current.exists():
        return None
    kept = next(path for number in count(1) if not (path := place(folder, chain_id, number)).exists())
    if verification(current).exists():
        verification(current).rename(verification(kept))
    return current.rename(kept)
