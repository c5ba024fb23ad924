"""What a worker keeps on disk: one SQLite file, an object folder, physical erasure, a tamper-evident trail.

Names are loaded as they are asked for: a sensor uses few.
"""

from typing import TYPE_CHECKING

from quietfleet.lazy import handed_on

if TYPE_CHECKING:
    from quietfleet.storage._anchors import AuditAnchors, AuditProof, LogAnchor
    from quietfleet.storage._audit import AuditEntry, AuditHead, AuditLog
    from quietfleet.storage._certificates import certificates
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
    from quietfleet.storage._files import Files, FsspecFiles, open_files
    from quietfleet.storage._holds import Hold, Holds
    from quietfleet.storage._lake import Lake
    from quietfleet.storage._ledger import Ledger
    from quietfleet.storage._objects import ObjectStore
    from quietfleet.storage._oci_layout import OciLayout
    from quietfleet.storage._redis import RedisStore
    from quietfleet.storage._rows import Guard, Rows, RowTable, Store
    from quietfleet.storage._salts import DeviceDay, Salts
    from quietfleet.storage._sealed import SealedColumn
    from quietfleet.storage._series import TimeSeries
    from quietfleet.storage._shared import SqliteStore, open_store
    from quietfleet.storage._swarm import SwarmHash, swarm_address

__all__ = [
    "AuditAnchors",
    "AuditEntry",
    "AuditHead",
    "AuditLog",
    "AuditProof",
    "Database",
    "DeviceDay",
    "EncryptedObjects",
    "Files",
    "FolderShelf",
    "FsspecFiles",
    "Guard",
    "Hold",
    "Holds",
    "Lake",
    "Ledger",
    "LogAnchor",
    "ObjectStore",
    "OciLayout",
    "RedisStore",
    "Reference",
    "RowTable",
    "Rows",
    "Salts",
    "SealedColumn",
    "Shelf",
    "SqliteStore",
    "Store",
    "SwarmHash",
    "TimeSeries",
    "certificates",
    "fault_of",
    "open_files",
    "open_object",
    "open_store",
    "seal_object",
    "sealed_size",
    "swarm_address",
]

__getattr__ = handed_on(
    __name__,
    {
        "_anchors": ("AuditAnchors", "AuditProof", "LogAnchor"),
        "_audit": ("AuditEntry", "AuditHead", "AuditLog"),
        "_certificates": ("certificates",),
        "_database": ("Database",),
        "_encrypted": (
            "EncryptedObjects",
            "FolderShelf",
            "Reference",
            "Shelf",
            "open_object",
            "seal_object",
            "sealed_size",
        ),
        "_faults": ("fault_of",),
        "_files": ("Files", "FsspecFiles", "open_files"),
        "_holds": ("Hold", "Holds"),
        "_lake": ("Lake",),
        "_ledger": ("Ledger",),
        "_objects": ("ObjectStore",),
        "_oci_layout": ("OciLayout",),
        "_redis": ("RedisStore",),
        "_rows": ("Guard", "Rows", "RowTable", "Store"),
        "_salts": ("DeviceDay", "Salts"),
        "_sealed": ("SealedColumn",),
        "_series": ("TimeSeries",),
        "_shared": ("SqliteStore", "open_store"),
        "_swarm": ("SwarmHash", "swarm_address"),
    },
)
