"""One attacker as a process of its own, on a link for each kind of attack: sends as fast as its relay reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from bench.flood.poison import KINDS, VALID_RATE, Poison

from quietfleet.crypto import PrivateKey, PublicKey
from quietfleet.devp2p import Profile, Session
from quietfleet.errors import LinkError
from quietfleet.network import SHH, Enode, Link, LinkTiming, Message, RlpxLinks
from quietfleet.network.wire import MESSAGES, STATUS, Status
from quietfleet.whisper import encode_bundle

_PATIENT: Final = LinkTiming(write=3600.0, read=3600.0)
_TICK: Final = 0.05  # seconds between two handfuls of valid envelopes
_RETRY: Final = 0.02


class Attacker:
    """Comes back under a fresh key whenever it is thrown out."""

    def __init__(self, number: int, target: Enode) -> None:
        self._number, self._target = number, target
        self._sent: Counter[str] = Counter()
        self._poison = Poison(number)
        self._until = 0.0

    async def attack(self, kind: str, seconds: float) -> Counter[str]:
        """Attack for so long; return what left."""
        self._sent, self._until = Counter(), time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*self._ways(kind))
        return self._sent

    def prepare(self, kind: str, seconds: float) -> float:
        """Mine what is wanted; return the Unix time from which the attack may begin."""
        self._poison = Poison(random.getrandbits(32))
        if kind in {"valid", "all"}:
            return self._poison.mine(seconds)
        return self._poison.mine(2.0) if kind == "replayed" else 0.0

    def _ways(self, kind: str) -> Iterator[Any]:
        if kind in {"valid", "all"}:
            yield self._keep_on(self._send_valid)
        for each in KINDS if kind == "all" else {kind} & KINDS.keys():
            messages = self._poison.endless(each)
            yield self._keep_on(lambda link, messages=messages: self._send_all(link, messages))
        if kind in {"junk", "all"}:
            yield self._knock()

    async def _keep_on(self, send: Any) -> None:
        while True:
            with contextlib.suppress(LinkError):
                link = await RlpxLinks(PrivateKey.generate(), timing=_PATIENT).dial(self._target)
                self._sent["links"] += 1
                reading = asyncio.create_task(_read(link))
                try:
                    await link.send(Message(SHH.name, STATUS, Status(0.0).encode()))
                    await send(link)
                finally:
                    reading.cancel()
                    await asyncio.wait([asyncio.ensure_future(link.close())], timeout=1)
            await asyncio.sleep(_RETRY)

    async def _send_valid(self, link: Link) -> None:
        """Send what geth would have found by now."""
        valid, at = self._poison.valid, self._sent["valid"]
        began = time.monotonic() - at / VALID_RATE
        while at < len(valid):
            upto = int((time.monotonic() - began) * VALID_RATE)
            if upto > at:
                await link.send(Message(SHH.name, MESSAGES, encode_bundle(valid[at:upto])))
                self._sent["valid"] += len(valid[at:upto])
                at = upto
            await asyncio.sleep(_TICK)
        await asyncio.sleep(max(0.0, self._until - time.monotonic()))

    async def _send_all(self, link: Link, messages: Iterator[Message]) -> None:
        for message in messages:
            await link.send(message)
            self._sent["messages"] += 1
            self._sent["bytes"] += len(message.payload)
            await asyncio.sleep(0)

    async def _knock(self) -> None:
        """Open connections fifty times a second, and say what is no handshake, or one that was said before."""
        caller = Profile(PrivateKey.generate(), (SHH,))
        recorded = Session(caller, PublicKey.from_bytes(self._target.node_id)).output()
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(self._target.address.host, self._target.address.port)
                writer.write(random.choice((random.randbytes(400), recorded)))
                self._sent["knocks"] += 1
                await asyncio.sleep(_RETRY)
                writer.close()


async def _read(link: Link) -> None:
    with contextlib.suppress(LinkError):
        while True:
            await link.receive()


async def main() -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # its processor is not the network's
    attacker = Attacker(int(sys.argv[1]), Enode.parse(sys.argv[2]))
    say(ready=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        order = json.loads(line)
        if order["do"] == "prepare":
            say(prepared=attacker.prepare(order["kind"], order["seconds"]))
        else:
            say(done=await attacker.attack(order["kind"], order["seconds"]))


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
