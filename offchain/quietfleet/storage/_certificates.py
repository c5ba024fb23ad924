"""Proof on record that readings were erased: what, how many, which files, for whom and why, and when they were gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from quietfleet.storage._audit import AuditLog

ERASED: Final = "data-erased"
RETENTION: Final = "retention"
FORGET: Final = "forget"
WHOLE_DAY: Final = "day"


def certificates(audit: AuditLog, device: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the erasure certificates of an audit log, oldest first; those about one device by its tag there."""
    for entry in audit.entries(kind=ERASED):
        if device is None or entry.detail.get("device") == device:
            yield {"number": entry.sequence, "at": entry.at, "hash": entry.hash.hex(), **entry.detail}
