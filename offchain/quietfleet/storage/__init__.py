"""What a worker keeps on disk: one SQLite file, an object folder, physical erasure, a tamper-evident trail."""

from quietfleet.storage._audit import AuditEntry, AuditHead, AuditLog
from quietfleet.storage._database import Database
from quietfleet.storage._encrypted import (
    EncryptedObjects,
    FolderShelf,
    Reference,
    Shelf,
    open_object,
    seal_object,
    sealed_size,
)
from quietfleet.storage._faults import fault_of
from quietfleet.storage._ledger import Ledger
from quietfleet.storage._objects import ObjectStore
from quietfleet.storage._redis import RedisStore
from quietfleet.storage._rows import Guard, Rows, RowTable, Store
from quietfleet.storage._sealed import SealedColumn
from quietfleet.storage._series import TimeSeries
from quietfleet.storage._shared import SqliteStore, open_store
from quietfleet.storage._swarm import SwarmHash, swarm_address

__all__ = [
    "AuditEntry",
    "AuditHead",
    "AuditLog",
    "Database",
    "EncryptedObjects",
    "FolderShelf",
    "Guard",
    "Ledger",
    "ObjectStore",
    "RedisStore",
    "Reference",
    "RowTable",
    "Rows",
    "SealedColumn",
    "Shelf",
    "SqliteStore",
    "Store",
    "SwarmHash",
    "TimeSeries",
    "fault_of",
    "open_object",
    "open_store",
    "seal_object",
    "sealed_size",
    "swarm_address",
]
