"""What a failing disk says, in words for the operator."""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

from quietfleet.errors import (
    DiskFailed,
    DiskFull,
    DiskReadOnly,
    StateDamaged,
    StateInUse,
    StorageError,
    TransactionLost,
)

_PRIMARY: Final = 0xFF  # of SQLite's extended codes
_SQLITE: Final[dict[int, type[StorageError]]] = {
    sqlite3.SQLITE_FULL: DiskFull,
    sqlite3.SQLITE_READONLY: DiskReadOnly,
    sqlite3.SQLITE_PERM: DiskReadOnly,
    sqlite3.SQLITE_CANTOPEN: DiskReadOnly,
    sqlite3.SQLITE_IOERR: DiskFailed,
    sqlite3.SQLITE_BUSY: StateInUse,
    sqlite3.SQLITE_CORRUPT: StateDamaged,
    sqlite3.SQLITE_NOTADB: StateDamaged,
}
_SYSTEM: Final[dict[int, type[StorageError]]] = {
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: DiskFull,
    errno.EFBIG: DiskFull,
    errno.EROFS: DiskReadOnly,
    errno.EACCES: DiskReadOnly,
    errno.EPERM: DiskReadOnly,
    errno.EIO: DiskFailed,
}


def fault_of(error: BaseException) -> StorageError | None:
    """Return what an error says of the disk, or None if it is about something else."""
    if isinstance(error, DiskFull | DiskReadOnly | DiskFailed | StateDamaged | StateInUse | TransactionLost):
        return error
    if isinstance(error, sqlite3.Error):
        kind = _SQLITE.get(getattr(error, "sqlite_errorcode", 0) & _PRIMARY)
        return kind(str(error)) if kind else None
    if isinstance(error, OSError) and error.errno in _SYSTEM:
        return _SYSTEM[error.errno](f"{error.filename or 'a file'}: {error.strerror}")
    return None
