"""Several oracles for one worker: one capacity at all of them, one deal at most, and no place lost at any."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from worker_world import Worker, World, hours

from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.dispatch import REPEAT_EVERY, Introduction, Offer, Proposal, Released
from quietfleet.session import Received
from quietfleet.settings import DispatchSection
from quietfleet.workers._oracles import ASK_WITHIN
from quietfleet.workers._seeking import REST, TURN

LIST = DispatchSection(oracles=[PrivateKey.from_bytes(keccak256(b"oracle-b")).public.id])


def deals(oracle: Worker) -> list:
    return list(oracle.agent._dispatcher._store.deals())


def said_to(world: World, oracle: Worker) -> list:
    """Have what an oracle reads from now on noted."""
    heard, react = [], oracle.agent.on_event

    def on_event(event):
        if isinstance(event, Received):
            heard.append((event.peer, event.body))
        react(event)

    oracle.agent.on_event = on_event
    return heard


async def found(world: World, *names: str) -> list[Worker]:
    """Two oracles, of which the configuration names the first, and workers that list the second."""
    oracles = [await world.add(name, Kind.ORACLE) for name in ("oracle", "oracle-b")]
    for name in names:
        world.dispatch[name] = LIST
        await world.add(name, Kind.PROCESSOR if name.startswith("processor") else Kind.SENSOR)
    await world.rotate()
    return oracles


@pytest.fixture
async def two(world):
    await found(world, "processor", "sensor")
    await world.until(lambda: len(world.workers["processor"].runtime.oracles.reached) == 2)
    return world


async def test_sessions__second_oracle_listed__with_both_and_without_an_epoch_key_there(two):
    other = two.workers["oracle-b"]
    assert all(two.workers[name].in_session_with(other) for name in ("processor", "sensor"))
    assert other.runtime.messenger.epochs.keyed() == []


async def test_sessions__second_oracle_not_listed__its_card_is_passed_over(world):
    await found(world, "processor")
    plain = await world.add("plain", Kind.PROCESSOR)
    await world.until(lambda: plain.runtime.membership.complete)
    await world.pass_time(10)
    assert not plain.in_session_with(world.workers["oracle-b"])
    assert world.workers["processor"].in_session_with(world.workers["oracle-b"])


async def test_sessions__listed_worker_is_no_oracle__its_card_is_passed_over(world):
    """A processor can announce its card to everybody too; the chain knows it for what it is."""
    world.dispatch["sensor"] = DispatchSection(oracles=[PrivateKey.from_bytes(keccak256(b"processor")).public.id])
    await world.add("oracle", Kind.ORACLE)
    impostor = await world.add("processor", Kind.PROCESSOR)
    sensor = await world.add("sensor", Kind.SENSOR)
    world.offered["processor"] = ""
    await world.rotate()
    await world.until(lambda: sensor.runtime.membership.complete)
    await impostor.do(lambda: impostor.runtime.messenger.announce(unnamed=True))
    await world.pass_time(5)
    assert sensor.runtime.oracles.known == [world.workers["oracle"].id]
    assert [s.purpose for s in sensor.runtime.messenger.table.with_peer(impostor.id)] != ["oracle"]


async def test_sessions__second_oracle_switched_off__severed_and_back_when_on(two):
    other, processor = two.workers["oracle-b"], two.workers["processor"]
    await two.switch(other, active=False)
    assert not processor.in_session_with(other)
    assert processor.runtime.oracles.known == [two.workers["oracle"].id]
    await two.switch(other, active=True)
    await two.until(lambda: processor.in_session_with(other))
    await two.until(lambda: other.agent.status()["dispatch"]["offers"] >= 1)


async def test_rotation__both_oracles__sessions_under_the_new_version(two):
    await two.rotate(grace=5)
    await two.pass_time(15)
    other = two.workers["oracle-b"]
    for worker in (two.workers["processor"], two.workers["sensor"]):
        assert worker.in_session_with(other)
        assert {one.version for one in worker.runtime.messenger.table.with_peer(other.id)} == {2}


async def test_offer__two_oracles__at_both_under_ids_that_do_not_link(two):
    oracles = [two.workers[name] for name in ("oracle", "oracle-b")]
    await two.until(lambda: all(one.agent.status()["dispatch"].get("offers") for one in oracles))
    books = [list(one.agent._dispatcher._store.offers()) for one in oracles]
    ids = {listed.offer.offer_id for book in books for listed in book}
    keys = [key for book in books for listed in book for key in listed.offer.reply_keys]
    assert len(ids) == 2
    assert len(keys) == len(set(keys))


async def test_seek__first_oracle_has_a_processor__second_hears_of_no_seek(two):
    sensor, processor = two.workers["sensor"], two.workers["processor"]
    await two.until(lambda: sensor.in_session_with(processor))
    assert "seeks" not in two.workers["oracle-b"].agent.status()["dispatch"]
    assert len(deals(two.workers["oracle"])) == 1


async def test_seek__first_oracle_has_nobody__second_is_asked_and_one_deal_is_made(world):
    first, second = await found(world, "sensor")
    world.dispatch["processor"] = LIST
    drop_offers(first)
    processor = await world.add("processor", Kind.PROCESSOR)
    sensor = world.workers["sensor"]
    await world.until(lambda: sensor.in_session_with(processor), within=TURN + REST)
    assert deals(first) == []
    assert len(deals(second)) == 1
    sensor.measure(hours(2, 0.0))
    await world.pass_time(8)
    assert sensor.agent.status()["answered"] == 2


@pytest.mark.parametrize("step", ["membership", "deal-accepted"])
async def test_seek__first_oracle_goes_down__second_is_asked(world, step):
    first, second = await found(world, "processor", "sensor")
    sensor, processor = world.workers["sensor"], world.workers["processor"]
    members = [one.runtime for one in (sensor, processor)]
    steps = {"membership": lambda: all(one.membership.keyed and len(one.oracles.reached) == 2 for one in members)}
    pairs = step != "membership"
    first.agent._dispatcher._registry = SimpleNamespace(usable=lambda _: True, can_cooperate=lambda *_: pairs)
    for _ in range(200):
        if steps.get(step, lambda: sensor.journal(step) != [])():
            break
        world.clock.advance(0.5)
        await world.say()
        await world.run(rounds=1)
    first.crash()
    await world.until(lambda: sensor.in_session_with(processor), within=2 * TURN)
    assert len(deals(second)) == 1


async def test_capacity__one_place_and_two_oracles__one_deal_in_all(world):
    world.capacity = 1
    first, second = await found(world, "processor", "sensor")
    world.dispatch["late"] = DispatchSection(oracles=LIST.oracles)
    processor = world.workers["processor"]
    await world.until(lambda: world.workers["sensor"].in_session_with(processor))
    late = await world.add("late", Kind.SENSOR)
    await world.pass_time(2 * TURN)
    assert not late.in_session_with(processor)
    assert [len(deals(one)) for one in (first, second)] == [1, 0]
    await world.switch(world.workers["sensor"], active=False)
    await world.until(lambda: late.in_session_with(processor), within=2 * TURN)
    assert sum(len(deals(one)) for one in (first, second)) == 1


async def test_introduction__by_an_oracle_that_was_left__released_at_once(two):
    """An oracle that comes late, or means to bind a sensor twice, has its deal given back."""
    sensor, other = two.workers["sensor"], two.workers["oracle-b"]
    await two.until(lambda: sensor.in_session_with(two.workers["processor"]))
    heard = said_to(two, other)
    words = [Introduction("ab" * 16, b"sealed", initiator=True)]
    words += [Proposal("cd" * 16, sensor.agent._seeking._machine.terms, True, b"\1" * 32, b"\2" * 32)]
    for word in words:
        await other.do(lambda said=word: other.runtime.messenger.notify(sensor.id, said))
    await two.pass_time(3)
    answers = [type(body).__name__ for peer, body in heard if peer == sensor.id]
    assert answers == ["Release", "Decline"]
    assert len(sensor.journal("session-open")) == 1


async def test_configuration__names_another_oracle__offer_there_at_once(world):
    """It used to take until half of the offer's day was over."""
    await world.add("oracle", Kind.ORACLE)
    processor, sensor = await world.add("processor", Kind.PROCESSOR), await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: sensor.in_session_with(processor))
    successor = await world.add("successor", Kind.ORACLE)
    heard = said_to(world, successor)
    await world.rotate(to="successor", grace=5)
    await world.until(lambda: [1 for peer, body in heard if isinstance(body, Offer)], within=15)
    await world.pass_time(10)
    assert sensor.in_session_with(processor)
    late = await world.add("late", Kind.SENSOR)
    await world.until(lambda: late.in_session_with(processor))
    assert len(processor.journal("session-open")) == 2


async def test_configuration__names_another_oracle_while_one_seeks__sought_there(world):
    await world.add("oracle", Kind.ORACLE)
    sensor = await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: sensor.agent.status()["dispatch"] == "seeking")
    await world.add("successor", Kind.ORACLE)
    await world.rotate(to="successor", grace=5)
    processor = await world.add("processor", Kind.PROCESSOR)
    await world.until(lambda: sensor.in_session_with(processor))


async def test_place__deal_of_an_oracle_that_is_gone__counts_until_its_term(world):
    world.capacity = 1
    await world.add("oracle", Kind.ORACLE)
    processor, sensor = await world.add("processor", Kind.PROCESSOR), await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: sensor.in_session_with(processor))
    await world.add("successor", Kind.ORACLE)
    await world.rotate(to="successor", grace=5)
    late = await world.add("late", Kind.SENSOR)
    await world.pass_time(60)
    assert not late.in_session_with(processor)
    processor.restart()
    await world.pass_time(30)
    assert not late.in_session_with(processor)
    assert sensor.in_session_with(processor)


@pytest.mark.parametrize("who", ["sensor", "processor"])
@pytest.mark.parametrize("step", ["deal-accepted", "introduced"])
async def test_restart__in_the_middle_of_a_deal__one_deal_and_no_place_lost(world, who, step):
    """Whichever side forgets its one-time keys: what it cannot open it gives back, and seeks or serves again."""
    oracle = await world.add("oracle", Kind.ORACLE)
    processor, sensor = await world.add("processor", Kind.PROCESSOR), await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    worker = world.workers[who]
    for _ in range(200):
        if worker.journal(step):
            break
        await worker.beat()
        await world.run(rounds=1)
        if not world.workers["sensor"].journal("deal-accepted"):
            world.clock.advance(0.5)
            await world.say()
    worker.restart()
    await world.until(lambda: sensor.in_session_with(processor), within=200)
    await world.pass_time(150, step=3)
    assert sensor.in_session_with(processor)
    assert [deal.state.value for deal in deals(oracle)] in (["introduced"], ["settled"])


async def test_release__oracle_out_of_reach__said_until_it_is_heard(fleet):
    """A place would else be taken until the terms end, a day later."""
    sensor, processor, oracle = (fleet.workers[name] for name in ("sensor", "processor", "oracle"))
    fleet.lose = lambda sender, _: sender in (sensor, processor)
    before = deals(oracle)
    await sensor.do(lambda: sensor.runtime.feed(sensor.runtime.messenger.leave(processor.id, "trouble")))
    await fleet.pass_time(75)
    assert deals(oracle) == before
    fleet.lose = lambda *_: False
    await fleet.until(lambda: before[0].deal_id not in {deal.deal_id for deal in deals(oracle)}, within=120)


async def test_released__for_a_deal_of_another_oracle__changes_nothing(two):
    """A deal's id is known to whom it concerns; an oracle that learned one ends nothing with it."""
    sensor, processor, other = (two.workers[name] for name in ("sensor", "processor", "oracle-b"))
    await two.until(lambda: sensor.in_session_with(processor))
    word = Released(deals(two.workers["oracle"])[0].deal_id)
    for peer in (sensor, processor):
        await other.do(lambda to=peer: other.runtime.messenger.notify(to.id, word))
    await two.pass_time(5)
    assert sensor.in_session_with(processor)


def drop_offers(oracle):
    """Have an oracle that hears offers and lists none."""
    react = oracle.agent.on_event
    oracle.agent.on_event = lambda event: None if is_word(event, Offer) else react(event)


def is_word(event, kind):
    return isinstance(event, Received) and isinstance(event.body, kind)


async def test_seek__oracle_silent_for_longer_than_a_repetition__one_is_on_its_way(world):
    """An oracle that is slow for having much to do is not told everything twice."""
    await world.add("oracle", Kind.ORACLE)
    sensor = await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: sensor.runtime.membership.complete)
    pending = sensor.runtime.messenger.conversations.pending
    await world.until(lambda: not pending)
    world.workers["oracle"].crash()
    said = set()
    for _ in range(int(ASK_WITHIN + 2 * REPEAT_EVERY)):
        await world.pass_time(1)
        seeks = [message_id for message_id, one in pending.items() if one.context.startswith("Seek ")]
        assert len(seeks) <= 1
        said.update(seeks)
    assert len(said) == 2  # given up after three tries, and then said again
