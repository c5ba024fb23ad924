"""Cards, handshakes and messages of workers who hold the keys and lie inside what they seal."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from harness import Script, drawn, pieces, target

from quietfleet.crypto import PrivateKey
from quietfleet.crypto.hpke import HPKE_PUBLIC_SIZE, hpke_seal
from quietfleet.errors import CardRefused, HandshakeRefused, MessageRefused
from quietfleet.session import Card, LargeReceived, Mode, Packet, decode_card, encode_card
from quietfleet.session._card import LEAST_BLOOM_BITS, _digest_to_sign, draw_secrets
from quietfleet.session._codec import Ack, Goodbye, Ready, encode_body, encode_packet
from quietfleet.session._handshake import (
    Hello,
    Welcome,
    _hello_digest,
    _welcome_digest,
    make_hello,
    make_welcome,
    open_hello,
    open_welcome,
)
from quietfleet.session._large import CONCURRENT, INCOMING, WINDOW, Large
from quietfleet.session._large_wire import CHUNK, Chunk, Got, Have, Want, chunk_size, chunks_of, want, wanted
from quietfleet.session._timing import Timing
from quietfleet.storage import Database
from quietfleet.workers.messages import Readings, Recommendation, make_codec

NOW: Final = 1_700_000_000.0
DOMAIN: Final = b"a fleet"
KEYS: Final = [PrivateKey.from_bytes(bytes([number]) * 32) for number in (1, 2)]
OURS, THEIRS = (draw_secrets(key.public.id, key, 3, drawn(key.public.to_bytes()), 64) for key in KEYS)
CALL: Final = draw_secrets(KEYS[0].public.id, KEYS[0], 3, drawn(b"call"), 64).hpke
TRANSFER: Final = b"t" * 16


# cards


def _card_seeds() -> Iterator[bytes]:
    encoded = encode_card(OURS.card)
    for kind in (b"\x00", b"\x01"):
        yield kind + encoded
        yield kind + encode_card(msgspec.structs.replace(OURS.card, bloom=bytes(64)))
        yield kind + encode_card(msgspec.structs.replace(OURS.card, hpke_public=b""))
        yield kind + b"\x96\x01" + b"\xc4\x14" + bytes(20) + b"\xc4\x00" * 4
    yield b"\x00" + b"\x91" * 40
    yield b"\x00\x96\xff"


@target(_card_seeds, 1700)
def session_card(data: bytes) -> None:
    """Anything, and any card signed anew by the key it shows."""
    content = data[1:]
    if data[:1] and data[0] & 1:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            content = encode_card(_signed(msgspec.msgpack.decode(content, type=Card)))
    with suppress(CardRefused):
        card = decode_card(content)
        assert decode_card(encode_card(card)) == card
        assert card.worker.startswith("0x")
        assert card.credential.key == card.key
        assert len(card.contact_key) == len(card.digest) == 32
        assert len(card.hpke_public) == HPKE_PUBLIC_SIZE
        assert int.from_bytes(card.bloom).bit_count() >= LEAST_BLOOM_BITS


def _signed(card: Card) -> Card:
    shown = msgspec.structs.replace(card, public_key=KEYS[1].public.to_bytes())
    return msgspec.structs.replace(shown, signature=KEYS[1].sign(_digest_to_sign(shown)))


# packets and bodies

CODEC: Final = make_codec()
BODIES: Final = (
    Ready(),
    Ack(),
    Goodbye("reason"),
    Have(TRANSFER, bytes(32), 70_000, "model"),
    Want(TRANSFER, 1, b"\x05"),
    Chunk(TRANSFER, 0, b"data"),
    Got(TRANSFER, taken=True),
    Readings(4, [(NOW, {"temperature": 21.5})]),
    Recommendation(1, "water", 20.0, 0.9, 6.0, 2),
)
CAPABILITY: Final = {"name": "forecast", "version": 1, "request_schema": "readings", "reply_schema": "advice"}
TERMS: Final = {"capability": CAPABILITY, "attributes": {"region": "north", "load": 0.5}, "expires": NOW}
SEEK: Final = {
    "type": "dispatch.seek/1",
    "seek_id": "0" * 32,
    "capability": "forecast",
    "min_version": 1,
    "constraints": [
        {"type": "between", "attribute": "load", "low": 0.5},
        {"type": "equals", "attribute": "b", "value": "c"},
        {"type": "one-of", "attribute": "region", "values": ["north"]},
    ],
    "expires": NOW,
}
SPLICED: Final[list[dict[str, Any]]] = [
    SEEK,
    {"type": "dispatch.offer/1", "offer_id": "0" * 32, "capacity": 3, **TERMS},
    {"type": "dispatch.proposal/1", "deal_id": "0" * 32, "terms": TERMS, "initiator": True},
    {"type": "dispatch.introduction/1", "deal_id": "0" * 32, "card": b"card", "initiator": False},
    {"type": "upload/1", "device": "d", "site": "s", "rows": [[NOW, {"temperature": 21.5}]]},
    {"type": "drift-report/1", "release": 1, "drift": {"d": {"temperature": 20.0}}},
    {"type": "drift-verdict/1", "fleet": "drift", "devices": {"d": "world"}},
    {"type": "release-bundle/1", "sequence": 1, "manifest": b"{}", "artefact": b"onnx"},
    *(msgspec.msgpack.decode(encode_body(body)) for body in BODIES),
]


def _packet_seeds() -> Iterator[bytes]:
    yield from (b"\x01" + encode_body(body) for body in BODIES)
    yield b"\x00" + encode_packet(Packet(b"i" * 16, None, Mode.REQUEST, NOW, encode_body(Ready())))
    full = Packet(b"i" * 16, b"p" * 16, Mode.REPLY, NOW, b"body", b"c" * 16, b"a" * 16, (b"x" * 16,) * 16)
    yield b"\x00" + encode_packet(full)
    yield b"\x01" + msgspec.msgpack.encode({"type": "ready/1", "more": [[[1]], {"x": -1}]})
    yield b"\x01" + msgspec.msgpack.encode({"type": "readings/1", "first": 1, "rows": [[1e308, {"a": float("nan")}]]})
    yield b"\x01" + msgspec.msgpack.encode(SEEK)
    values = [0, -1, 2**64 - 1, 1.5, float("nan"), None, True, "text", b"bytes", [], {}, [[NOW, {"a": 1.0}]], {"a": {}}]
    encoded = [msgspec.msgpack.encode(value) for value in values]
    yield from (bytes([2, body, body + at]) + encoded[at] for body in range(len(SPLICED)) for at in range(0, 13, 3))
    yield b"\x00\x02" + b"\x91" * 600
    yield b"\x01" + b"\x81\xa4type" * 300


@target(_packet_seeds, 2048)
def session_packet(data: bytes) -> None:
    """Packets and bodies, and whole bodies in which one field was replaced by any value."""
    kind, content = (data[:1] or b"\0")[0] % 3, data[1:]
    with suppress(MessageRefused):
        if kind == 2:
            _check_body(CODEC.body(_spliced(Script(content))))
        elif kind == 1:
            _check_body(CODEC.body(content))
        else:
            packet = CODEC.packet(content)
            again = encode_packet(packet)
            assert encode_packet(CODEC.packet(again)) == again
            assert len(packet.thread) == 16
            CODEC.body(packet.body)


def _spliced(script: Script) -> bytes:
    fields = SPLICED[script.number(len(SPLICED))]
    names = list(fields)
    return msgspec.msgpack.encode(fields | {names[script.number(len(names))]: msgspec.Raw(script.rest())})


def _check_body(body: Any) -> None:
    """Encodings are compared, as a bound may be NaN, which equals nothing."""
    again = encode_body(body)
    assert encode_body(CODEC.body(again)) == again
    CODEC.only_answers(body)
    if isinstance(body, Want):
        indices = wanted(body, CHUNK * 300, WINDOW)
        assert indices == sorted(set(indices))
        assert not indices or wanted(want(body.transfer, indices), CHUNK * 300, WINDOW) == indices


# handshakes


def _make_hello() -> Hello:
    return make_hello(KEYS[1], THEIRS.card, OURS.card, "deal", NOW, bytes(48), DOMAIN, CALL.public_bytes)


HELLO: Final = _make_hello()
ASKED: Final = make_hello(KEYS[0], OURS.card, THEIRS.card, "deal", NOW, bytes(48), DOMAIN, CALL.public_bytes)
_CARDS: Final = {0: encode_card(THEIRS.card), 1: encode_card(OURS.card)}


def _hello_seeds() -> Iterator[bytes]:
    yield b"\x00" + msgspec.msgpack.encode(HELLO)
    yield b"\x01" + msgspec.msgpack.encode(HELLO)[:200]
    yield b"\x02" + bytes(1200)
    for at in (NOW, 0.0, float("nan"), float("inf")):
        yield b"\x03\x00" + msgspec.msgpack.encode([b"h" * 16, b"s" * 32, "deal", at])
    yield b"\x03\x01" + msgspec.msgpack.encode([b"h" * 16, b"s" * 32, "p" * 64, NOW])
    yield b"\x03\x02" + pieces(b"\x96")


@target(_hello_seeds, 2700)
def session_hello(data: bytes) -> None:
    """Anything sealed to our key; whole Hellos; and any fields signed as they should be."""
    script = Script(data)
    kind = script.number(4)
    if kind == 2:
        sealed = script.rest()
    else:
        inner = _hello_of(script) if kind == 3 else script.rest()
        sealed = hpke_seal(OURS.hpke.public_bytes, inner, b"quietfleet hello" + OURS.card.digest)
    with suppress(HandshakeRefused):
        hello, card = open_hello(OURS.hpke, OURS.card, sealed, NOW, DOMAIN)
        assert decode_card(hello.card) == card
        assert abs(hello.at - NOW) <= 120
        assert len(hello.share) == 32


def _hello_of(script: Script) -> bytes:
    """Compose a Hello of fields as msgpack tells them, of whatever types, and sign it."""
    card = _CARDS.get(script.number(4), b"no card")
    fields = _values(script.rest())
    hello_id, share, purpose, at = (*fields, None, None, None, None)[:4]
    values = {"hello_id": hello_id, "share": share, "purpose": purpose, "at": at}
    unsigned = msgspec.structs.replace(HELLO, card=card, signature=b"", **values)
    with suppress(TypeError, ValueError, OverflowError, RecursionError):
        digest = _hello_digest(unsigned, OURS.card, DOMAIN)
        return msgspec.msgpack.encode(msgspec.structs.replace(unsigned, signature=KEYS[1].sign(digest)))
    return b""


def _values(content: bytes) -> list[Any]:
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, ValueError, TypeError):
        value = msgspec.msgpack.decode(content)
        return value if isinstance(value, list) else [value]
    return []


def _welcome_seeds() -> Iterator[bytes]:
    welcome = make_welcome(KEYS[1], ASKED, THEIRS.card, b"w" * 32, DOMAIN)
    yield b"\x00" + msgspec.msgpack.encode(welcome)
    yield b"\x00" + b"\x93\xc4\x00"
    yield b"\x01" + bytes(1200)
    yield b"\x02" + bytes(1200)
    yield from (b"\x03" + msgspec.msgpack.encode([ASKED.hello_id, share]) for share in (b"w" * 32, b"", None))


@target(_welcome_seeds, 1400)
def session_welcome(data: bytes) -> None:
    script = Script(data)
    kind, info = script.number(4), b"quietfleet welcome"
    inner = _welcome_of(script.rest()) if kind == 3 else script.rest()
    if kind in (0, 3):
        inner = hpke_seal(CALL.public_bytes, inner, info + ASKED.hello_id)
    sealed = inner if kind == 1 else hpke_seal(OURS.hpke.public_bytes, inner, info + OURS.card.digest)
    with suppress(HandshakeRefused):
        welcome = open_welcome((OURS.hpke, CALL), OURS.card, sealed, ASKED, THEIRS.card, DOMAIN)
        assert len(welcome.share) == 32
        assert len(welcome.hello_id) == 16


def _welcome_of(content: bytes) -> bytes:
    hello_id, share = (*_values(content), None, None)[:2]
    with suppress(TypeError, ValueError, OverflowError, RecursionError):
        signature = KEYS[1].sign(_welcome_digest(ASKED, THEIRS.card, share, DOMAIN))
        return msgspec.msgpack.encode(Welcome(hello_id, share, signature))
    return b""


# large payloads

PEERS: Final = [key.public.id for key in KEYS]
_TABLES: Final = ("session_large_out", "session_large_in", "session_large_pieces")


@cache
def _database() -> tuple[tempfile.TemporaryDirectory[str], Database]:
    folder = tempfile.TemporaryDirectory(prefix="fuzz", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)  # noqa: S108
    database = Database(Path(folder.name) / "large.db")
    database.execute("PRAGMA synchronous=OFF")
    return folder, database


def _fresh() -> Large:
    database = _database()[1]
    large = Large(database, b"s" * 32, drawn(b"large"), Timing(), lambda _peer, kind, _size: kind != "refused")
    for table in _TABLES:
        database.execute(f"DELETE FROM {table}")  # noqa: S608 -- our own table names
    large.load()
    return large


def _large_seeds() -> Iterator[bytes]:
    yield bytes([0, 0, 40, 1, 2, 0, 40, 1])  # offered, then the one piece
    yield bytes([1, 0, 3, 1, 3, 0, 0, 3, 0, 1, 3, 0, 2])  # three pieces
    yield bytes([1, 0, 2, 2, 3, 0, 0, 3, 0, 1])  # another digest than promised
    yield bytes([4, 0, 3, 5, 0, 0, 255, 255, 6, 0, 1])  # ours, wanted, got
    yield bytes([0, 0, 9, 1, 7, 200, 7, 255, 7, 255, 0, 1, 9, 1])
    yield bytes([0, 0, 1, 1, 0, 0, 2, 1, 0, 0, 3, 1, 0, 1, 4, 1])
    yield bytes([8]) + pieces(encode_body(BODIES[3])) + bytes([8]) + pieces(encode_body(BODIES[5]))


@target(_large_seeds, 256)
def session_large(data: bytes) -> None:
    """Two peers offer, ask, send and confirm in any order, while time passes and we send as well."""
    large, script, now = _fresh(), Script(data), NOW
    for _ in range(40):
        if not script:
            break
        step, peer = script.number(9), PEERS[script.number(2)]
        if step == 7:
            now += script.number(256) * 5
            large.tick(now)
        elif step == 4:
            with suppress(MessageRefused):
                large.send(peer, "model", _content(script.number(4) * 20_000, 1), now + 900)
        else:
            for event in large.receive(peer, _said(step, script), now):
                if isinstance(event, LargeReceived):
                    assert hashlib.sha256(event.data).digest() == event.digest
        large.next(lambda _peer: True)
        _check_bounds(large)


def _said(step: int, script: Script) -> msgspec.Struct:
    """Return what a peer says; its transfers are named after their sizes, ours after how we draw."""
    if step == 8:
        with suppress(MessageRefused):
            return CODEC.body(script.piece())
        return Ready()
    if step in (3, 2):
        number = script.number(256)
        size, index = (3 * CHUNK - 9, script.number(4)) if step == 3 else (number + 1, 0)
        return Chunk(_name(size), index, _content(max(1, chunk_size(size, index)), 1))
    if step in (5, 6):
        ours = drawn(b"large")(16)
        return Want(ours, script.number(4), script.take(2) or b"\1") if step == 5 else Got(ours, bool(script.number(2)))
    number, truth = script.number(256), script.number(4)
    size = number + 1 if step == 0 else 3 * CHUNK - 9
    digest = hashlib.sha256(_content(size, 1)).digest() if truth != 2 else bytes(32)
    return Have(_name(size), digest, size, "refused" if truth == 3 else "model")


def _content(size: int, fill: int) -> bytes:
    return bytes([fill]) * size


def _name(size: int) -> bytes:
    return size.to_bytes(16)


def _check_bounds(large: Large) -> None:
    under_way = [one for one in large.incoming.values() if not one.over]
    assert len(under_way) <= INCOMING
    for each in (Counter(one.peer for one in under_way), Counter(one.peer for one in large.outgoing.values())):
        assert max(each.values(), default=0) <= CONCURRENT
    assert all(len(one.asked) <= WINDOW and len(one.came) <= chunks_of(one.have.size) for one in under_way)
    assert all(len(one.queue) <= WINDOW for one in large.outgoing.values())
