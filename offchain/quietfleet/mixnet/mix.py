"""What a relay does with a packet: open it with its keys, once."""

from __future__ import annotations

from quietfleet.errors import PacketRefused
from quietfleet.mixnet.onion_keys import OnionKeys
from quietfleet.mixnet.packet import Fault, Peeled, peel, tag_of
from quietfleet.mixnet.replay import ReplayCache


class Mix:
    """One relay's keys and its memory of what it opened."""

    def __init__(self, keys: OnionKeys, replays: ReplayCache) -> None:
        self._keys = keys
        self._replays = replays

    def open(self, packet: bytes, now: float) -> Peeled:
        """Take our layer off; PacketRefused with a Fault to count. Now is in Unix seconds."""
        tag = tag_of(packet)
        if self._replays.seen(tag):
            raise PacketRefused(Fault.REPLAYED)
        peeled = peel(self._keys.private_keys, packet, now)
        if not self._replays.spend(tag, peeled.expires, now):
            raise PacketRefused(Fault.FULL)
        return peeled
