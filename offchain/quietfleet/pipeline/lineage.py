"""From a model back to its exact rows, for as long as they are kept, and to nothing once they are erased.

Each row has an HMAC under the salt of its device and day. The salts are erased with the rows; the hashes that stay can
then be neither guessed from likely values nor matched with a copy.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

import numpy as np

from quietfleet.errors import DataRejected
from quietfleet.pipeline.ingest import Dataset, Reading, canonical_floats, ingest
from quietfleet.pipeline.project import Project
from quietfleet.storage import DeviceDay

_DAY: Final = 86_400
_SALT_BYTES: Final = 32


class SaltKeeper(Protocol):
    """Where salts lie beside the rows, and are erased with them: `storage.Salts` of a gateway's store."""

    def make(self, wanted: Iterable[DeviceDay]) -> Mapping[DeviceDay, bytes]:
        """Return the salts of these, drawing those that are not there."""
        ...

    def read(self, wanted: Iterable[DeviceDay]) -> Mapping[DeviceDay, bytes]:
        """Return those that are still kept."""
        ...


@dataclass(frozen=True, slots=True)
class Trace:
    """A dataset's id, the hashes of its rows (hex, in its order), their root; `salts` unless a keeper has them."""

    dataset: str
    rows: tuple[str, ...]
    salts: Mapping[DeviceDay, bytes]

    @property
    def root(self) -> str:
        """One hash for all of them."""
        return hashlib.sha256("".join(self.rows).encode()).hexdigest()

    def to_plain(self) -> dict[str, Any]:
        salts: dict[str, dict[str, str]] = {}
        for (device, day), salt in self.salts.items():
            salts.setdefault(device, {})[str(day)] = salt.hex()
        return {"dataset": self.dataset, "rows": list(self.rows), "root": self.root, "salts": salts}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        try:
            salts = {
                (device, int(day)): bytes.fromhex(salt)
                for device, days in plain["salts"].items()
                for day, salt in days.items()
            }
            read = cls(str(plain["dataset"]), tuple(plain["rows"]), salts)
            whole = read.root == plain["root"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataRejected("the trace cannot be read") from error
        if not whole:
            raise DataRejected("the trace was changed: its hashes do not give its root")
        return read


def trace(dataset: Dataset, random: Callable[[int], bytes], keeper: SaltKeeper | None = None) -> Trace:
    """Hash every row under the salt of its device and day: the keeper's, or fresh ones that the trace holds itself."""
    days = zip((dataset.devices[device] for device in dataset.device.tolist()), dataset.time.tolist(), strict=True)
    wanted = dict.fromkeys((device, int(time) // _DAY) for device, time in days)
    salts = keeper.make(wanted) if keeper else {one: random(_SALT_BYTES) for one in wanted}
    return Trace(dataset.id, tuple(_hashes(dataset, salts)), {} if keeper else salts)


def rebuild(
    kept: Trace,
    readings: Iterable[Reading],
    project: Project,
    keeper: SaltKeeper | None = None,
    *,
    sites: Mapping[str, str] | None = None,
) -> Dataset:
    """Find a trace's rows among readings, also where more came since; `DataRejected` counts those that are gone."""
    found = [
        (device, int(time // project.period) * project.period, time, values)
        for device, time, values in readings
        if math.isfinite(time)
    ]
    days = dict.fromkeys((device, slot // _DAY) for device, slot, *_ in found)
    salts = keeper.read(days) if keeper else kept.salts
    wanted, chosen = set(kept.rows), []
    for device, slot, time, values in found:
        salt = salts.get((device, slot // _DAY))
        point = np.array([values.get(name, np.nan) for name in project.schema], dtype=np.float64)
        if salt is not None and _hash(salt, device, slot, point) in wanted:
            chosen.append((device, time, values))
    dataset = ingest(chosen, project, sites=sites)
    if dataset.id != kept.dataset:
        missing = wanted - set(_hashes(dataset, salts))
        raise DataRejected(f"{len(missing)} of {len(wanted)} rows of dataset {kept.dataset[:16]} are gone")
    return dataset


def _hashes(dataset: Dataset, salts: Mapping[DeviceDay, bytes]) -> Iterable[str]:
    table = np.column_stack(list(dataset.columns.values()))
    for time, device, point in zip(dataset.time.tolist(), dataset.device.tolist(), table, strict=True):
        name = dataset.devices[device]
        yield _hash(salts[name, time // _DAY], name, time, point)


def _hash(salt: bytes, device: str, time: int, point: Any) -> str:
    name = device.encode()
    row = len(name).to_bytes(4, "little") + name + time.to_bytes(8, "little") + canonical_floats(point)
    return hmac.digest(salt, row, "sha256").hex()
