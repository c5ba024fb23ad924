"""What the audit trail says of every message, what severing leaves of a peer, and that the oracle names nobody."""

from __future__ import annotations

import json
import logging

import pytest
from worker_world import Pen, hours

from quietfleet.chain.events import ActiveChanged
from quietfleet.chain.types import Kind
from quietfleet.session import Closed, Decision, Expired, Rule
from quietfleet.storage import AuditLog
from quietfleet.workers import _trail as trails
from quietfleet.workers.messages import Readings, Recommendation

READINGS = Readings(0, [(0.0, {"temp": 21.5})])
ADVICE = Recommendation(1, "put the shutters down")


@pytest.fixture
async def duo(world):
    """A processor and a sensor in session, which say what a test writes."""
    for name, kind in (("oracle", Kind.ORACLE), ("desk", Kind.PROCESSOR), ("porch", Kind.SENSOR)):
        await world.add(name, kind, agent=None if kind is Kind.ORACLE else Pen)
    await world.rotate()
    desk, porch = world.workers["desk"], world.workers["porch"]
    await world.until(lambda: desk.runtime.membership.complete and porch.runtime.membership.complete)
    desk.agent.answers[Readings] = lambda _body: ADVICE
    await meet(desk, porch)
    await world.until(lambda: porch.in_session_with(desk) and desk.in_session_with(porch))
    return world


@pytest.fixture
def desk(duo):
    return duo.workers["desk"]


@pytest.fixture
def porch(duo):
    return duo.workers["porch"]


@pytest.fixture
def oracle(duo):
    return duo.workers["oracle"]


async def meet(desk, porch, purpose="deal:1"):
    await porch.do(lambda: porch.runtime.messenger.connect(desk.runtime.messenger.own_card(), purpose))


async def ask(porch, desk, within=30.0):
    await porch.do(
        lambda: porch.runtime.messenger.request(desk.id, READINGS, (Recommendation,), within, context="asked")
    )


async def test_message__accepted__entered_with_the_block_it_was_authorised_at(duo, desk, porch):
    await ask(porch, desk)
    await duo.pass_time(3)
    entry = next(one for one in desk.journal("accepted") if one["what"] == "readings/1")
    assert entry["who"] == porch.id
    assert entry["why"] == Rule.SESSION
    assert entry["age"] >= 0
    heads = {one.number: one.hash for one in desk.runtime.replica.ring()}
    assert heads[entry["block"]].hex().startswith(entry["hash"])
    assert len(entry["hash"]) == 16
    assert "recommendation/1" in [one["what"] for one in porch.journal("accepted")]
    assert [one["what"] for one in desk.journal("accepted") if one["who"] == porch.id][:2] == ["hello", "ready/1"]


async def test_message__accepted__nothing_of_what_it_said_is_entered(duo, desk, porch):
    await ask(porch, desk)
    await duo.pass_time(3)
    for worker in (desk, porch):
        entries = worker.journal("accepted")
        assert {tuple(sorted(one)) for one in entries} == {("age", "block", "hash", "what", "who", "why")}
        assert "21.5" not in str(entries)
        assert ADVICE.advice not in str(entries)


async def test_message__its_step_fails_as_a_whole__neither_read_nor_entered(duo, desk, porch, monkeypatch):
    await ask(porch, desk)
    await porch.runtime.flush()
    (envelope,) = porch.node.sent
    before = desk.journal("accepted")
    with monkeypatch.context() as broken:
        broken.setattr(desk.runtime, "feed", lambda _events: 1 / 0)
        await desk.hear(envelope)
    assert desk.journal("accepted") == before
    await desk.hear(envelope)
    assert [one["what"] for one in desk.journal("accepted")[len(before) :]] == ["readings/1"]
    assert AuditLog(desk.runtime.database).verify() > 0


async def test_refused__a_thousand_times__one_entry_a_minute_with_the_counts(duo, desk, porch):
    decide = desk.runtime.trail.decided
    for _ in range(1000):
        decide(Decision(porch.id, "", accepted=False, why="severed"))
    decide(Decision(porch.id, "", accepted=False, why="not allowed"))
    assert desk.journal("refused") == []
    since = duo.clock.now()
    await duo.pass_time(trails.EVERY + 2)
    assert desk.journal("refused") == [{"who": porch.id, "why": {"severed": 1000, "not allowed": 1}, "since": since}]
    await duo.pass_time(trails.EVERY + 2)
    assert len(desk.journal("refused")) == 1


async def test_refused__by_more_peers_than_are_counted_apart__the_rest_together(duo, desk):
    for n in range(2 * trails.COUNTED):
        desk.runtime.trail.decided(Decision(f"0x{n:040x}", "", accepted=False, why="severed"))
    await duo.pass_time(trails.EVERY + 2)
    entries = desk.journal("refused")
    assert len(entries) == trails.COUNTED + 1
    assert entries[-1]["who"] == trails.OTHERS
    assert entries[-1]["why"] == {"severed": trails.COUNTED}


async def test_refused__worker_stops__entered_at_the_end(duo, desk, porch):
    desk.runtime.trail.decided(Decision(porch.id, "", accepted=False, why="severed"))
    desk.runtime.trail.flush()
    assert [one["why"] for one in desk.journal("refused")] == [{"severed": 1}]
    desk.runtime.trail.flush()
    assert len(desk.journal("refused")) == 1


async def test_severed_peer__goes_on_sending__nothing_is_written_for_each(duo, desk, porch):
    await ask(porch, desk, within=500)
    porch.runtime.registry.can_cooperate = lambda *_: True
    porch.runtime.on_changes = lambda _changes: None
    await duo.switch(porch, active=False)
    changes = desk.runtime.database._connection.total_changes
    for _ in range(20):
        duo.clock.advance(7)
        await porch.runtime.flush()
        sent, porch.node.sent = porch.node.sent, []
        for envelope in sent:
            await desk.hear(envelope)
    assert desk.metric("envelopes_from_severed") >= 10
    assert desk.runtime.database._connection.total_changes == changes
    await desk.beat()
    (entry,) = desk.journal("refused")
    assert entry["why"] == {"severed": desk.metric("envelopes_from_severed")}


# severing


async def test_disable__in_one_transaction_with_the_cursor__or_not_at_all(duo, desk, porch, monkeypatch):
    duo.lose = lambda *_: True
    await desk.do(lambda: desk.runtime.messenger.request(porch.id, READINGS, (Recommendation,), 60.0, context="waits"))
    block, secret = desk.runtime.replica.head.number, desk.runtime.messenger.session(porch.id).root
    with monkeypatch.context() as broken:
        broken.setattr(desk.agent, "on_change", lambda _change: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await duo.switch(porch, active=False)
    desk.runtime.recover()
    assert desk.runtime.replica.head.number == block
    assert desk.runtime.messenger.session(porch.id).root == secret
    assert desk.journal("severed") == []
    desk.agent.events.clear()
    await duo.catch_up(desk)
    assert desk.runtime.replica.head.number > block
    assert desk.runtime.messenger.table.with_peer(porch.id) == []
    assert [type(event) for event in desk.agent.events] == [Closed, Expired]
    assert desk.journal("severed") == [{"peer": porch.id, "reason": "switched off on chain"}]


async def test_disable__many_in_one_block__each_severed_told_and_entered_and_none_that_was_not_met(duo, desk, porch):
    yard = await duo.add("yard", Kind.SENSOR, agent=Pen)
    shed = await duo.add("shed", Kind.SENSOR, agent=Pen)
    await duo.until(lambda: yard.runtime.membership.complete)
    await meet(desk, yard, "deal:2")
    await duo.until(lambda: desk.in_session_with(yard) and yard.in_session_with(desk))
    desk.agent.events.clear()
    await duo.say(*(switched_off(desk, one) for one in (yard, shed, porch)))
    told = [{"peer": one.id, "reason": "switched off on chain"} for one in (yard, porch)]
    purposes = ("deal:2", "deal:1")
    assert desk.agent.events == [Closed(purpose=deal, **one) for deal, one in zip(purposes, told, strict=True)]
    assert desk.journal("severed") == told
    assert desk.runtime.audit.verify() > 0
    assert desk.rows("SELECT count(*) FROM session_sessions WHERE id != ?", oracle_session(desk))[0] == (0,)


def switched_off(seen_by, worker):
    state = seen_by.runtime.replica.worker(worker.id)
    return ActiveChanged(worker.id, state.owner, False, state.sequence + 1)


def oracle_session(worker):
    (session,) = worker.runtime.messenger.table.sessions.values()
    assert session.purpose == "oracle"
    return session.id


async def test_disable__and_on_again_in_one_block__severed_all_the_same(duo, desk, porch):
    off = switched_off(desk, porch)
    on = ActiveChanged(off.id, off.by, True, off.sequence + 1)
    await duo.say(off, on)
    assert desk.journal("severed") == [{"peer": porch.id, "reason": "switched off on chain"}]
    assert not desk.in_session_with(porch)


async def test_disable__log_of_the_database__holds_nothing_of_the_session_after(duo, desk, porch):
    await ask(porch, desk)
    await duo.pass_time(3)
    session = desk.runtime.messenger.session(porch.id)
    (row,) = desk.rows("SELECT row FROM session_sessions WHERE id = ?", session.id)[0]
    assert row[:32] in raw(desk)
    await duo.switch(porch, active=False)
    assert row[:32] not in raw(desk)


def raw(worker):
    path = worker.runtime.database.path
    log = path.with_name(path.name + "-wal")
    return path.read_bytes() + (log.read_bytes() if log.exists() else b"")


async def test_disable__reader_holds_the_log__emptied_when_it_is_gone(duo, desk, porch):
    await ask(porch, desk)
    await duo.pass_time(3)
    session = desk.runtime.messenger.session(porch.id)
    (row,) = desk.rows("SELECT row FROM session_sessions WHERE id = ?", session.id)[0]
    desk.runtime.database.execute("PRAGMA busy_timeout=1")
    with type(desk.runtime.database).observe(desk.runtime.database.path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM audit").fetchone()
        await duo.switch(porch, active=False)
        assert row[:32] in raw(desk)
        reader.execute("ROLLBACK")
    await duo.pass_time(2)
    assert row[:32] not in raw(desk)


async def test_disable__the_device_itself__falls_silent_and_its_counterpart_covers_it(duo, desk, porch):
    for _ in range(20):
        await ask(porch, desk)
        await duo.pass_time(3)
    await duo.switch(porch, active=False)
    assert len(desk.runtime.messenger.ghosts) == 1
    assert len(porch.runtime.messenger.ghosts) == 0
    await duo.pass_time(2)
    duo.wire.clear()
    await duo.pass_time(120)
    senders = [sender.name for sender, _ in duo.wire]
    assert "porch" not in senders
    assert senders.count("desk") > 20
    assert desk.journal("refused") == []


async def test_ghosts__of_a_worker_switched_off_and_on_again__are_gone(duo, desk, porch):
    await ask(porch, desk)
    await duo.pass_time(3)
    await desk.do(lambda: desk.runtime.sever(porch.id, "the deal is over"))
    assert len(desk.runtime.messenger.ghosts) == 1
    await duo.switch(desk, active=False)
    assert len(desk.runtime.messenger.ghosts) == 0
    await duo.switch(desk, active=True)
    assert len(desk.runtime.messenger.ghosts) == 0


# the oracle


def said_by(oracle, caplog):
    """Everything an oracle's trail, log and status say."""
    database = oracle.runtime.database
    rows = database.execute("SELECT kind, detail FROM audit").fetchall()
    return json.dumps([rows, [record.getMessage() for record in caplog.records], oracle.runtime.status()]).lower()


async def test_oracle__trail_log_and_status__name_nobody(world, caplog):
    """With a whole fleet that finds each other, and is switched off and on."""
    oracle = await world.add("oracle", Kind.ORACLE)
    processor, sensor = await world.add("processor", Kind.PROCESSOR), await world.add("sensor", Kind.SENSOR)
    await world.rotate()
    await world.until(lambda: processor.journal("session-open") != [])
    sensor.measure(hours(2, 0.0))
    await world.pass_time(4)
    for active in (False, True):
        await world.switch(sensor, active=active)
        await world.pass_time(20)
    oracle.runtime.trail.flush()
    caplog.clear()  # the others log into the same place
    said = said_by(oracle, caplog)
    assert oracle.journal("accepted") != []
    assert oracle.journal("severed") != []
    for worker in (processor, sensor):
        assert worker.id[2:].lower() not in said


async def test_oracle__worker_switched_off__no_entry_ties_its_pseudonym_to_the_public_switch(duo, oracle, porch):
    """Whoever reads the trail beside the chain would else know whose all entries of that pseudonym are."""
    names = {oracle.runtime.trail.who(porch.id)}
    assert names <= {entry["who"] for entry in oracle.journal("accepted")}
    await duo.switch(porch, active=False)
    oracle.runtime.trail.decided(Decision(porch.id, "", accepted=False, why="severed"))
    oracle.runtime.trail.flush()
    assert oracle.journal("severed") != []
    assert oracle.journal("refused") != []
    said = json.dumps([oracle.journal("severed"), oracle.journal("refused")])
    assert not any(name in said for name in names)


async def test_oracle__alone_in_its_process__logs_no_id_at_all(world, caplog):
    oracle = await world.add("oracle", Kind.ORACLE)
    others = [await world.add(n, kind, agent=Pen) for n, kind in (("p", Kind.PROCESSOR), ("s", Kind.SENSOR))]
    await world.rotate()
    await world.until(lambda: all(one.in_session_with(oracle) for one in others))
    others[1].crash()
    with caplog.at_level(logging.INFO):
        others[0].crash()
        await world.switch(others[1], active=False)
        for one in others:
            oracle.runtime.sever(one.id, "a test")
            oracle.runtime.trail.decided(Decision(one.id, "seek/1", accepted=True, why=Rule.SESSION))
            oracle.runtime.trail.decided(Decision(one.id, "", accepted=False, why="severed"))
        oracle.runtime._disown("a test")
        oracle.runtime.trail.flush()
    said = said_by(oracle, caplog)
    assert "severed" in said
    for worker in others:
        assert worker.id[2:].lower() not in said


async def test_oracle__pseudonyms__stay_within_an_epoch_and_end_with_it(duo, oracle, desk, porch):
    trail = oracle.runtime.trail
    first = {trail.who(desk.id), trail.who(porch.id)}
    assert len(first) == 2
    assert {one["who"] for one in oracle.journal("accepted")} == first
    assert trail.who(desk.id) == trail.who(desk.id)
    oracle.restart()
    assert oracle.runtime.trail.who(desk.id) in first
    await duo.rotate(grace=2)
    await duo.pass_time(6)
    assert oracle.runtime.messenger.epochs.secrets(1) is None, "what the names came from"
    assert {oracle.runtime.trail.who(one.id) for one in (desk, porch)}.isdisjoint(first)


async def test_oracle__no_configuration_yet__everybody_is_unknown(world):
    oracle = await world.add("oracle", Kind.ORACLE)
    assert oracle.runtime.trail.who("0x" + 40 * "1") == trails.UNKNOWN
