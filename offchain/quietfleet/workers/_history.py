"""The history an operator brings for the first model."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

from quietfleet.errors import SettingsError


def read_history(path: Path, until: str) -> list[tuple[str, float, dict[str, float]]]:
    """Read a CSV with the columns device, time (Unix seconds) and one a field, up to an ISO date; `SettingsError`."""
    try:
        end = datetime.fromisoformat(until).replace(tzinfo=UTC).timestamp() if until else float("inf")
        with path.open(newline="") as file:
            rows = [
                (
                    row.pop("device"),
                    float(row.pop("time")),
                    {name: float(value) for name, value in row.items() if value != ""},
                )
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"[gateway] history: {error}") from error
    return [row for row in rows if row[1] < end]
