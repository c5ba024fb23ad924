"""Names of rows that concern a peer: nobody without the worker's secret can tell whom."""

from __future__ import annotations

from functools import lru_cache

from quietfleet.crypto import derive

TAG = 16  # bytes
_KEPT = 4096


class Tags:
    """Peers' tags; the same for life."""

    def __init__(self, secret: bytes) -> None:
        key = derive(secret, "storage", b"peer tags")
        self.of = lru_cache(_KEPT)(lambda peer: derive(key, "peer tag", peer.encode(), length=TAG))
