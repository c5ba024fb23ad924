"""One member of the network as a process of its own: told what to do, and telling what came, in JSON lines."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import secrets
import sys
import time
from typing import Any, Final

import msgspec
from bench.flood.world import DOMAIN, HONEST_SIZE, MARK, RULES, TTL, Listed, Place, key_of, topic

from quietfleet.clock import SystemClock
from quietfleet.metrics import Metrics
from quietfleet.mixnet import Guards, OnionKeys, RelayBook
from quietfleet.network import EmbeddedNode, Relaying, RlpxLinks, Sending
from quietfleet.whisper import Envelope, mine

_TELL_EVERY: Final = 0.2  # seconds
_ID_SIZE: Final = 8
_COUNTED: Final = ("network_dropped", "network_links", "network_refused", "stem_packets_lost", "stem_envelopes_lost")


class Member:
    """A real node, a reader that notes when honest messages arrive, and the parent's pipe."""

    def __init__(self, place: Place) -> None:
        self._rng = random.Random()
        self._metrics, self._got = Metrics(), list[tuple[int, float]]()
        directory, clock, system = Listed(), SystemClock(), random.SystemRandom()
        key, metrics, port = key_of(place.number), self._metrics, place.ports[place.number]
        self._node = node = EmbeddedNode(
            listen=f"127.0.0.1:{port}" if place.is_relay else None,
            peers=place.peers,
            rules=RULES,
            metrics=metrics,
            clock=clock,
            rng=system,
            links=RlpxLinks(key, exempt_loopback=True, metrics=metrics),
            directory=directory,
        )
        book = RelayBook(DOMAIN, directory.owner_of)
        keys = OnionKeys(key, DOMAIN, "127.0.0.1", port) if place.is_relay else None
        if place.stem:
            node.add(Relaying(node, book, metrics, clock, keys))
        if place.stem and not place.is_relay:
            guards = Guards(lambda: None, lambda _: None, directory.owner_of, system)
            node.add(Sending(node, book, guards, directory, metrics, clock, system, secrets.token_bytes))

    async def run(self) -> None:
        arriving = self._node.envelopes()
        await self._node.start()
        await self._node.connected(2)
        say(ready=self._node.peers)
        orders = asyncio.StreamReader(limit=1 << 20)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        telling = asyncio.create_task(self._tell())
        noting = asyncio.create_task(self._note(arriving))
        while line := await orders.readline():
            await self._obey(json.loads(line))
        for task in (telling, noting):
            task.cancel()
        await self._node.stop()

    async def _obey(self, order: dict[str, Any]) -> None:
        if "send" in order:
            envelope = self._envelope(order["send"])
            now = time.monotonic()
            await self._node.publish(envelope)
            say(sent=[order["send"], now])
        else:
            say(counts=self._counts())

    async def _note(self, arriving: Any) -> None:
        async for envelope in arriving:
            if envelope.data.startswith(MARK):
                begin = len(MARK)
                number = int.from_bytes(envelope.data[begin : begin + _ID_SIZE], "big")
                self._got.append((number, time.monotonic()))

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(_TELL_EVERY)
            if self._got:
                say(got=self._got)
                self._got.clear()

    def _envelope(self, number: int) -> Envelope:
        data = MARK + number.to_bytes(_ID_SIZE, "big")
        data += self._rng.randbytes(HONEST_SIZE - len(data))
        return mine(int(time.time()) + TTL, TTL, topic(self._rng), data, RULES.min_pow)

    def _counts(self) -> dict[str, dict[str, float]]:
        """Return the labelled counters as {counter: {label: value}}."""
        found: dict[str, dict[str, float]] = {name: {} for name in _COUNTED}
        for family in self._metrics._registry.collect():  # noqa: SLF001
            name = family.name.removeprefix("quietfleet_")
            for sample in family.samples if name in found else ():
                if sample.name.endswith("_total"):
                    found[name][next(iter(sample.labels.values()))] = sample.value
        found["network"] = {
            name: self._metrics.value(f"network_{name}")
            for name in ("throttled", "faults", "received", "pool", "pool_bytes", "evicted", "outbox_overflow")
        }
        return found


def say(**what: Any) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    gc.freeze()
    asyncio.run(Member(msgspec.json.decode(sys.argv[1], type=Place)).run())


if __name__ == "__main__":
    main()
