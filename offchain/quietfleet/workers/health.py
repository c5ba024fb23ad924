"""Whether a worker is well, by what it last wrote of itself: for probes and supervisors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from quietfleet.errors import Unhealthy

FRESH: Final = 15.0  # seconds; a worker writes its status every second


def require_alive(folder: Path, now: float) -> dict[str, Any]:
    """Return the status of the worker whose state is in `folder`; raises `Unhealthy` if it is down or stuck."""
    try:
        written = (folder / "status.json").stat().st_mtime
        status: dict[str, Any] = json.loads((folder / "status.json").read_text())
    except (OSError, ValueError) as error:
        raise Unhealthy("it has written no status yet") from error
    if not status.get("running"):
        raise Unhealthy("it was stopped")
    if now - written > FRESH:
        raise Unhealthy(f"it has written no status for {now - written:.0f} s")
    return status


def require_ready(folder: Path, now: float) -> None:
    """Raise `Unhealthy` unless the worker can do its work: the chain in sight, a link, its replicas' store in reach."""
    status = require_alive(folder, now)
    if status.get("block") is None or status.get("stale"):
        raise Unhealthy("it does not know the chain's newest block")
    if not status.get("peers"):
        raise Unhealthy("it has no link to the network")
    replicas = status.get("replicas")
    if replicas is not None and (replicas["store"] != "in reach" or replicas["id"] not in replicas["members"]):
        raise Unhealthy("the store that its replicas share is out of reach")
