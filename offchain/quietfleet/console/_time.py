"""The chain's own time, which is what the contracts go by."""

from __future__ import annotations

from typing import Any, Final

EVER: Final = 2**63
"""A block number no chain reaches: as the end of a range, the newest block."""


def newest_time(service: Any) -> int:
    """Return the newest block's time, in Unix seconds."""
    return int(service.provider.get_block("latest").timestamp)
