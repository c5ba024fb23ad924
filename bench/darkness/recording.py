"""What there is to see in a run: each envelope on each link, each onion packet at each hop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from bench.darkness.baselines import stemmed
from bench.darkness.packets import Packets

from quietfleet.mixnet import PACKET_SIZES, Flood, Forward, Peeled, tag_of
from quietfleet.network import SHH, STEM, Message
from quietfleet.network.stemwire import PACKET
from quietfleet.network.wire import MESSAGES, iter_list
from quietfleet.testbed.memory_links import FRAME_OVERHEAD, Wire
from quietfleet.whisper import Envelope

_NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class Letter:
    """An envelope that a node wrote: `made` is the second it shows to everyone, `written` the true time."""

    sender: int
    written: float
    made: float


@dataclass(frozen=True, slots=True)
class Sight:
    """One message on one link: when it arrived, from which node, at which, and what: a letter's number."""

    time: float
    source: int
    target: int
    letter: int


@dataclass(slots=True)
class _Leg:
    source: int
    target: int
    arrived: float
    size: int = 0


@dataclass(slots=True)
class Recorder:
    """Sees every message through the wire's tap and every packet that a relay opens; nodes are numbered by their ids.

    Times are seconds of the loop, `epoch` its start in Unix seconds. Bytes are counted by kind.
    """

    wire: Wire
    numbers: dict[bytes, int]
    epoch: float
    letters: list[Letter] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)
    flood_bytes: int = 0
    packet_bytes: int = 0
    _envelopes: dict[bytes, int] = field(default_factory=dict)
    _legs: dict[bytes, _Leg] = field(default_factory=dict)
    _opened: dict[bytes, Peeled] = field(default_factory=dict)

    def write(self, sender: int, envelope: Envelope, now: float) -> None:
        """Note a letter before it is published."""
        self._envelopes[envelope.encode()] = len(self.letters)
        self.letters.append(Letter(sender, now, envelope.expiry - envelope.ttl - self.epoch))

    def tap(self, time: float, source: bytes, target: bytes, message: Message) -> None:
        """See a message on the wire."""
        size = len(message.payload) + FRAME_OVERHEAD
        ends = self.numbers[source], self.numbers[target]
        arrives = time + self.wire.between(source, target)
        if (message.capability, message.code) == (STEM.name, PACKET):
            self.packet_bytes += size
            index = PACKET_SIZES.index(len(message.payload))
            self._legs[tag_of(message.payload)] = _Leg(*ends, arrives, size=index)
        elif (message.capability, message.code) == (SHH.name, MESSAGES):
            self.flood_bytes += size
            for raw in iter_list(message.payload):
                self.sights.append(Sight(arrives, *ends, self._envelopes[raw]))
        for raw in stemmed(message):
            self.flood_bytes += size
            self.sights.append(Sight(arrives, *ends, self._envelopes[raw]))

    def opened(self, content: bytes, peeled: Peeled) -> None:
        """See what a relay learns from a packet."""
        self._opened[tag_of(content)] = peeled

    def packets(self, first_relay: int) -> Packets:
        """Return every packet that reached the end of its way; relays are numbered from `first_relay` on."""
        rows = [row for tag in self._legs if (row := self._follow(tag, first_relay)) is not None]
        worker, path, arrived, left, size, letter = zip(*rows, strict=True)
        return Packets(*(np.array(column) for column in (worker, path, arrived, left, size, letter)))

    def _follow(self, tag: bytes, first_relay: int) -> tuple[int, list[int], list[float], list[float], int, int] | None:
        """Return the row of the packet that left a worker under this tag."""
        legs, last = [self._legs[tag]], _NOBODY
        if legs[0].source >= first_relay:
            return None
        left = list[float]()
        while peeled := self._opened.get(tag):
            left.append(legs[-1].arrived + peeled.delay)
            if isinstance(peeled, Flood):
                last = self._envelopes[peeled.envelope]
            if not isinstance(peeled, Forward):
                path = [leg.target - first_relay for leg in legs]
                return legs[0].source, path, [leg.arrived for leg in legs], left, legs[0].size, last
            tag = tag_of(peeled.packet)
            if tag not in self._legs:
                return None
            legs.append(self._legs[tag])
        return None
