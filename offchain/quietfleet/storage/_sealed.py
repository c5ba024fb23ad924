"""Column values only the worker's own key can read, bound to the row they were written for."""

from __future__ import annotations

import os
from collections.abc import Callable

from quietfleet.crypto import open_sealed, seal


class SealedColumn:
    """Encrypts one column under the storage key (32 bytes, from the keystore).

    The column's name and the row's identity are authenticated, so that sealed values cannot be swapped around
    in the file; a swapped or altered one raises the crypto package's error.
    """

    def __init__(self, key: bytes, column: str, random: Callable[[int], bytes] = os.urandom) -> None:
        self._key = key
        self._column = column.encode()
        self._random = random

    def seal(self, plaintext: bytes, *, row: bytes) -> bytes:
        """Encrypt a value for the row with this identity."""
        return seal(self._key, plaintext, associated=self._place(row), random=self._random)

    def open(self, sealed: bytes, *, row: bytes) -> bytes:
        """Decrypt a value read from the row with this identity."""
        return open_sealed(self._key, sealed, associated=self._place(row))

    def _place(self, row: bytes) -> bytes:
        return len(self._column).to_bytes(2, "big") + self._column + row
