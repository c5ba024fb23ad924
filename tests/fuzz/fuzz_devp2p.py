"""RLPx: what a stranger sends before it proved anything, and what one sends who did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import rlp
from harness import Script, drawn, pieces, target

from quietfleet.crypto import PrivateKey, ecies_open, ecies_seal
from quietfleet.devp2p import Capability, Event, Failed, Hello, MessageReceived, Profile, Reason, Session, State
from quietfleet.devp2p._codes import decode_code, encode_code
from quietfleet.devp2p._frames import FrameWriter
from quietfleet.devp2p._handshake import Initiator, Shaken
from quietfleet.devp2p._hello import decode_disconnect, encode_disconnect
from quietfleet.devp2p._machine import Step
from quietfleet.devp2p._packets import MAX_PACKET, seal_packet
from quietfleet.devp2p._secrets import Agreed, Secrets
from quietfleet.devp2p._snappy import compress, decompress
from quietfleet.errors import FrameError

VECTORS: Final = json.loads((Path(__file__).parents[1] / "offchain/vectors/rlpx.json").read_text())
OURS, THEIRS, CALL = (PrivateKey.from_bytes(bytes([number]) * 32) for number in (1, 2, 3))
CAPABILITIES: Final = (Capability("shh", 6, 128), Capability("stem", 1, 16))
LIMIT: Final = 4096  # bytes of a payload
PROFILE: Final = Profile(OURS, CAPABILITIES, max_payload=LIMIT)
HELLO: Final = Profile(THEIRS, CAPABILITIES, "client").hello()
AGREED: Final = Agreed(b"auth", b"ack", b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
SIZES: Final = {capability.name: capability.length for capability in CAPABILITIES}


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def check(session: Session, events: list[Event]) -> None:
    """Hold what a session told against its promises: one failure at most and last, and little held in memory."""
    failures = [event for event in events if isinstance(event, Failed)]
    assert failures in ([], events[-1:])
    assert not failures or session.state is State.CLOSED
    assert session.held <= max(PROFILE.max_hello, LIMIT + LIMIT // 6 + 41) + 48
    for event in events:
        if isinstance(event, MessageReceived):
            assert len(event.payload) <= LIMIT
            assert 0 <= event.code < SIZES[event.capability]


# the handshake


def _auth() -> list[bytes]:
    """Return the fields of an auth that our listener takes, by the draws of `drawn(b"auth")`."""
    signed = Initiator(THEIRS, OURS.public, drawn(b"auth")).auth
    size = int.from_bytes(signed[:2])
    text = ecies_open(OURS, signed[2 : 2 + size], authenticated=signed[:2])
    return [bytes(field) for field in rlp.decode(text, strict=False)[:3]]


AUTH: Final = _auth()
PACKETS: Final = ((b"\x00", "auth_packet"), (b"\x03", "ack_packet"))
ACK: Final = [CALL.public.to_bytes(), b"\x05" * 32]


def _handshake_seeds() -> Iterator[bytes]:
    signed = Initiator(THEIRS, OURS.public, drawn(b"auth")).auth
    yield b"\x00" + signed
    yield b"\x01" + bytes(rlp.encode([*AUTH, 4])) + bytes(100)
    yield b"\x01" + bytes(rlp.encode([*AUTH, 57, [b"more", [b"nested"]]]))
    yield b"\x02" + AUTH[0] + bytes(32) + AUTH[1] + AUTH[2] + b"\0"
    yield b"\x03" + seal_packet(THEIRS.public, ACK, drawn())
    yield b"\x04" + bytes(rlp.encode([*ACK, 4])) + bytes(100)
    yield b"\x05" + ACK[0] + ACK[1] + b"\0"
    yield from (kind + raw(session[name]) for session in VECTORS["sessions"] for kind, name in PACKETS)


@target(_handshake_seeds, MAX_PACKET + 64)
def devp2p_handshake(data: bytes) -> None:
    """Raw, or sealed to us in either format, so that what is inside an auth or ack is read too."""
    mode, body = data[:1], data[1:]
    kind = mode[0] % 6 if mode else 0
    dialling = kind > 2
    session = Session(PROFILE, THEIRS.public if dialling else None, drawn(b"session"))
    session.output()
    draw = drawn(b"seal")
    if kind in (1, 4):
        size = (len(body) + 113).to_bytes(2)
        body = size + ecies_seal(OURS.public, body, draw, authenticated=size)
    elif kind in (2, 5):
        body = ecies_seal(OURS.public, body, draw)
    events = [event for at in range(0, len(body), 700) for event in session.feed(body[at : at + 700])]
    check(session, events)
    if events and session._writer is None:
        assert session.output() == b""


# after the handshake


def _opened(*, greeted: bool, snappy: bool) -> tuple[Session, FrameWriter]:
    """Return our session as a handshake leaves it and the peer's end of it, without doing the curve's arithmetic."""
    session = Session(PROFILE, None, drawn())
    session._shaking = None
    session._move(Step.AUTH)
    session._begin(Shaken(THEIRS.public, Secrets.derive(AGREED, initiator=False), b"", b""))
    writer = FrameWriter(Secrets.derive(AGREED, initiator=True))
    if greeted:
        version = 5 if snappy else 4
        hello = Hello(version, "client", HELLO.capabilities, HELLO.node_id)
        events = session.feed(writer.seal(b"\x80" + hello.encode()))
        assert session.state is State.OPEN, events
        session.output()
    return session, writer


def _frames_seeds() -> Iterator[bytes]:
    hello, bye = b"\x80" + HELLO.encode(), b"\x01" + encode_disconnect(Reason.QUITTING)
    yield b"\x00" + pieces(hello, b"\x11" + compress(b"payload" * 9), b"\x02\xc0", b"\x03\xc0", bye)
    yield b"\x01" + pieces(b"\x10" + compress(b"status"), b"\x81\x90" + compress(b"packet"), bye)
    yield b"\x03" + pieces(b"\x10status", b"\x81\x90packet", b"\x02\xc0", hello)
    yield b"\x05" + pieces(b"\x10" + compress(bytes(LIMIT + 1)))
    yield b"\x09" + pieces(b"\x11cut off")
    yield b"\x10" + bytes(64)


@target(_frames_seeds, 8192)
def devp2p_frames(data: bytes) -> None:
    """Frames with correct MACs around anything, in any pieces, some bytes of them altered."""
    script = Script(data)
    flags = script.number(256)
    session, writer = _opened(greeted=bool(flags & 1), snappy=not flags & 2)
    if flags & 16:
        stream = bytearray(script.rest())
    else:
        contents = [part[:0xFFFF] for part in script.pieces() if part]
        stream = bytearray().join(writer.seal(content) for content in contents)
    if flags & 8 and stream:
        stream[len(data) * 31 % len(stream)] ^= 1 + flags % 255
    step = (flags >> 5) * 97 + 1 if flags & 4 else len(stream) + 1
    events = [event for at in range(0, len(stream), step) for event in session.feed(bytes(stream[at : at + step]))]
    check(session, events)
    assert len(session.output()) <= 2048 + 48 * (len(stream) // max(step, 1) + 1)


def _hello_seeds() -> Iterator[bytes]:
    yield HELLO.encode()
    yield Hello(4, "Geth/v1.9.25-stable", (("eth", 64), ("shh", 6)), OURS.public.to_bytes()).encode()
    yield bytes(rlp.encode([22, b"EthereumJS", [[b"eth", 61, b"more"]], 30303, bytes(64), b"additional", [b"list"]]))
    yield from (encode_disconnect(reason) for reason in Reason)
    yield compress(encode_disconnect(Reason.QUITTING))


@target(_hello_seeds)
def devp2p_hello(data: bytes) -> None:
    with suppress(FrameError):
        hello = Hello.decode(data)
        again = Hello.decode(hello.encode())
        assert (again.version, again.capabilities, again.node_id) == (hello.version, hello.capabilities, hello.node_id)
        assert again.client == hello.client
    assert decode_disconnect(memoryview(data)) in {*Reason, None}
    if data:
        with suppress(FrameError):
            code, size = decode_code(memoryview(data))
            assert encode_code(code) == data[:size]


def _snappy_seeds() -> Iterator[bytes]:
    yield from (
        b"\x00\xff" + compress(content) for content in (b"", b"a", bytes(3000), b"whisper-" * 200, HELLO.encode())
    )
    yield b"\x10\x00\xff\xff\xff\xff\x0f" + bytes(20)
    yield b"\x10\x00\x80\x80\x80\x80\x80\x80"


@target(_snappy_seeds, 2048)
def devp2p_snappy(data: bytes) -> None:
    limit, block = int.from_bytes(data[:2]), data[2:]
    with suppress(FrameError):
        content = decompress(memoryview(block), limit)
        assert len(content) <= limit
        assert decompress(memoryview(compress(content)), limit) == content
    assert decompress(memoryview(compress(data)), len(data)) == data
