"""A worker with an open session who lies: any packets, correctly sealed one after another, to a real messenger."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from harness import Script, drawn, pieces, target

from quietfleet.crypto import seal
from quietfleet.session import Mode, Packet, State
from quietfleet.session._codec import Ack, Goodbye, Ready, encode_body, encode_packet
from quietfleet.session._large_wire import Chunk, Got, Have, Want
from quietfleet.session._ratchet import MessageKey
from quietfleet.whisper.payload import write_plaintext

sys.path.insert(0, str(Path(__file__).parents[1] / "offchain/session"))

from session_world import Answer, Other, Party, Question, World

IDS: Final = [None, *(bytes([number]) * 16 for number in range(1, 8))]
PACKETS: Final = 12
TRANSFER: Final = b"t" * 16
BODIES: Final = [
    encode_body(body)
    for body in (
        Question("what"),
        Answer("that"),
        Other("so"),
        Ready(),
        Ack(),
        Goodbye("enough"),
        Have(TRANSFER, bytes(32), 9, "model"),
        Want(TRANSFER, 0, b"\1"),
        Chunk(TRANSFER, 0, bytes(9)),
        Got(TRANSFER, taken=True),
    )
] + [b"", b"no body"]


class _Undone(Exception):
    """Everything an input did is taken back."""


@cache
def _world() -> tuple[tempfile.TemporaryDirectory[str], World, Party, list[MessageKey]]:
    """Return two parties in a session, the one under fire, and the keys that the other's next messages come under."""
    folder = tempfile.TemporaryDirectory(prefix="fuzz", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)  # noqa: S108
    world = World(Path(folder.name))
    liar, victim = world.party("liar"), world.party("victim")
    world.rotate(grace=30)
    card = victim.messenger.own_card()
    assert card is not None
    liar.messenger.connect(card, "deal")
    for _ in range(6):
        for sender, receiver in ((liar, victim), (victim, liar)):
            sender.tick()
            for transmission in sender.sendable():
                receiver.take(transmission)
    assert victim.messenger.state(liar.id) is State.OPEN
    victim.messenger.request(liar.id, Question("ours"), (Answer,), 500.0, "")
    session = liar.messenger.session(victim.id)
    assert session is not None
    keys = [liar.messenger.table.next_key(session, 1) for _ in range(PACKETS)]
    return folder, world, victim, keys


def _step(
    own: int, parent: int = 0, mode: int = 1, body: int = 0, after: int = 0, passed: tuple[int, ...] = ()
) -> bytes:
    """Write what makes `_lie` send one packet; conversations begin with the message after which it comes."""
    return bytes([1, own, parent, mode, 90, body, after, after, len(passed), *passed])


def _seeds() -> Iterator[bytes]:
    ready = Packet(IDS[1] or b"", None, Mode.REPLY, 0.0, BODIES[3])
    yield b"\x00" + pieces(encode_packet(ready))
    yield _step(1)
    yield _step(1) + _step(1)  # repeated
    yield _step(2, after=1) + _step(1)  # the second before the first
    yield _step(3, after=2) + _step(4, after=3, passed=(1, 2)) + _step(1)  # some given up
    yield _step(1, body=5) + _step(2)  # good-bye, and more
    yield from (_step(1, body=body) for body in range(1, len(BODIES)))
    yield _step(1, parent=8, mode=0, body=1)  # an answer to ours
    yield b"\x02\x32" + _step(1)[1:] + b"\x02\xc8" + _step(1)[1:]
    yield b"\x03" + pieces(b"\xff" * 40)


@target(_seeds, 256)
def session_messenger(data: bytes) -> None:
    _, world, victim, keys = _world()
    began = world.clock.now()
    with suppress(_Undone), victim.database.transaction():
        _lie(Script(data), world, victim, keys)
        raise _Undone
    victim.events.clear()
    world.clock.advance(began - world.clock.now())
    victim.messenger.reload()


def _lie(script: Script, world: World, victim: Party, keys: list[MessageKey]) -> None:
    asked = next(iter(victim.messenger.conversations.pending))
    for key in keys:
        if not script:
            break
        kind = script.number(4)
        if kind == 2:
            world.clock.advance(script.number(256))
            victim.tick()
        payload = script.piece() if kind in (0, 3) else encode_packet(_packet(script, asked, world.clock.now()))
        plaintext = payload if kind == 3 else write_plaintext(payload, random=bytes)
        victim.note(victim.messenger.receive(key.topic, seal(key.key, plaintext, random=drawn(key.topic))))
        victim.sendable()


def _packet(script: Script, asked: bytes, now: float) -> Packet:
    own, parent = IDS[script.number(8)] or bytes(16), script.number(9)
    mode, by, body = Mode(script.number(3)), now + script.number(256) * 3 - 60, BODIES[script.number(len(BODIES))]
    conversation, after = IDS[script.number(8)], IDS[script.number(8)]
    passed = tuple(IDS[1 + script.number(7)] or b"" for _ in range(script.number(4)))
    return Packet(own, asked if parent == 8 else IDS[parent], mode, by, body, conversation, after, passed)
