"""Devices that do not listen: each goes on sending in the session it had, whatever its owner says."""

from __future__ import annotations

import secrets
import time
from itertools import count
from typing import Final

from quietfleet.crypto import PrivateKey, derive
from quietfleet.session._card import Credential
from quietfleet.session._codec import Mode, Packet, encode_body, encode_packet
from quietfleet.session._epochs import generation_base
from quietfleet.session._ratchet import ChainState, Sender
from quietfleet.session._table import Session
from quietfleet.whisper import FULL_BLOOM, Envelope, seal_symmetric
from quietfleet.workers.messages import Readings

VERSION: Final = 1
PURPOSE: Final = "deal:bench"
_TTL: Final = 20
_SIZE: Final = 512
_ANSWER_WITHIN: Final = 30.0


class Device:
    """A sensor as its processor knows it: one end of a session, and all it takes to write in it."""

    def __init__(self, key: PrivateKey) -> None:
        self.id = key.public.id
        self._sender: Sender | None = None
        self._readings = count()

    def session_with(self, worker: str, epoch_key: bytes) -> Session:
        """Draw the root of a session, and return the worker's end of it as a handshake would leave it."""
        root, now = secrets.token_bytes(32), time.time()
        base, _ = generation_base(root, VERSION, VERSION, epoch_key)
        self._sender = Sender(ChainState(derive(base, "to responder")), FULL_BLOOM)
        own, theirs = (Credential(one, one, secrets.token_bytes(32)) for one in (worker, self.id))
        return Session(
            id=derive(root, "session id", length=16),
            peer=self.id,
            initiator=False,
            purpose=PURPOSE,
            own=own,
            theirs=theirs,
            version=VERSION,
            mixes=True,
            opened_at=now,
            own_bloom=FULL_BLOOM,
            peer_bloom=FULL_BLOOM,
            root=root,
            root_version=VERSION,
            generations={},
            confirmed=True,
            hello_id=secrets.token_bytes(16),
        )

    def envelope(self) -> Envelope:
        """Write the next reading."""
        assert self._sender is not None
        message, now = self._sender.next(), time.time()
        body = encode_body(Readings(next(self._readings), [(0.0, {"temp": 20.0, "humid": 60.0})]))
        packet = Packet(secrets.token_bytes(16), None, Mode.REQUEST, now + _ANSWER_WITHIN, body)
        data = seal_symmetric(message.key, encode_packet(packet), pad_to=_SIZE)
        return Envelope(int(now) + _TTL, _TTL, message.topic, data, 0)
