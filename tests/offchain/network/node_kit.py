"""What network tests build nodes and strangers from."""

from __future__ import annotations

import contextlib

from quietfleet.crypto import PrivateKey
from quietfleet.network import SHH, Message, Tuning
from quietfleet.network.wire import MESSAGES
from quietfleet.whisper import encode_bundle

MIN_POW = 0.05
TUNING = Tuning(max_delay=0.005, first_pause=0.01, longest_pause=0.05, sweep_every=0.01)


def new_key():
    """Return a fresh node key."""
    return PrivateKey.generate()


class Stranger:
    """A peer driven by hand."""

    def __init__(self, link):
        self.link = link

    async def say(self, code, payload):
        """Send a message of shh."""
        await self.link.send(Message(SHH.name, code, payload))

    async def hear(self):
        """Wait for the next message of shh; return its code and payload."""
        while (message := await self.link.receive()).capability != SHH.name:
            pass
        return message.code, message.payload

    async def offer(self, *envelopes):
        await self.say(MESSAGES, encode_bundle(envelopes))

    def go_deaf(self):
        """Read nothing from the wire any more, not even pings."""
        self.link._transport.pause_reading()

    async def closed(self):
        """Wait until the node hangs up."""
        with contextlib.suppress(Exception):
            while True:
                await self.link.receive()
