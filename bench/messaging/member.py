"""`python -m bench.messaging.member`: one of our nodes in a process, driven as bench/peers/relay.mjs is."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import uvloop
from bench.messaging.relays import BATCH, STAMP, envelope, relay

from quietfleet.metrics import Metrics
from quietfleet.network import EmbeddedNode, Enode
from quietfleet.whisper import Envelope


class Member:
    """Does what its requests say; each method is one."""

    def __init__(self, node: EmbeddedNode) -> None:
        self._node = node
        self._arrivals: list[tuple[int, int]] = []

    async def address(self) -> str:
        return str(self._node.enode)

    async def dial(self, to: str) -> None:
        self._node.keep_connected([Enode.parse(to)])

    async def joined(self, peers: int) -> None:
        await self._node.connected(peers)

    async def send(self, first: int, count: int, rate: float, size: int) -> dict[str, int]:
        began = time.monotonic_ns()
        rest = secrets.token_bytes(size - STAMP.size)
        for i in range(count):
            late = time.monotonic_ns() - began - (int(i * 1e9 / rate) if rate else 0)
            if late < 0:
                await asyncio.sleep(-late / 1e9)
            elif i % BATCH == 0:
                await asyncio.sleep(0)
            await self._node.publish(envelope(first + i, rest))
        return {"began": began, "ended": time.monotonic_ns()}

    async def arrived(self) -> int:
        return len(self._arrivals)

    async def take(self) -> list[tuple[int, int]]:
        arrivals, self._arrivals = self._arrivals, []
        return arrivals

    async def cpu(self) -> float:
        return time.process_time()

    async def listen(self, envelopes: AsyncIterator[Envelope]) -> None:
        """Note when what arrives was sent, and when it arrived."""
        async for each in envelopes:
            self._arrivals.append((STAMP.unpack_from(each.data)[1], time.monotonic_ns()))


async def main() -> None:
    node = relay(Metrics())
    member = Member(node)
    listening = asyncio.create_task(member.listen(node.envelopes()))
    await node.start()
    requests = await _lines()
    while line := await requests.readline():
        request: dict[str, Any] = json.loads(line)
        answer = await getattr(member, request.pop("do"))(**request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    listening.cancel()
    await node.stop()


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


if __name__ == "__main__":
    uvloop.run(main())
