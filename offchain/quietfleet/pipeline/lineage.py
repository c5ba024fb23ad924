"""From a model back to its exact rows, for as long as they are kept, and to nothing once they are erased.

Each row has an HMAC under its day's salt. The salts are erased with the rows; the hashes that stay can then be
neither guessed from likely values nor matched with a copy.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np

from quietfleet.errors import DataRejected
from quietfleet.pipeline.ingest import Dataset, Reading, canonical_floats, ingest
from quietfleet.pipeline.project import Project

_DAY: Final = 86_400
_SALT_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Trace:
    """A dataset's id, the hashes of its rows (hex, in its order), their root, and the salts of the days still kept."""

    dataset: str
    rows: tuple[str, ...]
    salts: Mapping[int, bytes]

    @property
    def root(self) -> str:
        """One hash for all of them."""
        return hashlib.sha256("".join(self.rows).encode()).hexdigest()

    def forget(self, before: float) -> Trace:
        """Erase the salts of days that ended by then: what was hashed under them can no longer be told."""
        return replace(self, salts={day: salt for day, salt in self.salts.items() if (day + 1) * _DAY > before})

    def to_plain(self) -> dict[str, Any]:
        salts = {str(day): salt.hex() for day, salt in self.salts.items()}
        return {"dataset": self.dataset, "rows": list(self.rows), "root": self.root, "salts": salts}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        try:
            salts = {int(day): bytes.fromhex(salt) for day, salt in plain["salts"].items()}
            read = cls(str(plain["dataset"]), tuple(plain["rows"]), salts)
            whole = read.root == plain["root"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataRejected("the trace cannot be read") from error
        if not whole:
            raise DataRejected("the trace was changed: its hashes do not give its root")
        return read


def trace(dataset: Dataset, random: Callable[[int], bytes]) -> Trace:
    """Hash every row under a fresh salt of its day."""
    salts = {int(day): random(_SALT_BYTES) for day in np.unique(dataset.time // _DAY)}
    return Trace(dataset.id, tuple(_hashes(dataset, salts)), salts)


def rebuild(kept: Trace, readings: Iterable[Reading], project: Project) -> Dataset:
    """Find a trace's rows among readings, also where more came since; `DataRejected` counts those that are gone."""
    wanted, chosen = set(kept.rows), []
    for device, time, values in readings:
        slot = int(time // project.period) * project.period
        salt = kept.salts.get(slot // _DAY)
        if salt is None:
            continue
        point = np.array([values.get(name, np.nan) for name in project.schema], dtype=np.float64)
        if _hash(salt, device, slot, point) in wanted:
            chosen.append((device, time, values))
    dataset = ingest(chosen, project)
    if dataset.id != kept.dataset:
        missing = wanted - set(_hashes(dataset, kept.salts))
        raise DataRejected(f"{len(missing)} of {len(wanted)} rows of dataset {kept.dataset[:16]} are gone")
    return dataset


def _hashes(dataset: Dataset, salts: Mapping[int, bytes]) -> Iterable[str]:
    table = np.column_stack(list(dataset.columns.values()))
    for time, device, point in zip(dataset.time.tolist(), dataset.device.tolist(), table, strict=True):
        yield _hash(salts[time // _DAY], dataset.devices[device], time, point)


def _hash(salt: bytes, device: str, time: int, point: Any) -> str:
    name = device.encode()
    row = len(name).to_bytes(4, "little") + name + time.to_bytes(8, "little") + canonical_floats(point)
    return hmac.digest(salt, row, "sha256").hex()
