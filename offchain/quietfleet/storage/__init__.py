"""What a worker keeps on disk: one SQLite file, an object folder, physical erasure, a tamper-evident trail."""

from quietfleet.storage._audit import AuditEntry, AuditHead, AuditLog
from quietfleet.storage._database import Database
from quietfleet.storage._objects import ObjectStore
from quietfleet.storage._sealed import SealedColumn
from quietfleet.storage._series import TimeSeries

__all__ = ["AuditEntry", "AuditHead", "AuditLog", "Database", "ObjectStore", "SealedColumn", "TimeSeries"]
