"""Static peers: two that configuration brings together, with no oracle in between."""

from __future__ import annotations

import pytest
from worker_world import DAY, World, hours

from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.session import STATIC, CardMet, encode_card
from quietfleet.session._static import LAST_PAUSE, SLOT
from quietfleet.settings import DispatchSection
from quietfleet.workers.sensor import SILENCE

PACE = 8.0  # seconds in which a word is said and answered in this world


def name_peers(world: World, **peers: list[str]) -> None:
    """Have each of these workers' settings name others, by the names they will have here."""
    for name, others in peers.items():
        world.dispatch[name] = DispatchSection(peers=[identity(other) for other in others])


def identity(name: str) -> str:
    return PrivateKey.from_bytes(keccak256(name.encode())).public.id


@pytest.fixture
async def pair(world):
    """An oracle for the epoch key alone, and a sensor and a processor that name each other."""
    world.offered["processor"] = ""
    name_peers(world, sensor=["processor"], processor=["sensor"])
    for name, kind in (("oracle", Kind.ORACLE), ("processor", Kind.PROCESSOR), ("sensor", Kind.SENSOR)):
        await world.add(name, kind)
    await world.rotate()
    await world.until(lambda: world.workers["processor"].journal("session-open") != [])
    return world


async def test_start__each_names_the_other__session_without_a_word_of_dispatch(pair):
    sensor, processor, oracle = (pair.workers[name] for name in ("sensor", "processor", "oracle"))
    assert sensor.in_session_with(processor)
    assert sensor.runtime.messenger.session(processor.id).purpose == STATIC
    assert not oracle.agent.status()["dispatch"]
    assert sensor.agent.status()["dispatch"] == STATIC
    assert sensor.journal("deal-accepted") == processor.journal("deal-accepted") == []


async def test_readings__to_a_static_peer__answered(pair):
    sensor, processor = pair.workers["sensor"], pair.workers["processor"]
    sensor.measure(hours(4, 0.0))
    await pair.pass_time(PACE)
    assert sensor.agent.status()["answered"] == 4
    assert [entry["rows"] for entry in processor.journal("readings")] == [4]


async def test_session__oracle_gone__readings_go_on_and_a_new_session_opens(pair):
    sensor, processor, oracle = (pair.workers[name] for name in ("sensor", "processor", "oracle"))
    oracle.crash()
    await sensor.do(lambda: sensor.runtime.feed(sensor.runtime.messenger.leave(processor.id, "trouble")))
    await pair.until(lambda: sensor.in_session_with(processor), within=LAST_PAUSE)
    sensor.measure(hours(2, 0.0))
    await pair.pass_time(PACE)
    assert sensor.agent.status()["answered"] == 2


async def test_start__only_one_names_the_other__nothing(world):
    name_peers(world, sensor=["processor"])
    for name, kind in (("oracle", Kind.ORACLE), ("processor", Kind.PROCESSOR), ("sensor", Kind.SENSOR)):
        await world.add(name, kind)
    await world.rotate()
    await world.pass_time(2 * SLOT, step=2)
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    assert not sensor.in_session_with(processor)
    assert processor.runtime.messenger.peers() == {world.workers["oracle"].id}


async def test_start__one_comes_long_after_the_other__met_at_once(world):
    name_peers(world, sensor=["processor"], processor=["sensor"])
    await world.add("oracle", Kind.ORACLE)
    sensor = await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.pass_time(LAST_PAUSE, step=5)
    processor = await world.add("processor", Kind.PROCESSOR)
    await world.until(lambda: processor.in_session_with(sensor), within=2 * PACE)


async def test_say__nobody_answers__ever_longer_pauses_and_no_topic_twice(world):
    name_peers(world, sensor=["processor"])
    await world.add("oracle", Kind.ORACLE)
    await world.add("processor", Kind.PROCESSOR)
    sensor = await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: sensor.runtime.membership.complete)
    before, began = len(world.wire), world.clock.now()
    said = []
    while world.clock.now() < began + 2 * LAST_PAUSE:
        await world.pass_time(5, step=5)
        new, before = world.wire[before:], len(world.wire)
        said += [(world.clock.now(), envelope.topic) for sender, envelope in new if sender is sensor]
    assert 5 <= len(said) <= 12
    assert len({topic for _, topic in said}) == len(said)
    assert said[-1][0] - said[-2][0] > 2 * (said[1][0] - said[0][0])


async def test_peer__switched_off__severed_silent_and_met_anew_when_back(pair):
    sensor, processor = pair.workers["sensor"], pair.workers["processor"]
    await pair.switch(processor, active=False)
    assert not sensor.in_session_with(processor)
    assert sensor.journal("severed")[-1]["peer"] == processor.id
    await pair.pass_time(10)
    assert not sensor.runtime.messenger.peers() & {processor.id}
    await pair.switch(processor, active=True)
    await pair.until(lambda: sensor.in_session_with(processor) and processor.in_session_with(sensor), within=SLOT)


async def test_rotation__two_versions__same_session_and_readings_go_on(pair):
    sensor, processor = pair.workers["sensor"], pair.workers["processor"]
    await pair.rotate()
    await pair.pass_time(15)
    sensor.measure(hours(3, 0.0))
    await pair.pass_time(PACE)
    assert sensor.agent.status()["answered"] == 3
    assert len(processor.journal("session-open")) == 1


async def test_key__replaced_on_chain__met_again_under_the_new_one(pair):
    sensor, processor = pair.workers["sensor"], pair.workers["processor"]
    await pair.rekey(processor)
    assert not sensor.in_session_with(processor)
    await pair.until(lambda: sensor.in_session_with(processor), within=SLOT)
    key = sensor.runtime.messenger.session(processor.id).theirs.key
    assert key == processor.runtime.replica.worker(processor.id).key != processor.id


async def test_restart__of_either__same_session(pair):
    sensor, processor = pair.workers["sensor"], pair.workers["processor"]
    for worker in (sensor, processor):
        worker.restart()
        sensor.measure(hours(2, DAY * (worker is processor)))
        await pair.pass_time(PACE)
    assert sensor.agent.status()["answered"] == 4
    assert len(processor.journal("session-open")) == 1


async def test_disk__lost_by_one__met_again_by_the_card_it_shows(pair):
    sensor, processor = pair.workers["sensor"], pair.workers["processor"]
    await pair.pass_time(40)
    await pair.lose_sessions(processor)
    await pair.until(lambda: processor.in_session_with(sensor), within=2 * SLOT)
    sensor.measure(hours(2, 0.0))
    await pair.pass_time(PACE)
    assert sensor.agent.status()["answered"] == 2


async def test_two_peers__the_first_falls_silent__readings_go_to_the_second(world):
    name_peers(world, sensor=["processor", "spare"], processor=["sensor"], spare=["sensor"])
    for name, kind in (
        ("oracle", Kind.ORACLE),
        ("processor", Kind.PROCESSOR),
        ("spare", Kind.PROCESSOR),
        ("sensor", Kind.SENSOR),
    ):
        await world.add(name, kind)
    await world.rotate()
    sensor, processor, spare = (world.workers[name] for name in ("sensor", "processor", "spare"))
    await world.until(lambda: sensor.in_session_with(processor) and sensor.in_session_with(spare))
    assert sensor.agent.processor == processor.id
    processor.crash()
    sensor.measure(hours(3, 0.0))
    await world.pass_time(SILENCE + 10)
    assert sensor.agent.status()["answered"] == 3
    assert spare.journal("readings") != []


async def test_settings__static_peers_come_in_place_of_a_deal__its_place_is_given_back(fleet):
    sensor, processor, oracle = (fleet.workers[name] for name in ("sensor", "processor", "oracle"))
    name_peers(fleet, sensor=["processor"], processor=["sensor"])
    sensor.restart()
    await fleet.pass_time(PACE)
    processor.restart()
    await fleet.until(lambda: sensor.agent.processor == processor.id, within=LAST_PAUSE)
    assert sensor.runtime.messenger.session(processor.id).purpose == STATIC
    assert list(oracle.agent._dispatcher._store.deals()) == []


async def test_settings__peer_no_longer_named__severed(pair):
    sensor, processor = pair.workers["sensor"], pair.workers["processor"]
    pair.dispatch["processor"] = DispatchSection()
    processor.restart()
    await pair.pass_time(2)
    assert not processor.in_session_with(sensor)
    assert processor.journal("severed")[-1]["reason"] == "it is not one of our static peers any more"


async def test_call__static_from_somebody_not_named__no_session(pair):
    stranger = await pair.add("stranger", Kind.PROCESSOR)
    await pair.until(lambda: stranger.runtime.membership.complete)
    sensor = pair.workers["sensor"]
    card = sensor.runtime.messenger.own_card()
    await stranger.do(lambda: stranger.runtime.messenger.connect(card, STATIC))
    await pair.pass_time(PACE)
    assert not sensor.in_session_with(stranger)


async def test_card__said_again_by_a_stranger__opens_and_closes_nothing(pair):
    """Whoever recorded the words of a meeting can say them again: topics and all."""
    sensor, processor = pair.workers["sensor"], pair.workers["processor"]
    recorded = [envelope for sender, envelope in pair.wire if sender in (sensor, processor)]
    sessions = [open_sessions(worker) for worker in (sensor, processor)]
    for envelope in recorded:
        await sensor.hear(envelope)
        await processor.hear(envelope)
    await pair.pass_time(PACE)
    assert [open_sessions(worker) for worker in (sensor, processor)] == sessions


async def test_card__made_by_a_member_with_the_epoch_key__not_recognised(pair):
    """Another member has the epoch key; it lacks what the two messaging keys share."""
    stranger = await pair.add("stranger", Kind.PROCESSOR)
    await pair.until(lambda: stranger.runtime.membership.complete)
    sensor, processor = pair.workers["sensor"], pair.workers["processor"]
    sensor_key = sensor.runtime.replica.worker(sensor.id).public_key
    await stranger.do(lambda: stranger.runtime.messenger.keep_meeting({sensor.id: sensor_key}))
    await pair.pass_time(2)
    met = []
    sensor.agent._statics.met = met.append
    await pair.pass_time(PACE)
    assert met == []
    now, meetings = pair.clock.now(), sensor.runtime.messenger._meetings
    guessed = stranger.runtime.messenger._meetings._expecting(now)
    assert not set(guessed) & set(meetings._expecting(now))
    assert processor.in_session_with(sensor)


async def test_card__of_another_than_the_peer_under_the_right_key__passed_over(pair):
    """A peer can put anybody's card into what only it can seal: it vouches for its own alone."""
    sensor, processor, oracle = (pair.workers[name] for name in ("sensor", "processor", "oracle"))
    messenger = processor.runtime.messenger
    other = oracle.runtime.messenger.own_card()
    (going, _) = messenger._meetings._between(sensor.id, other.version)
    topic = going.topic(int(pair.clock.now() // SLOT), 0)
    shown = encode_card(other)
    await processor.do(lambda: messenger._departures.control(sensor.id, topic, going.key, shown))
    seen = []
    feed = sensor.runtime.feed
    sensor.runtime.feed = lambda events: (seen.extend(events), feed(events))
    await pair.deliver()
    assert not [event for event in seen if isinstance(event, CardMet)]


def open_sessions(worker):
    return {one.id for one in worker.runtime.messenger.table.sessions.values() if one.confirmed}


async def test_bloom__light_worker__lets_its_meetings_through(pair):
    sensor = pair.workers["sensor"]
    meetings = sensor.runtime.messenger._meetings
    wanted = int.from_bytes(sensor.runtime.messenger.wanted(), "big")
    assert meetings.blooms()
    assert all(int.from_bytes(bloom, "big") & ~wanted == 0 for bloom in meetings.blooms())
