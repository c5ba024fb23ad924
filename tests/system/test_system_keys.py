from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from quietfleet.clock import SystemClock
from quietfleet.settings import WorkerSection
from quietfleet.workers._keys import Keyring
from quietfleet.workers._runtime import Runtime

REFUSED = "quietfleet_handshakes_refused_total"


class StolenKeys(Keyring):
    """The first key, in the hands of somebody whom it does not concern that it was replaced."""

    @property
    def present(self):
        return self.first

    def key_of(self, _public_key):
        return self.first


class Thief(Runtime):
    """A worker like any other but for its keys; it wants what every worker wants first: the oracle's epoch key."""

    def make_messenger(self, domain):
        self.keyring = StolenKeys(self.settings, self.identity, "", self.replica)
        return super().make_messenger(domain)


class Idle:
    """An agent that does nothing."""

    def admit(self, _peer, _purpose) -> bool:
        return True

    def on_event(self, _event) -> None: ...

    def on_change(self, _change) -> None: ...

    def on_tick(self) -> None: ...

    def recover(self) -> None: ...

    async def after(self) -> None: ...

    def status(self) -> dict[str, Any]:
        return {}


async def test_key_replaced__while_readings_flow__both_reconnect_and_nothing_is_lost(flowing):
    system = flowing
    sensor = "sensor-2"
    processor = system.processor_of(sensor)
    id_of = {name: system.fleet.members[name].id for name in (sensor, processor)}
    begun = time.time()
    epochs = {name: await system.replace_key(name) for name in (sensor, processor)}
    for name, epoch in epochs.items():
        replaced = {"epoch": epoch}
        await system.until(
            "it speaks under its new key",
            lambda n=name, e=replaced: e in [entry.detail for entry in system.since(n, "key-replaced", begun)],
        )
    severed = {"peer": id_of[sensor], "reason": "its key was replaced"}
    await system.until(
        "the other side severs", lambda: severed in [e.detail for e in system.since(processor, "severed", begun)]
    )
    await system.flowing()
    for name, epoch in epochs.items():
        await system.until(
            "it says so",
            lambda n=name, e=epoch: system.fleet.status(n)["key"] == {"epoch": e, "here": True, "next": ""},
        )
        assert system.fleet.status(name)["id"] == id_of[name]
        assert system.since(name, "key-missing", begun) == []
    assert system.since(sensor, "session-open", begun)
    system.check_nothing_lost()


async def test_key_replaced__thief_with_the_old_one__gets_no_answer(flowing, tmp_path):
    system = flowing
    name = "sensor-2"
    member, begun = system.fleet.members[name], time.time()
    await system.replace_key(name)
    await system.until("it speaks under its new key", lambda: bool(system.since(name, "key-replaced", begun)))
    before = system.fleet.metric("oracle", REFUSED)
    lair = msgspec.structs.replace(member.settings, worker=WorkerSection("thief"), folder=str(tmp_path))
    thief = Thief(lair, member.key, SystemClock(), "")
    thief.agent = Idle()
    works = asyncio.create_task(thief.run())
    try:
        await system.until("the oracle refuses", lambda: system.fleet.metric("oracle", REFUSED) >= before + 2)
        assert thief.id == member.id
        assert thief.registry.usable(thief.id)
        assert thief.messenger.table.sessions == {}
        assert not thief.membership.complete
    finally:
        thief._stop.set()
        await works
    await system.flowing()
    system.check_nothing_lost()
