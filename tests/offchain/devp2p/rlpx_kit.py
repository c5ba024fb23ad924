"""What the tests of devp2p share: go-ethereum's vectors, scripted randomness, two sessions on one wire."""

from __future__ import annotations

import json
import random
from pathlib import Path

import rlp

from quietfleet.crypto import PrivateKey, PublicKey
from quietfleet.devp2p import Capability, Profile, Session

SHH = Capability("shh", 6, 128)
STEM = Capability("stem", 1, 16)
VECTORS = json.loads((Path(__file__).parents[1] / "vectors/rlpx.json").read_text())
SESSIONS = VECTORS["sessions"]
FRAMES = [(session, frame) for session in SESSIONS for frame in session["frames"]]


def raw(text):
    return bytes.fromhex(text)


def key(text):
    return PrivateKey.from_bytes(raw(text))


def public(text):
    return PublicKey.from_bytes(raw(text))


def wire(frame):
    """Return a vector's frame as it went over the wire."""
    return raw(frame["header"] + frame["header_mac"] + frame["body"] + frame["frame_mac"])


def payload(frame):
    """Return a vector's payload before compression; the large one is written as a recipe."""
    if frame["payload_rlp"] is not None:
        return raw(frame["payload_rlp"])
    data = b"whisper-compressible-" * 3200
    return bytes(rlp.encode([[1_600_000_000, 50, raw("01020304"), data, 77]]))


class Script:
    """Randomness that was written before, drawn in order."""

    def __init__(self, *draws):
        self.draws = list(draws)

    def __call__(self, size):
        draw = self.draws.pop(0)
        assert len(draw) == size
        return draw


def padding_draws(length):
    """Return what to draw for zero padding of so many bytes."""
    return [(length - 100).to_bytes(2), bytes(length)]


def seeded(seed):
    return random.Random(seed).randbytes


def exchange(one, other):
    """Carry bytes to and fro until both are silent; return each one's events."""
    heard = ([], [])
    while True:
        first, second = one.output(), other.output()
        if not first and not second:
            return heard
        heard[1].extend(other.feed(first))
        heard[0].extend(one.feed(second))


def open_pair(ours=(SHH, STEM), theirs=(SHH, STEM), **limits):
    """Return two sessions that said Hello: the dialler's and the listener's; the limits are the listener's."""
    keys = [PrivateKey.from_bytes(bytes([number]) * 32) for number in (1, 2)]
    dialler = Session(Profile(keys[0], ours), keys[1].public, seeded(1))
    listener = Session(Profile(keys[1], theirs, **limits), None, seeded(2))
    exchange(dialler, listener)
    return dialler, listener
