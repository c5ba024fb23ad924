"""A sensor that can be made to misbehave, for demonstrations and system tests: the worker itself, with two faults.

Beside its settings lies `faults.json`, read at every beat: `{"stuck": true}` freezes what it measures,
`{"ignore_severing": true}` makes it deaf to its owner's switch, so that it goes on sending after it was disabled.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import click

from quietfleet.clock import SystemClock
from quietfleet.crypto.keystore import load_keystore
from quietfleet.session import Event, Messenger
from quietfleet.settings import SensorSection, Settings, load_settings, passphrase
from quietfleet.workers._host import Registry
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._source import Reading, Source, open_replay
from quietfleet.workers.messages import make_codec
from quietfleet.workers.sensor import Sensor


class Faults:
    """The faults switched on at present."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, name: str) -> bool:
        try:
            return bool(json.loads(self._path.read_text()).get(name))
        except (OSError, ValueError):
            return False


class StickingSource:
    """A source whose needle sticks while the fault is on."""

    def __init__(self, source: Source, faults: Faults) -> None:
        self._source = source
        self._faults = faults
        self._last: dict[str, float] = {}

    def due(self, now: float) -> list[Reading]:
        readings = self._source.due(now)
        if self._faults["stuck"] and self._last:
            return [(at, dict(self._last)) for at, _ in readings]
        if readings:
            self._last = readings[-1][1]
        return readings

    def recalibrate(self) -> None:
        self._source.recalibrate()


class DeafRegistry(Registry):
    """A registry that says yes to everything while the fault is on."""

    faults: Faults

    def can_cooperate(self, a: str, b: str) -> bool:
        return self.faults["ignore_severing"] or super().can_cooperate(a, b)

    def usable(self, worker: str) -> bool:
        return self.faults["ignore_severing"] or super().usable(worker)


class DeafMessenger(Messenger):
    """A messenger that keeps its sessions, whatever the chain says, while the fault is on."""

    faults: Faults

    def sever(self, peer: str, reason: str) -> list[Event]:
        return [] if self.faults["ignore_severing"] else super().sever(peer, reason)


class FaultyRuntime(Runtime):
    """The sensor's runtime with those two in place."""

    def __init__(self, settings: Settings, identity: Any, clock: SystemClock) -> None:
        self.faults = Faults(settings.path("faults.json"))
        super().__init__(settings, identity, clock)

    def make_messenger(self, domain: bytes) -> Messenger:
        registry = DeafRegistry(self.replica, self.clock, self.settings.chain.max_age, self.settings.chain.confirmations)
        registry.faults = self.faults
        self.registry = registry
        messenger = DeafMessenger(
            self.identity, self.database, make_codec(), registry, self.metrics, self.clock, self.random, domain,
            lambda peer, purpose: self.agent.admit(peer, purpose),
        )
        messenger.faults = self.faults
        return messenger


def open_source(section: SensorSection, runtime: FaultyRuntime) -> Source:
    """The sensor's own recording behind a needle that may stick."""
    path = runtime.settings.path(section.replay)
    return StickingSource(open_replay(section, path, runtime.clock.now(), resumed=False), runtime.faults)


@click.command()
@click.option("--settings", type=click.Path(path_type=Path), required=True)
def main(settings: Path) -> None:
    """Run a sensor that can be made to misbehave."""
    chosen = load_settings(settings, os.environ)
    key = load_keystore(chosen.path(chosen.worker.keystore), passphrase(os.environ))

    async def work() -> None:
        runtime = FaultyRuntime(chosen, key, SystemClock())
        runtime.agent = Sensor(runtime, open_source(chosen.sensor, runtime))
        await runtime.run()

    asyncio.run(work())


if __name__ == "__main__":
    main()
