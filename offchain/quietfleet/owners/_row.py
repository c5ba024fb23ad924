"""The workers of a registry, as people see them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from quietfleet.owners._view import View, sheet

_COLUMNS = ("name", "kind", "id", "owner", "active", "suspended", "key", "since", "tags")


@dataclass(frozen=True, slots=True)
class Row:
    """One worker as its owner sees it; `since` in Unix seconds, `epoch` counts its later keys; name and tags local."""

    id: str
    name: str
    kind: str
    owner: str
    active: bool
    suspended: bool
    pending: bool
    retired: bool
    since: int
    epoch: int
    tags: tuple[str, ...] = ()


def table(rows: Iterable[Row]) -> View:
    listed = list(rows)
    return sheet(_COLUMNS, map(_cells, listed), [asdict(row) for row in listed])


def _cells(row: Row) -> tuple[str, ...]:
    activity = "retired" if row.retired else "pending" if row.pending else "yes" if row.active else "no"
    suspended = "yes" if row.suspended else "no"
    since = datetime.fromtimestamp(row.since, UTC).strftime("%Y-%m-%d %H:%M")
    tags = ", ".join(row.tags)
    return row.name, row.kind, row.id, row.owner, activity, suspended, str(row.epoch), since, tags
