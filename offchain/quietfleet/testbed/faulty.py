"""A sensor that can be made to misbehave, for demonstrations and system tests: the worker itself, with four faults.

Beside its settings lies `faults.json`, read at every beat: `{"stuck": true}` freezes what it measures, and
`{"drops": true}` loses every other reading. `{"off": {"temp": [4.0, 1.0]}}` has a channel read 1.0 times what is so,
plus 4.0, until its corrections make up for it. `{"ignore_severing": true}` makes it deaf to its owner's switch, so that
it goes on sending after it was disabled.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
import uvloop

from quietfleet.clock import Clock, SystemClock
from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import load_keystore
from quietfleet.session import Event, Messenger
from quietfleet.session._table import Session
from quietfleet.settings import Settings, load_settings, passphrase
from quietfleet.workers._host import Registry
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._source import Reading, Source, open_replay
from quietfleet.workers.messages import DEAL, make_codec
from quietfleet.workers.sensor import Sensor

_HOUR: Final = 3600.0


class Faults:
    """The faults switched on at present."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __getitem__(self, name: str) -> bool:
        return bool(self._read().get(name))

    @property
    def off(self) -> dict[str, tuple[float, float]]:
        """By channel by how much it is off, and by which factor."""
        found = self._read().get("off") or {}
        return {channel: (float(offset), float(gain)) for channel, (offset, gain) in found.items()}

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return found


class StickingSource:
    """A source whose needle sticks, whose channels are off, or that loses readings, while the fault is on."""

    def __init__(self, source: Source, faults: Faults) -> None:
        self._source = source
        self._faults = faults
        self._last: dict[str, float] = {}

    def due(self) -> list[Reading]:
        off = self._faults.off
        readings = [(at, _off(fields, off)) for at, fields in self._source.due()]
        if self._faults["drops"]:
            readings = [one for one in readings if one[0] // _HOUR % 2]
        if self._faults["stuck"] and self._last:
            return [(at, dict(self._last)) for at, _ in readings]
        if readings:
            self._last = readings[-1][1]
        return readings

    def recalibrate(self) -> None:
        self._source.recalibrate()


def _off(fields: dict[str, float], off: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    wrong = {name: off[name][1] * value + off[name][0] for name, value in fields.items() if name in off}
    return fields | wrong


class DeafRegistry(Registry):
    """A registry that says yes to everything while the fault is on."""

    faults: Faults

    def can_cooperate(self, a: str, b: str) -> bool:
        return self.faults["ignore_severing"] or super().can_cooperate(a, b)

    def usable(self, worker: str) -> bool:
        return self.faults["ignore_severing"] or super().usable(worker)


class DeafMessenger(Messenger):
    """A messenger that keeps the sessions it should have forgotten, and can bring them back."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self._kept: dict[bytes, Session] = {}

    def sever_all(self, reasons: Mapping[str, str]) -> list[Event]:
        self._kept |= {session.id: session for peer in reasons for session in self.table.with_peer(peer)}
        return super().sever_all(reasons)

    def bring_back(self) -> str | None:
        """Pretend that nothing was severed; return whom the newest deal that came back was with."""
        sessions = sorted(self._kept.values(), key=lambda session: session.opened_at)
        self.forget()
        for session in sessions:
            self.table.add(session)
        deals = [session.peer for session in sessions if session.purpose.startswith(DEAL)]
        return deals[-1] if deals else None

    def forget(self) -> None:
        """Let go of what is kept."""
        self._kept = {}


class FaultyRuntime(Runtime):
    """The sensor's runtime with those two in place."""

    agent: FaultySensor
    messenger: DeafMessenger

    def __init__(self, settings: Settings, identity: PrivateKey, clock: Clock, phrase: str) -> None:
        self.faults = Faults(settings.path("faults.json"))
        self._deaf = False
        super().__init__(settings, identity, clock, phrase)

    def make_messenger(self, domain: bytes) -> DeafMessenger:
        registry = DeafRegistry(
            self.replica, self.clock, self.settings.chain.max_age, self.settings.chain.confirmations
        )
        registry.faults = self.faults
        self.registry = registry
        return DeafMessenger(
            self.keyring,
            self.database,
            make_codec(),
            registry,
            self.metrics,
            self.clock,
            self.random,
            domain,
            self.admit,
            decided=self.trail.decided,
            bloom_bits=self.settings.network.bloom_bits,
        )

    def on_beat(self) -> None:
        deaf = self.faults["ignore_severing"]
        if deaf != self._deaf:
            self._deaf = deaf
            self.note("fault", ignore_severing=deaf)
            if not deaf:
                self._repair()
        if deaf:  # at every beat: the owner's word may come after the fault, and is not listened to then either
            self.agent.pester(self.messenger.bring_back())
        super().on_beat()

    def _repair(self) -> None:
        for peer in {session.peer for session in self.messenger.table.sessions.values()}:
            self.sever(peer, "repaired")
        self.messenger.forget()


class FaultySensor(Sensor):
    """A sensor that can be told to take up a session it lost."""

    def pester(self, peer: str | None) -> None:
        """Go on sending to a processor that has severed us, if there is one, as patiently as if it had just begun."""
        if peer is not None:
            self._state.set("processor", peer)
            self._unanswered_since = None


@click.command()
@click.option("--settings", type=click.Path(path_type=Path), required=True)
def main(settings: Path) -> None:
    """Run a sensor that can be made to misbehave."""
    chosen = load_settings(settings, os.environ)
    phrase = passphrase(os.environ)
    key = load_keystore(chosen.path(chosen.worker.keystore), phrase)

    async def work() -> None:
        runtime = FaultyRuntime(chosen, key, SystemClock(), phrase)
        source = open_replay(chosen.path(chosen.sensor.replay), runtime.data_clock)
        runtime.agent = FaultySensor(runtime, StickingSource(source, runtime.faults))
        await runtime.run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


if __name__ == "__main__":
    main()
