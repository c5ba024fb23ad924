"""Whatever arrives, a session ends in nothing worse than one typed error, and holds no more than it should."""

from __future__ import annotations

from collections import deque
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from rlpx_kit import SHH, STEM, open_pair, seeded

from quietfleet.crypto import PrivateKey
from quietfleet.devp2p import Failed, Hello, HelloReceived, MessageReceived, Profile, Reason, Session, State
from quietfleet.devp2p._codes import decode_code, encode_code
from quietfleet.devp2p._handshake import Recipient
from quietfleet.devp2p._hello import decode_disconnect, encode_disconnect
from quietfleet.devp2p._packets import MAX_PACKET, seal_packet
from quietfleet.devp2p._rlp import items, number, string
from quietfleet.devp2p._snappy import compress, decompress
from quietfleet.errors import FrameError

OURS, THEIRS = PrivateKey.from_bytes(b"\x01" * 32), PrivateKey.from_bytes(b"\x02" * 32)
HELLO = Hello(5, "client", (("shh", 6), ("stem", 1)), OURS.public.to_bytes())
PAYLOADS = [bytes([number]) * size for number, size in enumerate((0, 5, 300, 5000))]
ANY = st.binary(max_size=400)


def make_listener():
    return Session(Profile(THEIRS, (SHH, STEM)), None, seeded(2))


def record():
    """Return what a dialler sends to the listener of `make_listener`, from auth to good-bye."""
    dialler, listener = Session(Profile(OURS, (SHH, STEM)), THEIRS.public, seeded(1)), make_listener()
    stream = dialler.output()
    listener.feed(stream)
    dialler.feed(listener.output())
    for payload in PAYLOADS:
        dialler.send("shh", 1, payload)
    dialler.ping()
    dialler.close(Reason.QUITTING)
    return stream + dialler.output()


STREAM = record()


@st.composite
def mutated(draw, data):
    """Return `data` after a few cuts, insertions and changed bytes."""
    copy = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(copy)))
        kind = draw(st.sampled_from(["flip", "insert", "cut", "truncate"]))
        if kind == "flip" and at < len(copy):
            copy[at] ^= draw(st.integers(1, 255))
        elif kind == "insert":
            copy[at:at] = draw(st.binary(min_size=1, max_size=40))
        elif kind == "cut":
            del copy[at : at + draw(st.integers(1, 40))]
        else:
            del copy[at:]
    return bytes(copy)


@given(ANY | mutated(HELLO.encode()))
def test_hello__any_bytes__decoded_or_refused(data):
    with suppress(FrameError):
        hello = Hello.decode(data)
        assert Hello.decode(hello.encode()) == hello


@given(st.binary(max_size=100).flatmap(lambda data: mutated(compress(data * 9))) | ANY, st.integers(0, 500))
def test_decompress__any_bytes__never_gives_more_than_allowed(data, limit):
    with suppress(FrameError):
        assert len(decompress(memoryview(data), limit)) <= limit


@given(st.binary(max_size=3000))
def test_decompress__what_was_compressed__comes_back(data):
    assert decompress(memoryview(compress(data)), len(data)) == data


@given(ANY | mutated(encode_disconnect(Reason.SUBPROTOCOL_ERROR)))
def test_decode_disconnect__any_bytes__gives_a_reason_or_none(data):
    assert decode_disconnect(memoryview(data)) in {*Reason, None}


@given(st.binary(min_size=1, max_size=12))
def test_decode_code__any_bytes__canonical_or_refused(data):
    with suppress(FrameError):
        code, size = decode_code(memoryview(data))
        assert encode_code(code) == data[:size]


@given(ANY)
def test_rlp__any_bytes__read_or_refused(data):
    for read in (string, number, lambda item: list(items(item))):
        with suppress(FrameError):
            read(data)


@given(ANY)
def test_recipient__any_list_sealed_to_it__read_or_refused(text):
    packet = seal_packet(THEIRS.public, [text[:65], text[65:129], text[129:161], text[161:]], seeded(5))
    recipient = Recipient(THEIRS, seeded(6))
    with suppress(FrameError):
        recipient.feed(packet)


@settings(max_examples=200)
@given(mutated(STREAM) | st.binary(max_size=3000), st.integers(1, 4000))
def test_session__mutated_stream_in_any_pieces__fails_once_and_holds_little(stream, size):
    session, events = make_listener(), []
    for at in range(0, len(stream), size):
        events += session.feed(stream[at : at + size])
        assert session.held <= MAX_PACKET + 48
    failures = [event for event in events if isinstance(event, Failed)]
    assert len(failures) <= 1
    assert failures in ([], events[-1:])
    assert (session.state is State.CLOSED) or not failures
    heard = [event.payload for event in events if isinstance(event, MessageReceived)]
    assert heard == PAYLOADS[: len(heard)]


@given(st.lists(ANY.filter(len), min_size=1, max_size=6), st.booleans())
def test_session__anything_by_a_peer_that_holds_the_keys__fails_once_at_most(contents, greeted):
    dialler, listener = Session(Profile(OURS, (SHH, STEM)), THEIRS.public, seeded(1)), make_listener()
    listener.feed(dialler.output())
    dialler.feed(listener.output())
    if greeted:
        assert isinstance(listener.feed(dialler.output())[0], HelloReceived)
    else:
        dialler.output()
    events = [event for content in contents for event in listener.feed(dialler._writer.seal(content))]
    assert [event for event in events if isinstance(event, Failed)] in ([], events[-1:])


class Wire(RuleBasedStateMachine):
    """Two sessions against queues: what one side sends the other hears, whole, in order, however it is cut."""

    def __init__(self):
        super().__init__()
        self.sides = open_pair()
        self.wires = (bytearray(), bytearray())
        self.expected = (deque(), deque())

    @rule(side=st.integers(0, 1), capability=st.sampled_from([SHH, STEM]), code=st.integers(0, 15), payload=ANY)
    def send(self, side, capability, code, payload):
        if self.sides[side].state is State.OPEN:
            self.sides[side].send(capability.name, code, payload)
            self.expected[side].append(MessageReceived(capability.name, code, payload))

    @rule(side=st.integers(0, 1))
    def ping(self, side):
        self.sides[side].ping()

    @precondition(lambda self: all(side.state is State.OPEN for side in self.sides))
    @rule(side=st.integers(0, 1))
    def close(self, side):
        self.sides[side].close(Reason.QUITTING)

    @rule(side=st.integers(0, 1), size=st.integers(1, 700))
    def deliver(self, side, size):
        wire = self.wires[side]
        wire += self.sides[side].output()
        for event in self.sides[1 - side].feed(bytes(wire[:size])):
            assert not isinstance(event, Failed)
            if isinstance(event, MessageReceived):
                assert event == self.expected[side].popleft()
        del wire[:size]

    @invariant()
    def holds_little(self):
        assert all(side.held <= 1000 for side in self.sides)

    def teardown(self):
        if all(side.state is State.OPEN for side in self.sides):
            for side in (0, 1):
                self.deliver(side, 1 << 24)
                assert not self.expected[side]


TestWire = Wire.TestCase
