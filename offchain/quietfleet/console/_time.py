"""The chain's own time, which is what the contracts go by."""

from __future__ import annotations

from typing import Any


def newest_time(service: Any) -> int:
    """Return the newest block's time, in Unix seconds."""
    return int(service.provider.get_block("latest").timestamp)
