"""A relay's part: it shows its endpoint's chain to workers that have none, bounded and at its own pace.

Each link has one question waiting at most and its share of questions a second; all of them together cost the endpoint
no more than one busy worker, as equal questions are asked once. Beyond that nobody is answered, and it is counted.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Never

from quietfleet.chain.source import Header, RawLog, Source
from quietfleet.clock import Clock
from quietfleet.errors import ChainError, ChainRefused
from quietfleet.metrics import Metrics
from quietfleet.network.chainwire import ASK_CHAIN, MAX_CONTENT, ChainAnswer, ChainAsk, Verdict, What, pack
from quietfleet.network.peer import Peer
from quietfleet.network.quota import Bucket

_Question = tuple[What, int, int, bytes]


@dataclass(frozen=True, slots=True)
class ShowingLimits:
    """Questions a second and saved up, of one link and of all; the most blocks in a range.

    `fresh` is for how many seconds an answer is given again, `kept` how many are kept; `at_once` how many questions
    the endpoint is asked side by side.
    """

    each: tuple[float, float] = (10.0, 200.0)
    everyone: tuple[float, float] = (60.0, 600.0)
    blocks: int = 2_000
    fresh: float = 1.0
    kept: int = 64
    at_once: int = 4


class ChainServing:
    """A `Service` of a relay with an endpoint of its own, `source`."""

    codes = frozenset({ASK_CHAIN})

    def __init__(self, source: Source, metrics: Metrics, clock: Clock, limits: ShowingLimits | None = None) -> None:
        self._source, self._metrics, self._clock = source, metrics, clock
        self._limits = limits or ShowingLimits()
        self._shares: dict[Peer, Bucket] = {}
        self._everyone = Bucket(*self._limits.everyone)
        self._waiting: dict[Peer, ChainAsk] = {}
        self._answers: OrderedDict[_Question, tuple[float, Verdict, bytes]] = OrderedDict()
        self._changed = asyncio.Event()

    def joined(self, peer: Peer) -> None:
        self._shares[peer] = Bucket(*self._limits.each)

    def left(self, peer: Peer) -> None:
        self._shares.pop(peer, None)
        self._waiting.pop(peer, None)

    async def handle(self, peer: Peer, code: int, payload: bytes) -> None:  # noqa: ARG002 -- there is one code
        ask, now = ChainAsk.decode(payload), asyncio.get_running_loop().time()
        if peer not in self._shares or not self._shares[peer].take(now):
            return self._refuse("over_quota")
        if peer in self._waiting:
            self._refuse("asked_again")  # its older question: it cannot be waiting for that any more
        self._waiting[peer] = ask
        self._changed.set()
        return None

    async def run(self) -> Never:
        """Answer who asks, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._limits.at_once):
                group.create_task(self._keep_answering())
        raise AssertionError("they answer for ever")

    def sweep(self, now: float) -> None:
        for question, (until, _, _) in list(self._answers.items()):
            if not now <= until <= now + self._limits.fresh:
                del self._answers[question]

    async def _keep_answering(self) -> Never:
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            peer = next(iter(self._waiting))
            ask = self._waiting.pop(peer)
            verdict, content = await self._answer(ask)
            if not peer.post(ChainAnswer(ask.request, verdict, content).encode()):
                self._refuse("slow_reader")

    async def _answer(self, ask: ChainAsk) -> tuple[Verdict, bytes]:
        now = self._clock.now()
        until, verdict, content = self._answers.get(ask.question, (0.0, Verdict.FOUND, b""))
        if now <= until <= now + self._limits.fresh:
            self._metrics.count("chain_shown", how="kept")
            return verdict, content
        await asyncio.sleep(self._everyone.owe(asyncio.get_running_loop().time(), 1.0))
        verdict, content = await self._look(ask)
        self._metrics.count("chain_shown", how="asked")
        self._answers[ask.question] = self._clock.now() + self._limits.fresh, verdict, content
        while len(self._answers) > self._limits.kept:
            self._answers.popitem(last=False)
        return verdict, content

    async def _look(self, ask: ChainAsk) -> tuple[Verdict, bytes]:
        if ask.last - ask.first >= self._limits.blocks:
            return Verdict.REFUSED, b""
        try:
            content = pack(await self._found(ask))
        except ChainRefused:
            return Verdict.REFUSED, b""
        except ChainError:
            return Verdict.UNAVAILABLE, b""
        return (Verdict.FOUND, content) if len(content) <= MAX_CONTENT else (Verdict.REFUSED, b"")

    async def _found(self, ask: ChainAsk) -> Header | list[RawLog] | None:
        match ask.what:
            case What.LOGS:
                return await self._source.logs(ask.first, ask.last)
            case What.LOGS_IN:
                return await self._source.logs_in(ask.block_hash)
            case What.HEADER:
                return await self._source.header(ask.first)
            case What.NEWEST:
                return await self._source.header()

    def _refuse(self, reason: str) -> None:
        self._metrics.count("chain_questions_refused", reason=reason)
