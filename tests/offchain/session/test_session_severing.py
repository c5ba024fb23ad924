"""After the sever: what is left on disk, what is remembered, what anybody outside notices of who still calls."""

from __future__ import annotations

import random as randomness
from contextlib import suppress
from types import SimpleNamespace

import pytest
from session_world import Answer, Question, World

from quietfleet.session import Closed, Decision, Expired, Ignored, LargeEnded, Opened, Rule
from quietfleet.session import _calls as calls
from quietfleet.session import _vault as vault
from quietfleet.session import messenger as messengers
from quietfleet.session._conversation import MEMORY
from quietfleet.session._timing import Timing

KEPT = {"session_epochs", "session_tombstones", "session_past", "session_ghosts"}
TRACE = 24  # bytes of a sealed row that nobody would find by chance


def ask(party, peer, text, within=30.0, conversation=None):
    return party.messenger.request(
        peer.id, Question(text), (Answer,), within, context=f"asked {text}", conversation=conversation
    )


class Traces:
    """Every row that was ever sealed for a table of sessions."""

    def __init__(self, monkeypatch):
        self.rows = []
        put = vault.Vault.put

        def noted(one, row_id, row):
            sealed = one.seal(row_id, row)
            one._rows.put(row_id, sealed)
            self.rows.append((one._rows._name, sealed))

        def noted_many(one, rows):
            for row_id, row in rows:
                noted(one, row_id, row)

        assert put is not noted
        monkeypatch.setattr(vault.Vault, "put", noted)
        monkeypatch.setattr(vault.Vault, "put_many", noted_many)

    def found(self, party, but=KEPT):
        """The tables of which something lies in the database file or its log."""
        party.database.truncate_log()
        files = [party.database.path, party.database.path.with_name(party.database.path.name + "-wal")]
        raw = b"".join(file.read_bytes() for file in files if file.exists())
        return {name for name, row in self.rows if name not in but and row[:TRACE] in raw}


def busy(world, a, b):
    """A session with everything in it: said and unsaid, handled, given up, early, large both ways."""
    ask(a, b, "answered")
    ask(b, a, "answered")
    world.run()
    b.messenger.send_large(a.id, "to a", bytes(100_000))
    a.messenger.send_large(b.id, "to b", bytes(range(200)) * 500)
    world.lose = lambda t: len(t.data) > 30_000 and world.random.random() < 0.7
    world.run(2)
    world.lose = lambda t: t.peer == a.id
    first = ask(b, a, "never answered", within=2)
    ask(b, a, "after it", within=300, conversation=first)
    world.run(1)
    world.clock.advance(3)
    b.tick()
    early = a.messenger.request(b.id, Question("first"), (Answer,), 60.0)
    ask(a, b, "early", conversation=early)
    world.lose = lambda _: True
    _, second = a.sendable()[-2:]
    b.take(second)
    world.lose = lambda _: False


def test_sever__everything_of_the_peer__is_gone_from_the_file_and_its_log(world, monkeypatch):
    a, b = world.pair()
    a.database.close()
    traces = Traces(monkeypatch)
    a = world.restart(a)
    traces.rows.clear()
    busy(world, a, b)
    tables = {
        "session_sessions",
        "session_outbox",
        "session_handled",
        "session_given_up",
        "session_large_in",
        "session_large_out",
        "session_large_pieces",
    }
    assert traces.found(b) == tables, "the control: all of it is there before"
    b.note(b.messenger.sever(a.id, "switched off"))
    assert traces.found(b) == set()
    counts = {name: b.database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}  # noqa: S608
    assert set(counts.values()) == {0}
    assert b.messenger._waiting._early == {}
    assert a.id not in b.messenger.conversations._of_peer


def test_sever__something_waited_on_the_peer__the_agent_is_told(world):
    a, b = world.pair()
    world.lose = lambda _: True
    ask(b, a, "waits")
    b.messenger.send_large(a.id, "large", bytes(1000))
    world.run()
    b.note(b.messenger.sever(a.id, "switched off"))
    assert [(e.peer, e.reason) for e in b.seen(Closed)] == [(a.id, "switched off")]
    assert [(e.peer, e.context) for e in b.seen(Expired)] == [(a.id, "asked waits")]
    assert [e.delivered for e in b.seen(LargeEnded)] == [False]
    assert b.messenger.conversations.pending == {}


def test_sever__others__keep_everything(world):
    a, b = world.pair()
    c = world.party("c")
    world.grant(c)
    c.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    world.lose = lambda _: True
    ask(b, c, "waits")
    ask(c, b, "too")
    world.run()
    world.lose = lambda _: False
    b.note(b.messenger.sever(a.id, "switched off"))
    world.clock.advance(Timing().first_retry)
    world.run()
    assert c.bodies(Question) == [Question("waits")]
    assert b.bodies(Question) == [Question("too")]


def several(world, count):
    """A worker b in session with so many, each of which said something and is waited on."""
    a, b = world.pair()
    others = [a]
    for number in range(1, count):
        others.append(world.party(f"other {number}"))
        world.grant(others[-1])
        others[-1].messenger.connect(b.messenger.own_card(), f"deal:{number + 1}")
        world.run()
    for other in others:
        ask(other, b, "said")
    world.run()
    world.lose = lambda _: True
    for other in others:
        ask(b, other, "waits")
    world.run()
    return b, others


def test_sever_all__many_peers__the_same_events_and_nothing_left_of_any_in_file_or_log(world, monkeypatch):
    b, others = several(world, 4)
    *gone, kept = others
    traces = Traces(monkeypatch)
    for session in b.messenger.table.sessions.values():
        b.messenger.table.save(session)
    for pending in b.messenger.conversations.pending.values():
        b.messenger.conversations.put(pending)
    root = b.messenger.session(kept.id).root
    b.note(b.messenger.sever_all({one.id: f"reason {number}" for number, one in enumerate(gone)}))
    assert [(e.peer, e.reason) for e in b.seen(Closed)] == [(p.id, f"reason {n}") for n, p in enumerate(gone)]
    assert {e.peer for e in b.seen(Expired)} == {one.id for one in gone}
    assert b.messenger.table.peers() == {kept.id}
    assert b.messenger.session(kept.id).root == root
    assert len(b.messenger.ghosts) == 3
    (past,) = b.messenger.conversations._past.values()
    assert len(past.ids) >= 3
    assert traces.found(b) == {"session_sessions", "session_outbox"}, "of the one that is kept"
    traces.rows = [row for row in traces.rows if not any(row[1] == one for one in stored(b))]
    assert traces.found(b) == set()


def said(party, to):
    """Something that a party says, before it arrives."""
    ask(party, to, "late")
    return party.sendable()[-1]


def stored(party):
    names = ("session_sessions", "session_outbox")
    return [row for name in names for (row,) in party.database.execute(f"SELECT row FROM {name}")]  # noqa: S608


def test_sever_all__they_go_on_sending__each_is_known_and_ignored_before_and_after_a_restart(world):
    b, others = several(world, 3)
    world.lose = lambda _: False
    late = [said(other, b) for other in others]
    b.note(b.messenger.sever_all(dict.fromkeys([one.id for one in others], "switched off")))
    events = [event for one in late for event in b.messenger.receive(one.topic, one.data)]
    assert events == [Ignored(one.id) for one in others]
    b = world.restart(b)
    assert [event for one in late for event in b.messenger.receive(one.topic, one.data)] == events


def test_sever_all__undone__everything_is_as_it_was(world):
    b, others = several(world, 3)
    roots = {one.id: b.messenger.session(one.id).root for one in others}
    with suppress(ZeroDivisionError), b.database.transaction():
        b.messenger.sever_all(dict.fromkeys(roots, "switched off"))
        assert b.messenger.table.sessions == {}
        raise ZeroDivisionError
    b.messenger.reload()
    assert {one.id: b.messenger.session(one.id).root for one in others} == roots
    assert {p.peer for p in b.messenger.conversations.pending.values()} == roots.keys()
    assert len(b.messenger.ghosts) == 0
    world.lose = lambda _: False
    world.clock.advance(Timing().last_retry)
    world.run()
    assert all(Question("waits") in one.bodies(Question) for one in others)


# what was handled once


def meet_again(world, a, b, purpose="deal:2"):
    a.messenger.connect(b.messenger.own_card(), purpose)
    world.run()
    return len(b.seen(Opened)) == 2


@pytest.mark.parametrize("restart", [False, True])
def test_message_handled__severed_and_in_session_again__is_not_handled_twice(world, restart):
    """The other side never heard of the switch, as when the chain took it back, and says again what was lost."""
    a, b = world.pair()
    world.lose = lambda t: t.peer == a.id
    ask(a, b, "once", within=500)
    world.run()
    assert b.bodies(Question) == [Question("once")]
    b.note(b.messenger.sever(a.id, "switched off"))
    world.lose = lambda _: False
    a.note(a.messenger.leave(b.id, "no answer"))
    if restart:
        events, b = b.events, world.restart(b)
        b.events = events
    assert meet_again(world, a, b)
    world.clock.advance(Timing().last_retry)
    world.run()
    assert b.bodies(Question) == [Question("once")]
    assert b.metrics.value("messages_ignored", reason="repeated") >= 1


def test_message_handled__whose__is_not_remembered_and_the_id_only_for_a_while(world):
    a, b = world.pair()
    ask(a, b, "once")
    world.run()
    b.note(b.messenger.sever(a.id, "switched off"))
    (past,) = b.messenger.conversations._past.values()
    assert all(len(one) == 16 for one in past.ids)
    assert {b.messenger.conversations.handled(one).peer for one in past.ids} == {""}
    world.clock.advance(MEMORY + 1)
    b.tick()
    assert b.messenger.conversations._past == {}
    assert b.messenger.conversations._bare == set()
    assert b.database.execute("SELECT count(*) FROM session_past").fetchone() == (0,)


# silence


class Separate(World):
    """A world in which each party draws from randomness of its own, so that one's draws are not another's."""

    def _open(self, name, identity, keys):
        shared = self.random
        self.random = randomness.Random(name)
        try:
            return super()._open(name, identity, keys)
        finally:
            self.random = shared


def run_beside(folder, *, pestered):
    """Worker b serves c after it severed a; return all that leaves b, with the time."""
    folder.mkdir()
    world = Separate(folder)
    world.bloom_bits = 64
    a, b = world.pair()
    c = world.party("c")
    world.grant(c)
    c.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    ask(a, b, "before")
    world.run()
    world.registry.off.add(a.id)
    b.note(b.messenger.sever(a.id, "switched off"))
    world.registry.off.clear()  # a itself goes on; b has severed it
    b.messenger._registry = SimpleNamespace(
        can_cooperate=lambda _me, peer: peer != a.id,
        speaks_for=world.registry.speaks_for,
        usable=lambda worker: worker != a.id,
        stopped=lambda worker: worker == a.id,
    )
    seen = []
    for step in range(120):
        world.clock.advance(1.0)
        if step % 3 == 0:
            ask(c, b, f"still there {step}")
        if pestered:
            ask(a, b, f"let me in {step}")
            a.tick()
            for transmission in a.sendable():
                b.take(transmission)
        seen += exchange(world, b, c)
    return seen, b


def exchange(world, b, c):
    """Let b and c talk, and note what leaves b and when."""
    seen = []
    for _ in range(3):
        c.tick()
        for transmission in c.sendable():
            b.take(transmission)
        b.tick()
        left = b.sendable()
        seen += [(world.clock.now(), t.topic, t.data) for t in left]
        for transmission in left:
            c.take(transmission)
    return seen


def test_severed_peer__goes_on_sending__not_a_byte_nor_a_moment_of_what_leaves_is_different(tmp_path):
    quiet, _ = run_beside(tmp_path / "quiet", pestered=False)
    pestered, b = run_beside(tmp_path / "pestered", pestered=True)
    assert b.metrics.value("messages_ignored", reason="severed") > 30
    assert len(quiet) > 40
    assert [(at, topic) for at, topic, _ in pestered] == [(at, topic) for at, topic, _ in quiet]
    assert pestered == quiet


def test_severed_peers_envelope__is_worked_on_like_anybody_elses_and_writes_nothing(world, monkeypatch):
    a, b = world.pair()
    ask(a, b, "later")
    (buried,) = a.sendable()
    b.note(b.messenger.sever(a.id, "switched off"))
    assert b.messenger.table.buried(buried.topic)
    tried = []
    for module in (calls, messengers):
        opened = module.open_symmetric
        monkeypatch.setattr(
            module, "open_symmetric", lambda key, data, real=opened: tried.append(len(data)) or real(key, data)
        )
    stranger = bytes(byte ^ 0x55 for byte in buried.topic)
    assert not b.messenger.table.buried(stranger)
    work = []
    for topic in (buried.topic, stranger):
        tried.clear()
        before = b.database._connection.total_changes
        b.messenger.receive(topic, buried.data)
        assert b.database._connection.total_changes == before
        work.append(list(tried))
    assert work[0] == work[1] != []


# decisions


@pytest.fixture
def decided(world, monkeypatch):
    """What every messenger of a world decides."""
    taken = []
    real = messengers.Messenger.__init__
    monkeypatch.setattr(
        messengers.Messenger, "__init__", lambda one, *parts, **named: real(one, *parts, decided=taken.append, **named)
    )
    return taken


def accepted(decided, party):
    return [one.what for one in decided if one.accepted and one.peer == party.id]


def refused(decided, party):
    return [one.why for one in decided if not one.accepted and one.peer == party.id]


def test_decisions__of_a_session__each_message_by_kind_and_rule(world, decided):
    a, b = world.pair()
    world.settle()
    ask(a, b, "one")
    world.run()
    b.messenger.leave(a.id, "enough")
    world.run()
    assert accepted(decided, a) == ["hello", "ready/1", "question/1"]
    assert accepted(decided, b) == ["welcome", "ack/1", "answer/1", "goodbye/1"]
    rules = {one.what: one.why for one in decided}
    assert rules["hello"] == Rule.ADMITTED
    assert rules["welcome"] == Rule.ANSWERED
    assert {rule for what, rule in rules.items() if "/" in what} == {Rule.SESSION}
    assert all(isinstance(one, Decision) for one in decided)


def test_decisions__refused__by_reason_and_without_what_was_said(world, decided):
    a, b = world.pair()
    ask(a, b, "not any more")
    (held,) = a.sendable()
    world.registry.off.add(a.id)
    b.take(held)
    assert refused(decided, a) == ["not allowed"]
    world.registry.off.clear()
    world.clock.advance(Timing().first_retry)
    world.run()
    b.note(b.messenger.sever(a.id, "switched off"))
    ask(a, b, "severed")
    world.run()
    assert refused(decided, a)[-1] == "severed"
    assert {one.what for one in decided if not one.accepted} == {""}


def test_decisions__call_of_a_stranger__is_no_entry(world, decided):
    """Anyone can draw any number of keys and call with each."""
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    a.tick()
    held = a.sendable()
    world.registry.off.add(a.id)
    for call in held:
        b.take(call)
    assert b.metrics.value("handshakes_refused") == 1
    assert decided == []


def test_decisions__early_message__is_entered_when_it_is_heard(world, decided):
    a, b = world.pair()
    first = a.messenger.request(b.id, Question("first"), (Answer,), 60.0)
    ask(a, b, "second", within=60.0, conversation=first)
    one, other = a.sendable()
    decided.clear()
    b.take(other)
    assert decided == []
    b.take(one)
    assert accepted(decided, a) == ["question/1", "question/1"]
