"""The oracle as rotator: it raises the network's least proof of work under a flood that lasts, and lowers it after it.

Its node sees what the relays pass on, so it measures what a flood costs everybody. The keys stay what they are: a
rotation that keeps them takes nobody's session away, and is made only from a configuration that names this oracle and
the epoch key it holds. The service owner's bounds of proof of work are the last word.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from quietfleet.chain.service import Rotation, ServiceContract
from quietfleet.chain.types import Configuration
from quietfleet.crypto import PrivateKey
from quietfleet.network import Tuning
from quietfleet.session import Vault
from quietfleet.settings import OracleSection
from quietfleet.whisper.tide import Load, Memory, Standing, Tide, TideTuning
from quietfleet.workers._account import account
from quietfleet.workers._runtime import Runtime

GRACE: Final = 30  # seconds for which envelopes of the level before still pass: longer than any is under way
LOOK_EVERY: Final = 10.0  # seconds between two questions to the chain
MARGIN: Final = 2.0  # seconds by which the chain's clock may be behind ours

_MEMORY: Final = b"tide"
_LEAST: Final = 1e-9  # the widest bounds a contract allows: the narrower ones are read when something is due
_MOST: Final = 1000.0


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    memory: Memory


class TideKeeper:
    """Watches the load, and sets the level with the account that may rotate."""

    def __init__(self, runtime: Runtime, rotator: PrivateKey, section: OracleSection) -> None:
        self._runtime = runtime
        self._rotator = rotator
        self._vault = Vault(runtime.rows, "oracle_tide", runtime.identity.to_bytes(), runtime.random)
        self._tide = Tide(TideTuning(section.capacity, section.window, section.calm))
        self._limits = Tuning()
        self._version = 0
        self._wanted = False
        self._look_due = 0.0
        self.recover()

    def tick(self) -> None:
        """Take in what the chain has and what the node saw, and find out whether a level may have to be set."""
        now, (latest, _) = self._runtime.clock.now(), self._runtime.replica.configuration()
        if latest is None:
            return
        if latest.version != self._version:
            self._version = latest.version
            self._tide.follow(latest.min_pow)
        self._tide.look(now, self._load())
        level = self._tide.due(now, _standing(latest, _LEAST, _MOST)) if self._is_ours(latest) else None
        self._wanted = level is not None
        self._keep()
        self._runtime.metrics.gauge("tide_pressure", self._tide.pressure)

    @property
    def due(self) -> bool:
        """Whether it is time for `step`."""
        return self._wanted and self._runtime.clock.now() >= self._look_due

    async def step(self) -> None:
        """Set the level that is due within the bounds on chain; else look again later."""
        self._look_due = self._runtime.clock.now() + LOOK_EVERY  # also when the chain refuses
        async with account(self._runtime, self._rotator) as (client, wallet):
            service = ServiceContract(client, wallet)
            bounds = await service.pow_bounds()
            proven, _ = await service.configuration()
            latest, _ = self._runtime.replica.configuration()
            if latest is None or not self._is_ours(latest) or proven != msgspec.structs.replace(latest, keys_from=0):
                return  # the chain has gone on meanwhile, or the endpoint is of two minds
            level = self._tide.due(self._runtime.clock.now(), _standing(latest, *bounds))
            if level is None:
                return
            self._tide.ask(level)
            self._keep()
            pressure = round(self._tide.pressure, 2)
            receipt = await service.rotate(Rotation.keeping(latest, min_pow=level, grace=GRACE))
        self._runtime.note("tide", before=latest.min_pow, level=level, pressure=pressure, block=receipt.block)

    def recover(self) -> None:
        """Go by what is stored: at the start, or after a step that was undone. What was seen of the load stays."""
        stored = self._vault.get(_MEMORY, _Kept)
        self._kept = self._tide.memory = stored.memory if stored else Memory()
        self._version = 0

    def status(self) -> dict[str, Any]:
        """What `quietfleet status` shows."""
        memory = self._tide.memory
        base = memory.mark.base if memory.mark else None
        return {"pressure": round(self._tide.pressure, 2), "level": memory.level, "base": base}

    def _is_ours(self, latest: Configuration) -> bool:
        """Whether a configuration names this oracle and the epoch key it holds: only such a one is continued."""
        epochs = self._runtime.messenger.epochs
        held = epochs.granted(latest.epoch, self._runtime.clock.now())
        return latest.oracle == self._runtime.id and held is not None

    def _load(self) -> Load:
        value = self._runtime.metrics.value
        count = value("network_pool") / self._limits.pool_count
        fill = max(count, value("network_pool_bytes") / self._limits.pool_bytes)
        return Load(value("network_received"), value("network_dropped", reason="pool_full"), fill)

    def _keep(self) -> None:
        if self._tide.memory != self._kept:
            self._kept = self._tide.memory
            self._vault.put(_MEMORY, _Kept(self._kept))


def _standing(latest: Configuration, least: float, most: float) -> Standing:
    """A configuration may be followed by another once its own grace for the one before is over."""
    return Standing(latest.min_pow, least, most, latest.active_from + latest.grace + MARGIN)
