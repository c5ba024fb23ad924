from __future__ import annotations

from worker_world import DAY, HOUR, SITE, hours

from quietfleet.chain.types import Kind
from quietfleet.dispatch import RENEW_EVERY
from quietfleet.workers.sensor import BUFFER, SILENCE


def answered(sensor):
    return [(entry["rows"], entry["through"]) for entry in sensor.journal("recommendation")]


async def test_start__in_a_fleet__deal_then_introduction_then_session(fleet, sensor, processor):
    assert sensor.in_session_with(processor)
    kinds = [kind for kind in sensor.kinds() if kind in {"deal-accepted", "introduced", "session-open"}]
    assert kinds == ["deal-accepted", "introduced", "session-open"]
    assert sensor.agent.status()["processor"] == processor.id


async def test_readings__answered__gone_and_numbered_without_a_gap(fleet, sensor, processor):
    for day in range(3):
        sensor.measure(hours(5, day * DAY))
        await fleet.pass_time(2)
    assert answered(sensor) == [(5, 5), (5, 10), (5, 15)]
    assert sensor.rows("SELECT count(*) FROM readings") == [(0,)]
    assert [entry["first"] for entry in processor.journal("readings")] == [1, 6, 11]
    assert sensor.agent.status()["measured"] == sensor.agent.status()["answered"] == 15


async def test_readings__answers_lost_until_the_request_expires__sent_again_and_stored_once(fleet, sensor, processor):
    fleet.lose = lambda sender, _: sender is processor
    sensor.measure(hours(4, 0.0))
    await fleet.pass_time(22)
    assert answered(sensor) == []
    assert sensor.rows("SELECT count(*) FROM readings") == [(4,)]
    fleet.lose = lambda *_: False
    await fleet.pass_time(8)
    assert sum(rows for rows, _ in answered(sensor)) == 4
    assert sum(entry["new"] for entry in processor.journal("readings")) == 4
    assert {entry["first"] for entry in processor.journal("readings")} == {1}


async def test_readings__processor_down_and_up_again__none_lost_same_session(fleet, sensor, processor):
    processor.crash()
    sensor.measure(hours(6, 0.0))
    await fleet.pass_time(5)
    processor.start()
    processor.runtime._reconcile()
    await fleet.catch_up(processor)
    await fleet.pass_time(8)
    assert sum(rows for rows, _ in answered(sensor)) == 6
    assert len(sensor.journal("session-open")) == 1


async def test_restart__with_readings_waiting__same_numbers_go_out(fleet, sensor, processor):
    fleet.lose = lambda *_: True
    sensor.measure(hours(3, 0.0))
    await fleet.pass_time(1)
    sensor.restart()
    fleet.lose = lambda *_: False
    sensor.measure(hours(2, 3 * HOUR))
    await fleet.pass_time(12)
    assert [rows for rows, _ in answered(sensor)] == [3, 2]
    assert max(through for _, through in answered(sensor)) == 5
    assert sum(entry["new"] for entry in processor.journal("readings")) == 5


async def test_send__answer_outstanding__one_request_at_a_time(fleet, sensor, processor):
    fleet.lose = lambda sender, _: sender is processor
    for hour in range(5):
        sensor.measure(hours(1, hour * HOUR))
        await fleet.pass_time(1)
    assert [entry["first"] for entry in processor.journal("readings")] == [1]


async def test_measure__nobody_answers_for_long__the_oldest_go_and_it_is_said(fleet, sensor, processor):
    fleet.lose = lambda *_: True
    sensor.measure(hours(BUFFER + 7, 0.0))
    await sensor.beat()
    assert sensor.rows("SELECT min(number), count(*) FROM readings") == [(8, BUFFER)]
    assert sensor.journal("readings-overflow") == [{"lost": 7}]


async def test_measure__switched_off__nothing_is_recorded(fleet, sensor):
    await fleet.switch(sensor, active=False)
    sensor.measure(hours(3, 0.0))
    await fleet.pass_time(2)
    assert sensor.agent.status()["measured"] == 0


async def test_measure__chain_out_of_sight__kept_and_delivered_afterwards(fleet, sensor):
    fleet.chain_runs = False
    await fleet.pass_time(25, step=5)
    assert sensor.runtime.registry.stale
    sensor.measure(hours(3, 0.0))
    await fleet.pass_time(5)
    assert answered(sensor) == []
    fleet.chain_runs = True
    await fleet.pass_time(12)
    assert sum(rows for rows, _ in answered(sensor)) == 3


async def test_processor_switched_off__another_is_there__sensor_moves_and_nothing_is_lost(fleet, sensor, processor):
    other = await fleet.add("processor-2", Kind.PROCESSOR)
    await fleet.run()
    await fleet.switch(processor, active=False)
    assert sensor.journal("severed")[-1]["peer"] == processor.id
    sensor.measure(hours(4, 0.0))
    await fleet.pass_time(12)
    assert sensor.in_session_with(other)
    assert not sensor.in_session_with(processor)
    assert answered(sensor) == [(4, 4)]
    assert other.journal("readings")[0]["sensor"] == sensor.id


async def test_silence__session_is_dead_on_the_other_side__another_pairing(fleet, sensor, processor):
    fleet.lose = lambda sender, _: sender is processor
    sensor.measure(hours(1, 0.0))
    await fleet.pass_time(SILENCE + 2)
    assert "no answer for too long" in [entry["reason"] for entry in sensor.journal("session-closed")]
    fleet.lose = lambda *_: False
    await fleet.pass_time(30)
    assert len(sensor.journal("session-open")) == 2
    assert sum(rows for rows, _ in answered(sensor)) == 1


async def test_silence__nothing_to_say_for_hours__is_none(fleet, sensor, processor):
    await fleet.pass_time(4 * SILENCE, step=5)
    sensor.measure(hours(1, 0.0))
    await fleet.pass_time(2)
    assert answered(sensor) == [(1, 1)]
    assert len(sensor.journal("session-open")) == 1


async def test_silence__chain_out_of_sight_for_longer__same_session_afterwards(fleet, sensor, processor):
    await fleet.pass_time(2)  # both know by then that the other holds the session
    sensor.measure(hours(1, 0.0))
    fleet.lose = lambda *_: True
    await fleet.pass_time(1)
    fleet.chain_runs = False
    await fleet.pass_time(3 * SILENCE)
    fleet.lose, fleet.chain_runs = (lambda *_: False), True
    await fleet.pass_time(12)
    assert answered(sensor) == [(1, 1)]
    assert len(sensor.journal("session-open")) == 1


async def test_introduction__to_somebody_the_chain_does_not_allow__refused_and_sought_again(world):
    oracle = await world.add("oracle", Kind.ORACLE)
    sensor = await world.add("sensor", Kind.SENSOR)
    processor = await world.add("processor", Kind.PROCESSOR)
    await world.rotate()
    sensor.runtime.registry.can_cooperate = lambda _me, peer: peer == oracle.id
    await world.run(12)
    assert sensor.journal("introduction-refused")
    assert sensor.journal("introduced") == []
    assert not sensor.in_session_with(processor)


async def test_switched_off_and_on__everything_anew(fleet, sensor, processor):
    sensor.measure(hours(2, 0.0))
    await fleet.pass_time(2)
    await fleet.switch(sensor, active=False)
    assert sensor.runtime.messenger.table.sessions == {}
    assert not processor.in_session_with(sensor)
    await fleet.switch(sensor, active=True)
    sensor.measure(hours(2, 2 * HOUR))
    await fleet.pass_time(12)
    assert len(sensor.journal("introduced")) == 2
    assert answered(sensor) == [(2, 2), (2, 4)]


async def test_wish__site_in_the_settings__only_processors_there(fleet, sensor):
    wish = sensor.agent._seeking.wish
    assert [constraint.values for constraint in wish.constraints] == [(SITE,)]


async def test_admit__anybody__no_one_calls_a_sensor(fleet, sensor, processor):
    assert not sensor.agent.admit(processor.id, "deal:1")


async def test_silence__processor_paused_until_the_oracle_dropped_it__paired_again_within_a_renewal(
    fleet, sensor, processor
):
    processor.up = False
    sensor.measure(hours(1, 0.0))
    await fleet.pass_time(200)
    assert not sensor.in_session_with(processor)
    processor.up = True
    await fleet.pass_time(RENEW_EVERY + 120, step=2)
    assert sensor.in_session_with(processor)
    assert sum(rows for rows, _ in answered(sensor)) == 1
