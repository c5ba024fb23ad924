"""Envelopes that come together: one commit for all, none for what is others', and each stands or falls alone."""

from __future__ import annotations

import pytest
from worker_world import Pen

from quietfleet.chain.types import Kind
from quietfleet.session import Received
from quietfleet.whisper import Envelope
from quietfleet.workers.messages import Readings

STRANGERS = Envelope(1_000, 60, b"\0\1\2\3", bytes(540), 0)
ROW = (0.0, {"temp": 20.0})


class Stumbling(Pen):
    """Notes what it hears, and stumbles over certain readings after it wrote that it has them."""

    over = -1

    def on_event(self, event):
        super().on_event(event)
        if isinstance(event, Received) and isinstance(event.body, Readings):
            self._runtime.note("readings", first=event.body.first)
            if event.body.first == self.over:
                raise ValueError(event.body.first)


@pytest.fixture
async def pair(world):
    """Two workers in session whose agents do nothing by themselves."""
    await world.add("oracle", Kind.ORACLE)
    a = await world.add("a", Kind.SENSOR, agent=Pen)
    b = await world.add("b", Kind.PROCESSOR, agent=Stumbling)
    await world.rotate()
    await world.until(lambda: b.runtime.messenger.own_card() is not None)
    await a.do(lambda: a.runtime.messenger.connect(b.runtime.messenger.own_card(), "deal:" + "0" * 32))
    await world.until(lambda: a.in_session_with(b) and b.in_session_with(a))
    await world.pass_time(3)
    return a, b


async def said(speaker, to, count):
    """Envelopes with so many readings each in one of its own."""
    for number in range(count):
        await speaker.do(lambda number=number: speaker.runtime.tell(to.id, Readings(number, [ROW])))
    await speaker.runtime.flush()
    sent, speaker.node.sent = speaker.node.sent, []
    assert len(sent) == count
    return sent


def heard(worker):
    return [entry["first"] for entry in worker.journal("readings")]


def commits(worker):
    """Have the commits of a worker's own database counted from now on."""
    found = []
    worker.runtime.database._connection.set_trace_callback(lambda sql: sql == "COMMIT" and found.append(sql))
    return found


async def test_hear__many_at_once__all_heard_in_order_under_one_commit(pair):
    a, b = pair
    envelopes = await said(a, b, 5)
    committed = commits(b)
    await b.runtime.hear(envelopes)
    assert heard(b) == [0, 1, 2, 3, 4]
    assert len(committed) == 1


async def test_hear__nothing_for_us__no_transaction(pair):
    _, b = pair
    statements = []
    b.runtime.database._connection.set_trace_callback(statements.append)
    before = b.metric("messages_passed_over")
    await b.runtime.hear([STRANGERS, STRANGERS])
    assert statements == []
    assert b.metric("messages_passed_over") == before + 2


async def test_hear__one_of_many_makes_the_agent_fail__it_alone_is_undone(pair):
    a, b = pair
    envelopes = await said(a, b, 4)
    b.agent.over = 2
    await b.runtime.hear([STRANGERS, *envelopes])
    assert heard(b) == [0, 1, 3]
    assert b.metric("steps_failed") == 1


async def test_hear__one_of_many_makes_the_session_layer_fail__it_alone_is_undone_and_comes_again(pair, monkeypatch):
    a, b = pair
    envelopes = await said(a, b, 4)
    messenger, receive = b.runtime.messenger, b.runtime.messenger.receive

    def stumble(topic, data):
        events = receive(topic, data)
        if topic == envelopes[1].topic:
            raise ValueError(topic)
        return events

    monkeypatch.setattr(messenger, "receive", stumble)
    await b.runtime.hear(envelopes)
    assert heard(b) == [0, 2, 3]
    monkeypatch.undo()
    await b.runtime.hear(envelopes)
    assert heard(b) == [0, 2, 3, 1]


async def test_hear__crash_before_the_commit__all_of_it_comes_again_once(pair, monkeypatch):
    a, b = pair
    envelopes = await said(a, b, 3)
    receive = b.runtime.messenger.receive

    def die(topic, data):
        if topic == envelopes[2].topic:
            raise KeyboardInterrupt
        return receive(topic, data)

    monkeypatch.setattr(b.runtime.messenger, "receive", die)
    with pytest.raises(KeyboardInterrupt):
        await b.runtime.hear(envelopes)
    b.restart()
    assert heard(b) == []
    await b.runtime.hear(envelopes)
    await b.runtime.hear(envelopes)
    assert heard(b) == [0, 1, 2]
