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
from quietfleet.storage._objects import ObjectStore
from quietfleet.storage._sealed import SealedColumn
from quietfleet.storage._series import TimeSeries
from quietfleet.storage._swarm import SwarmHash, swarm_address

__all__ = [
    "AuditEntry",
    "AuditHead",
    "AuditLog",
    "Database",
    "EncryptedObjects",
    "FolderShelf",
    "ObjectStore",
    "Reference",
    "SealedColumn",
    "Shelf",
    "SwarmHash",
    "TimeSeries",
    "open_object",
    "seal_object",
    "sealed_size",
    "swarm_address",
]
