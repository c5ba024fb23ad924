from __future__ import annotations

import time

from system_fleet import MAX_AGE, STOP_WITHIN

from quietfleet.chain.types import Kind

WATCHED = 3.0  # seconds


async def test_chain_out__longer_than_trusted__everyone_stops_and_later_goes_on(flowing):
    system = flowing
    talkers = system.named(Kind.ORACLE, Kind.GATEWAY, Kind.PROCESSOR, Kind.SENSOR)
    opened = {s: len(system.fleet.journal(s, "session-open")) for s in system.named(Kind.SENSOR)}
    stopped = time.time()
    system.anvil.stop()
    try:
        await system.until("everyone notices", lambda: all(system.fleet.status(n)["stale"] for n in talkers))
        blind = time.time()
        assert blind - stopped >= MAX_AGE - 2, "nobody stops before the limit"
        await system.until("a while in the dark", lambda: time.time() >= blind + WATCHED)
        for sensor in system.named(Kind.SENSOR):
            assert system.since(sensor, "recommendation", blind + 0.5) == []
        for processor in system.named(Kind.PROCESSOR):
            assert system.since(processor, "readings", blind + 0.5) == []
    finally:
        system.anvil.start()
    await system.until("everyone sees again", lambda: not any(system.fleet.status(n)["stale"] for n in talkers))
    await system.flowing()
    assert {s: len(system.fleet.journal(s, "session-open")) for s in system.named(Kind.SENSOR)} == opened
    system.check_nothing_lost()


async def test_sigterm__each_kind__ends_by_itself_in_time_with_exit_code_0(flowing):
    system = flowing
    everyone = system.named(*Kind)
    for name in everyone:
        code, seconds = system.terminate(name)
        assert (name, code) == (name, 0)
        assert seconds < STOP_WITHIN
        assert system.fleet.status(name)["running"] is False
        assert not (system.fleet.members[name].folder / "state" / "worker.db-wal").exists(), "its log is folded in"
        system.check_database(name)
    system.fleet.start(*system.fleet.members)
    await system.flowing()
    system.check_nothing_lost()
