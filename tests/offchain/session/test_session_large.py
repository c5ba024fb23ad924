"""Large payloads go in pieces, through loss and restarts, and only whole ones are handed over."""

from __future__ import annotations

import hashlib
import random as randomness

import msgspec
import pytest
from session_world import Answer, Question

from quietfleet.errors import MessageRefused
from quietfleet.session import MAX_LARGE, LargeEnded, LargeReceived, Timing
from quietfleet.session import _large as large
from quietfleet.session._codec import Mode, Packet, encode_body, encode_packet
from quietfleet.session._large_wire import CHUNK, Chunk, Got, Have, Want, chunks_of, want, wanted
from quietfleet.session.messenger import SIZE_CLASSES
from quietfleet.whisper import room

HOPS = 3
LOSS = 0.01  # at each hop
STEP = 0.25


class Path:
    """Three hops between everybody, each of which loses one envelope in a hundred and delays the rest."""

    def __init__(self, world, seed, loss=LOSS):
        self.world, self.loss = world, loss
        self.random = randomness.Random(seed)
        self.under_way = []
        self.sent = self.lost = 0

    def step(self):
        self.world.clock.advance(STEP)
        now = self.world.clock.now()
        for party in list(self.world.parties.values()):
            party.tick()
            for transmission in party.sendable():
                self.sent += 1
                if any(self.random.random() < self.loss for _ in range(HOPS)):
                    self.lost += 1
                    continue
                delay = sum(self.random.uniform(0.05, 0.8) for _ in range(HOPS))
                self.under_way.append((now + delay, self.sent, transmission, party.name))
        arrived = sorted(one for one in self.under_way if one[0] <= now)
        self.under_way = [one for one in self.under_way if one[0] > now]
        for _, _, transmission, name in arrived:
            self.world.deliver(transmission, self.world.parties[name])

    def until(self, done, patience):
        for _ in range(int(patience / STEP)):
            if done():
                return
            self.step()
        raise AssertionError("it took too long")


def blob(world, size):
    return world.random.randbytes(size)


def say(sender, receiver, body):
    """A member says what its own code never would."""
    session = sender.messenger.session(receiver.id)
    packet = Packet(bytes(16), None, Mode.REPLY, 0.0, encode_body(body))
    receiver.take(sender.messenger._departures.seal(session, encode_packet(packet)))


def pieces(party):
    return party.messenger.large._pieces.ids(b"")


def test_send_large__8_mib_through_three_lossy_hops__arrives_whole_and_once(world):
    a, b = world.pair()
    data = blob(world, MAX_LARGE)
    path = Path(world, seed=3)
    transfer = a.messenger.send_large(b.id, "dataset", data)
    path.until(lambda: a.seen(LargeEnded), patience=600)
    assert b.seen(LargeReceived) == [LargeReceived(a.id, "dataset", hashlib.sha256(data).digest(), data)]
    assert a.seen(LargeEnded) == [LargeEnded(b.id, transfer, "dataset", delivered=True)]
    assert path.lost > 0
    assert path.sent < 1.6 * chunks_of(MAX_LARGE)
    assert pieces(a) == pieces(b) == []


def test_send_large__both_restart_halfway__goes_on_where_it_was(world):
    a, b = world.pair()
    data = blob(world, 40 * CHUNK)
    path = Path(world, seed=5)
    a.messenger.send_large(b.id, "dataset", data)
    path.until(lambda: len(pieces(b)) >= 20, patience=120)
    sent = path.sent
    a, b = world.restart(a), world.restart(b)
    path.until(lambda: a.seen(LargeEnded), patience=120)
    assert [event.data for event in b.seen(LargeReceived)] == [data]
    assert path.sent - sent < 40


def test_send_large__while_it_goes__other_messages_do_not_wait_for_it(world):
    a, b = world.pair()
    a.messenger.send_large(b.id, "dataset", blob(world, 60 * CHUNK))
    path = Path(world, seed=6, loss=0)
    path.until(lambda: len(pieces(b)) >= 5, patience=60)
    a.messenger.request(b.id, Question("now?"), (Answer,), 30)
    path.until(lambda: a.bodies(Answer), patience=8)
    assert b.seen(LargeReceived) == []


@pytest.mark.parametrize("size", [1, CHUNK - 1, CHUNK, CHUNK + 1])
def test_send_large__at_the_edge_of_a_piece__arrives(world, size):
    a, b = world.pair()
    data = blob(world, size)
    a.messenger.send_large(b.id, "dataset", data)
    world.run()
    assert [event.data for event in b.seen(LargeReceived)] == [data]


def test_send_large__the_same_to_two__kept_once_and_gone_after_the_last(world):
    a, b = world.pair()
    c = world.party("c")
    world.grant(c)
    a.messenger.connect(c.messenger.own_card(), "deal:2")
    world.run()
    data = blob(world, 3 * CHUNK)
    for peer in (b, c):
        a.messenger.send_large(peer.id, "release", data)
    assert len(pieces(a)) == 3
    world.run()
    assert [event.data for event in (*b.seen(LargeReceived), *c.seen(LargeReceived))] == [data, data]
    assert pieces(a) == []


@pytest.mark.parametrize("size", [0, MAX_LARGE + 1])
def test_send_large__nothing_or_too_much__refused(world, size):
    a, b = world.pair()
    with pytest.raises(MessageRefused):
        a.messenger.send_large(b.id, "dataset", bytes(size))


def test_send_large__too_many_at_a_time__refused(world):
    a, b = world.pair()
    for n in range(large.CONCURRENT):
        a.messenger.send_large(b.id, f"dataset {n}", b"x")
    with pytest.raises(MessageRefused):
        a.messenger.send_large(b.id, "one more", b"x")


def test_send_large__receiver_wants_none__ended_and_nothing_of_it_sent(world):
    a, b = world.pair()
    world.takes = lambda _peer, kind, size: kind != "spam" and size < 10
    transfer = a.messenger.send_large(b.id, "spam", blob(world, CHUNK))
    world.run()
    assert a.seen(LargeEnded) == [LargeEnded(b.id, transfer, "spam", delivered=False)]
    assert max(len(t.data) for t in world.wire[-2:]) < SIZE_CLASSES[1]


def test_send_large__receiver_never_answers__given_up_in_time(world):
    a, b = world.pair()
    world.lose = lambda _: True
    a.messenger.send_large(b.id, "dataset", b"x", within=50)
    world.run()
    world.clock.advance(51)
    world.run()
    assert [event.delivered for event in a.seen(LargeEnded)] == [False]
    assert pieces(a) == []


def test_sever__large_payloads_both_ways__erased_on_disk_too(world):
    a, b = world.pair()
    a.messenger.send_large(b.id, "dataset", blob(world, 40 * CHUNK))
    path = Path(world, seed=5)
    path.until(lambda: len(pieces(b)) >= 5, patience=60)
    for party, other in ((a, b), (b, a)):
        party.note(party.messenger.sever(other.id, "switched off"))
        assert pieces(party) == []
        assert party.messenger.large.outgoing == party.messenger.large.incoming == {}


def test_pieces__at_rest__are_not_in_the_clear(world):
    a, b = world.pair()
    a.messenger.send_large(b.id, "dataset", b"a very recognisable sentence" * 2000)
    a.database.truncate_log()
    assert b"recognisable" not in a.database.path.read_bytes()


def test_piece__its_envelope__is_in_the_class_of_32768():
    packet = Packet(bytes(16), None, Mode.REPLY, 0.0, encode_body(Chunk(bytes(16), 258, bytes(CHUNK))))
    size = len(encode_packet(packet))
    assert next(one for one in SIZE_CLASSES if room(one, signed=False) >= size) == 32_768


@pytest.mark.parametrize("indices", [[0], [258], [0, 258], [3, 4, 5, 11], list(range(16))])
def test_want__any_pieces__are_read_back(indices):
    assert wanted(want(bytes(16), indices), MAX_LARGE, 300) == indices


def test_want__pieces_that_are_not_there__not_sent(world):
    a, b = world.pair()
    transfer = a.messenger.send_large(b.id, "dataset", blob(world, 2 * CHUNK))
    say(b, a, Want(transfer, 1, b"\xff" * 33))
    assert a.messenger.large.outgoing[b.id, transfer].queue == [1]


def test_want__without_end__ended(world):
    a, b = world.pair()
    world.takes = lambda *_: True
    transfer = a.messenger.send_large(b.id, "dataset", blob(world, 4 * CHUNK))
    sent = 0
    while a.messenger.large.outgoing and sent < 1000:
        say(b, a, Want(transfer, 0, b"\xff"))
        sent += len(a.sendable())
    assert sent <= large.TIRED * 4 + 2 * large.WINDOW + 1


def test_have__size_is_a_lie__content_is_not_handed_over(world):
    a, b = world.pair()
    data = blob(world, 100)
    say(a, b, Have(bytes(16), hashlib.sha256(data).digest(), 101, "dataset"))
    say(a, b, Chunk(bytes(16), 0, data))
    assert pieces(b) == []
    say(a, b, Chunk(bytes(16), 0, data + b"!"))
    assert b.seen(LargeReceived) == []
    assert pieces(b) == []
    assert b.messenger.large.incoming[a.id, bytes(16)].over


@pytest.mark.parametrize(
    "body",
    [
        {"type": "large-have/1", "transfer": bytes(16), "digest": bytes(32), "size": MAX_LARGE + 1, "kind": ""},
        {"type": "large-have/1", "transfer": bytes(16), "digest": bytes(32), "size": 0, "kind": ""},
        {"type": "large-chunk/1", "transfer": bytes(16), "index": 10_000, "data": b"x"},
        {"type": "large-want/1", "transfer": bytes(16), "first": 0, "bits": bytes(34)},
    ],
    ids=["too large", "empty", "index", "bitmap"],
)
def test_large__out_of_bounds__malformed(world, body):
    a, b = world.pair()
    session = a.messenger.session(b.id)
    packet = Packet(bytes(16), None, Mode.REPLY, 0.0, msgspec.msgpack.encode(body))
    b.take(a.messenger._departures.seal(session, encode_packet(packet)))
    assert b.metrics.value("messages_ignored", reason="malformed") == 1


def test_piece__of_somebody_elses_transfer__passed_over(world):
    a, b = world.pair()
    c = world.party("c")
    world.grant(c)
    c.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    data = blob(world, 10)
    say(a, b, Have(bytes(16), hashlib.sha256(data).digest(), 10, "dataset"))
    say(c, b, Chunk(bytes(16), 0, b"0123456789"))
    say(c, b, Got(bytes(16), taken=True))
    assert pieces(b) == []
    say(a, b, Chunk(bytes(16), 0, data))
    assert [event.peer for event in b.seen(LargeReceived)] == [a.id]


def test_have__more_than_may_go_at_a_time__not_taken(world):
    a, b = world.pair()
    for n in range(10):
        say(a, b, Have(bytes([n]) * 16, bytes(32), MAX_LARGE, "dataset"))
    assert len(b.messenger.large.incoming) == large.CONCURRENT


def test_have__never_followed_by_pieces__given_up_and_erased(world):
    a, b = world.pair()
    say(a, b, Have(bytes(16), bytes(32), MAX_LARGE, "dataset"))
    say(a, b, Chunk(bytes(16), 0, bytes(CHUNK)))
    world.clock.advance(large.QUIET + 1)
    b.tick()
    assert pieces(b) == []
    assert b.messenger.large.incoming[a.id, bytes(16)].over


def test_have__a_piece_now_and_then_without_end__given_up_after_an_hour(world):
    a, b = world.pair()
    say(a, b, Have(bytes(16), bytes(32), MAX_LARGE, "dataset"))
    for n in range(16):
        world.clock.advance(large.QUIET - 1)
        b.tick()
        say(a, b, Chunk(bytes(16), n, bytes(CHUNK)))
    assert b.messenger.large.incoming[a.id, bytes(16)].over


def test_have__again_after_it_came__said_so_and_not_taken_twice(world):
    a, b = world.pair()
    data = blob(world, 10)
    have = Have(bytes(16), hashlib.sha256(data).digest(), 10, "dataset")
    say(a, b, have)
    say(a, b, Chunk(bytes(16), 0, data))
    b = world.restart(b)
    say(a, b, have)
    say(a, b, Chunk(bytes(16), 0, data))
    assert b.seen(LargeReceived) == []
    assert b.messenger.large._said == {(a.id, bytes(16), Got): Got(bytes(16), taken=True)}


def test_done__many_transfers_of_a_peer__only_the_last_are_remembered(world):
    a, b = world.pair()
    world.takes = lambda *_: False
    for n in range(large.DONE + 20):
        say(a, b, Have(n.to_bytes(16, "big"), bytes(32), 10, "dataset"))
        world.clock.advance(1)
    assert len(b.messenger.large.incoming) == large.DONE
    world.clock.advance(2 * large.LIFE + 1)
    b.tick()
    assert b.messenger.large.incoming == {}


def test_rollback__as_a_piece_came__asked_for_again(world):
    a, b = world.pair()
    data = blob(world, 3 * CHUNK)
    a.messenger.send_large(b.id, "dataset", data)
    with pytest.raises(ZeroDivisionError):
        fail_on_piece(world, a, b)
    b.messenger.reload()
    world.clock.advance(Timing().last_retry)
    world.run()
    assert [event.data for event in b.seen(LargeReceived)] == [data]


def fail_on_piece(world, a, b):
    for _ in range(10):
        for party, other in ((a, b), (b, a)):
            party.tick()
            for transmission in party.sendable():
                with other.database.transaction():
                    other.note(other.messenger.receive(transmission.topic, transmission.data))
                    _ = 1 / (2 - min(2, len(other.messenger.large._pieces.ids(b"i"))))
