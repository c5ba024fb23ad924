"""Two sessions on one wire, and what each makes of a peer that does not keep to the book."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import rlp
from rlpx_kit import SHH, STEM, exchange, open_pair, seeded

from quietfleet.crypto import PrivateKey, ecies_seal
from quietfleet.devp2p import (
    MOVES,
    Capability,
    Disconnected,
    Failed,
    Hello,
    HelloReceived,
    MessageReceived,
    Profile,
    Reason,
    Session,
    State,
)
from quietfleet.devp2p._codes import encode_code
from quietfleet.devp2p._frames import MAX_FRAME, FrameReader, FrameWriter
from quietfleet.devp2p._handshake import Initiator
from quietfleet.devp2p._hello import encode_disconnect
from quietfleet.devp2p._packets import Auth
from quietfleet.devp2p._secrets import xor
from quietfleet.devp2p._snappy import compress
from quietfleet.errors import CryptoError, FrameError, LinkError

PROTOCOL = Path(__file__).parents[3] / "docs/protocol.md"
OURS, THEIRS = PrivateKey.from_bytes(b"\x01" * 32), PrivateKey.from_bytes(b"\x02" * 32)
MINIMAL = Hello(5, "", (("shh", 6),), OURS.public.to_bytes())


class ByHand:
    """A dialler that shakes hands properly and then sends what the test writes."""

    def __init__(self, listener, key=OURS):
        initiator = Initiator(key, THEIRS.public, seeded(3))
        assert listener.feed(initiator.auth) == []
        shaken = initiator.feed(listener.output())
        self.greeting = shaken.rest
        self.writer = FrameWriter(shaken.secrets)
        self.listener = listener

    def send(self, code, payload):
        """Send a frame as it stands; return the events."""
        return self.listener.feed(self.writer.seal(encode_code(code) + payload))

    def greet(self, hello=MINIMAL):
        return self.send(0, hello.encode())


@pytest.fixture
def listener():
    return Session(Profile(THEIRS, (SHH, STEM)), None, seeded(2))


@pytest.fixture
def by_hand(listener):
    return ByHand(listener)


def cause(events):
    """Return why it failed, and that it did so once and last."""
    assert [isinstance(event, Failed) for event in events] == [False] * (len(events) - 1) + [True]
    return events[-1].error.cause


def test_hellos__both_sides__open_with_what_they_share():
    one, other = (
        Session(Profile(key, caps), dialled)
        for key, caps, dialled in (
            (OURS, (SHH, STEM), THEIRS.public),
            (THEIRS, (STEM, SHH, Capability("new", 1, 8)), None),
        )
    )
    heard = exchange(one, other)
    for events, session, peer in zip(heard, (one, other), (THEIRS, OURS), strict=True):
        (event,) = events
        assert event.shared == {"shh", "stem"}
        assert (session.state, session.peer) == (State.OPEN, peer.public.to_bytes())


@pytest.mark.parametrize("size", [0, 1, 14, 15, 16, 4096, 3 << 20])
def test_send__any_size_both_ways__arrives(size):
    dialler, listener = open_pair()
    for capability, code in (("shh", 1), ("stem", 0), ("stem", 15), ("shh", 127)):
        dialler.send(capability, code, bytes(size))
        listener.send(capability, code, bytes(range(256)) * (size // 256))
        heard = exchange(dialler, listener)
        assert heard[1] == [MessageReceived(capability, code, bytes(size))]
        assert heard[0] == [MessageReceived(capability, code, bytes(range(256)) * (size // 256))]


@pytest.mark.parametrize(
    ("capability", "code", "payload"),
    [("shh", 128, b""), ("shh", -1, b""), ("eth", 0, b""), ("stem", 16, b""), ("shh", 1, bytes(MAX_FRAME + 1))],
    ids=["code beyond", "negative code", "not shared", "last code and one", "too large"],
)
def test_send__what_the_link_cannot_carry__refused_and_the_link_lives(capability, code, payload):
    dialler, listener = open_pair()
    with pytest.raises(FrameError):
        dialler.send(capability, code, payload)
    dialler.send("shh", 0, b"next")
    assert exchange(dialler, listener)[1] == [MessageReceived("shh", 0, b"next")]


def test_send__capability_the_peer_lacks__refused():
    dialler, _ = open_pair(theirs=(SHH,))
    with pytest.raises(FrameError):
        dialler.send("stem", 0, b"")


def test_send__before_the_hello_and_after_the_end__refused(listener):
    with pytest.raises(LinkError):
        listener.send("shh", 0, b"")
    dialler, other = open_pair()
    dialler.close(Reason.QUITTING)
    with pytest.raises(LinkError):
        dialler.send("shh", 0, b"")
    assert exchange(dialler, other)[1] == [Disconnected(Reason.QUITTING)]


def test_message__right_behind_the_hello__heard(by_hand, listener):
    greeting = by_hand.writer.seal(encode_code(0) + MINIMAL.encode())
    status = by_hand.writer.seal(encode_code(16) + compress(b"\xc1\x06"))
    assert listener.feed(greeting + status)[1] == MessageReceived("shh", 0, b"\xc1\x06")


def test_ping__many_unread__one_pong_is_kept(by_hand, listener):
    by_hand.greet()
    listener.output()
    for _ in range(100):
        assert by_hand.send(2, compress(b"\xc0")) == []
    assert len(listener.output()) == 64
    by_hand.send(2, compress(b"\xc0"))
    assert len(listener.output()) == 64
    assert listener.upkeep == 101


@pytest.mark.parametrize("code", [0, 2, 3, 4, 15])
def test_base_codes__any_once_open__ignored(by_hand, listener, code):
    by_hand.greet()
    assert by_hand.send(code, b"\xff\xff") == []
    assert listener.state is State.OPEN


@pytest.mark.parametrize("code", [2, 3, 4, 16, 200])
def test_codes__before_the_hello__end_the_session_in_silence(by_hand, listener, code):
    assert cause(by_hand.send(code, compress(b"\xc0"))) == "bad_order"
    assert listener.output() == b""


@pytest.mark.parametrize("code", [16 + 128, 16 + 144, 256, 2**63])
def test_codes__beyond_what_is_shared__end_the_session_in_silence(by_hand, listener, code):
    by_hand.greet()
    listener.output()
    assert cause(by_hand.send(code, compress(b"\xc0"))) == "bad_code"
    assert listener.output() == b""


def test_codes__written_wrongly__end_the_session(by_hand, listener):
    by_hand.greet()
    assert cause(listener.feed(by_hand.writer.seal(b"\x81\x10\x01\0\xc0"))) == "bad_code"


@pytest.mark.parametrize("payload", [b"\xc1\x04", compress(b"\xc1\x04")])
@pytest.mark.parametrize("greet", [False, True])
def test_disconnect__compressed_or_not__understood(by_hand, listener, payload, greet):
    if greet:
        by_hand.greet()
    listener.output()
    assert by_hand.send(1, payload) == [Disconnected(Reason.TOO_MANY_PEERS)]
    assert listener.state is State.CLOSED
    assert listener.output() == b""


@pytest.mark.parametrize("payload", [b"", b"\x04", b"\xc1\x63", b"\xc2", b"\xff" * 900])
def test_disconnect__without_a_reason_we_know__is_one_nevertheless(by_hand, payload):
    assert by_hand.send(1, payload) == [Disconnected(None)]


@pytest.mark.parametrize("version", [5, 6, 99])
def test_hello__later_version_and_more_items__taken(by_hand, listener, version):
    fields = [
        version,
        b"client",
        [[b"shh", 6], [b"zzz", 1, b"more"], [b"\xff\xfe", 3]],
        1,
        OURS.public.to_bytes(),
        [[]],
    ]
    (event,) = by_hand.send(0, bytes(rlp.encode(fields)))
    assert isinstance(event, HelloReceived)
    assert by_hand.send(16, compress(b"\xc0")) == [MessageReceived("shh", 0, b"\xc0")]


@pytest.mark.parametrize("version", [3, 4])
def test_hello__version_before_snappy__nothing_is_compressed(by_hand, listener, version):
    by_hand.greet(Hello(version, "", (("shh", 6),), OURS.public.to_bytes()))
    assert by_hand.send(17, b"\xc0") == [MessageReceived("shh", 1, b"\xc0")]


@pytest.mark.parametrize(
    ("hello", "expected"),
    [
        (Hello(5, "", (("shh", 6),), bytes(64)), "invalid_identity"),
        (Hello(5, "", (("shh", 6),), b"\x01" * 63), "invalid_identity"),
        (Hello(5, "", (("shh", 6),), THEIRS.public.to_bytes()), "unexpected_identity"),
        (Hello(5, "", (("shh", 5), ("eth", 64)), OURS.public.to_bytes()), "useless_peer"),
        (Hello(5, "", (), OURS.public.to_bytes()), "useless_peer"),
    ],
)
def test_hello__one_we_cannot_work_with__told_why(by_hand, listener, hello, expected):
    listener.output()
    assert cause(by_hand.greet(hello)) == expected
    assert listener.output() != b""
    assert listener.state is State.CLOSED


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc0",
        b"\x80",
        b"\xf8",
        b"\xc1" * 2000,
        bytes(rlp.encode([5, b"", [], 0])),
        bytes(rlp.encode([5, b"", b"caps", 0, OURS.public.to_bytes()])),
        bytes(rlp.encode([5, b"", [[b"shh"]], 0, OURS.public.to_bytes()])),
        bytes(rlp.encode([2**64, b"", [], 0, OURS.public.to_bytes()])),
        bytes(rlp.encode([b"\0", b"", [], 0, OURS.public.to_bytes()])),
        bytes(rlp.encode([[], b"", [], 0, OURS.public.to_bytes()])),
    ],
)
def test_hello__malformed__ends_the_session_in_silence(by_hand, listener, payload):
    listener.output()
    assert cause(by_hand.send(0, payload)) in {"bad_hello", "bad_rlp"}
    assert listener.output() == b""


def test_hello__of_ourselves__told_so(listener):
    initiator = Initiator(THEIRS, THEIRS.public, seeded(3))
    assert cause(listener.feed(initiator.auth)) == "self"
    shaken = initiator.feed(listener.output())
    reader = FrameReader(shaken.secrets, MAX_FRAME)
    reader.feed(shaken.rest)
    assert reader.next() == b"\x01" + encode_disconnect(Reason.CONNECTED_TO_SELF)


def test_hello__larger_than_2048_bytes__refused_by_its_header(by_hand, listener):
    frame = by_hand.writer.seal(b"\x80" + bytes(2049))
    assert cause(listener.feed(frame[:32])) == "bad_size"


def test_dialler__listener_holds_another_key__fails_at_the_ack():
    dialler = Session(Profile(OURS, (SHH,)), PrivateKey.generate().public)
    listener = Session(Profile(THEIRS, (SHH,)))
    heard = exchange(dialler, listener)
    assert (heard[0], cause(heard[1])) == ([], "bad_handshake")


@pytest.mark.parametrize("offset", [0, 15, 16, 31, 32, 47, 48, 63])
def test_frame__one_bit_wrong__ends_the_session_in_silence(offset):
    dialler, listener = open_pair()
    dialler.send("shh", 1, b"\xc0")
    frame = bytearray(dialler.output())
    frame[offset] ^= 1
    assert cause(listener.feed(bytes(frame))) == "bad_mac"
    assert (listener.feed(b"more"), listener.output(), listener.held) == ([], b"", 0)


def test_frame__recorded_and_sent_again__ends_the_session():
    dialler, listener = open_pair()
    dialler.send("shh", 1, b"\xc0")
    frame = dialler.output()
    assert cause(listener.feed(frame + frame)) == "bad_mac"


def test_frame__empty__ends_the_session(by_hand, listener):
    by_hand.greet()
    header = by_hand.writer._encrypt(bytes(3) + b"\xc2\x80\x80" + bytes(10))
    assert cause(listener.feed(header + by_hand.writer._mac.of_header(header))) == "bad_size"


def test_frame__sixteen_mebibytes_less_one__taken():
    dialler, listener = open_pair()
    block = bytes(MAX_FRAME)
    dialler.send("shh", 1, block)
    assert exchange(dialler, listener)[1] == [MessageReceived("shh", 1, block)]


@pytest.mark.parametrize(
    "block",
    [
        b"\xff\xff\xff\x07",  # 16 MiB less one, of nothing
        b"\x80\x80\x80\x08" + b"\xfe\x01\0" * 270_000,  # 16 MiB of copies, and so long that it could be
        b"\x80\x80\x80\x80\x10" + bytes(100),  # 4 GiB
        b"\x80" * 10,
    ],
    ids=["nothing inside", "copies", "4 GiB", "no end"],
)
def test_message__snappy_bomb__refused_before_it_is_unpacked(by_hand, monkeypatch, block):
    by_hand.greet()
    unpacked = []
    monkeypatch.setattr("quietfleet.devp2p._snappy.snappy.decompress_raw", unpacked.append)
    assert cause(by_hand.send(17, block)) == "bad_snappy"
    assert unpacked == []


@pytest.mark.parametrize("block", [b"", b"\x05\x10abc", b"\x04\x01\x09", b"\x01", b"\x02\x04\xc1"])
def test_message__snappy_that_does_not_add_up__ends_the_session(by_hand, block):
    by_hand.greet()
    assert cause(by_hand.send(17, block)) == "bad_snappy"


def test_message__larger_than_we_take__refused_compressed_or_not():
    for version in (4, 5):
        listener = Session(Profile(THEIRS, (SHH,), max_payload=1000), None, seeded(2))
        hand = ByHand(listener)
        hand.greet(Hello(version, "", (("shh", 6),), OURS.public.to_bytes()))
        pack = compress if version == 5 else bytes
        assert hand.send(17, pack(bytes(1000))) == [MessageReceived("shh", 1, bytes(1000))]
        assert cause(hand.send(17, pack(bytes(1001)))) in {"bad_snappy", "bad_size"}


def old_auth(static=None, signature=None):
    """Return an auth in the format before EIP-8."""
    ephemeral, nonce = PrivateKey.from_bytes(b"\x09" * 32), b"\x0a" * 32
    sign = ephemeral.sign(xor(OURS.ecdh(THEIRS.public), nonce))
    fields = (signature or sign) + bytes(32) + (static or OURS.public.to_bytes()) + nonce + b"\0"
    return ephemeral, nonce, ecies_seal(THEIRS.public, fields, seeded(4))


def test_auth__old_format_in_small_pieces__answered_in_the_old_format(listener):
    _, _, packet = old_auth()
    for at in range(0, Auth.OLD_SIZE, 50):
        assert listener.feed(packet[at : at + 50]) == []
    assert listener.state is State.AWAITING_HELLO
    assert listener.peer == OURS.public.to_bytes()
    assert listener.output()[:1] == b"\x04"


@pytest.mark.parametrize(
    "flaw", [{"static": b"\x01" * 64}, {"static": bytes(64)}, {"signature": bytes(65)}, {"signature": b"\xff" * 65}]
)
def test_auth__point_off_the_curve_or_no_signature__refused_in_silence(listener, flaw):
    assert cause(listener.feed(old_auth(**flaw)[2])) == "bad_handshake"
    assert listener.output() == b""


@pytest.mark.parametrize(
    "packet",
    [
        b"\x04" + bytes(2000),
        b"\x01\x80\x04" + b"\x01" * 0x180,
        b"\x01\x80\x04" + bytes(0x180),
        b"\xff\xff",
        b"\x07\xff",
        bytes(2),
        b"GET / HTTP/1.1\r\n\r\n" * 200,
        b"\x16\x03\x01" + bytes(3000),
    ],
    ids=["old", "eip8", "zero point", "64 KiB", "too large by one", "empty", "http", "tls"],
)
def test_auth__no_handshake__refused_in_silence(listener, packet):
    assert cause(listener.feed(packet)) == "bad_handshake"
    assert listener.output() == b""


def test_auth__byte_by_byte_beginning_like_the_old_format__opened_twice_at_most(listener, monkeypatch):
    opened = []
    monkeypatch.setattr("quietfleet.devp2p._packets.ecies_open", lambda *_, **__: opened.append(1) or _refuse())
    stream = b"\x04\xf0" + bytes(1500)
    for at in range(len(stream)):
        listener.feed(stream[at : at + 1])
    assert len(opened) == 2


def _refuse():
    raise CryptoError


def test_close__before_the_handshake__says_nothing(listener):
    listener.close(Reason.REQUESTED)
    assert (listener.state, listener.output()) == (State.CLOSED, b"")


def test_close__between_handshake_and_hello__is_not_compressed(by_hand, listener):
    listener.output()
    listener.close(Reason.TOO_MANY_PEERS)
    listener.close(Reason.QUITTING)
    assert len(listener.output()) == 64
    assert listener.state is State.CLOSED


def test_drawing__in_the_protocol__is_the_table():
    drawn = set(re.findall(r"^  (\w+) --> (\w+) : (\w+)$", PROTOCOL.read_text(), re.MULTILINE))
    table = {(state, after, step) for state, moves in MOVES.items() for step, after in moves.items()}
    assert drawn == table
