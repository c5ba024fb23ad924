"""Proof of work done by a relay for a sensor too weak for it.

The trade: that relay sees the sealed envelope before anyone else, so it knows who sent it, when it sees it in the
flood. The sensor gives up its anonymity as a sender towards this one relay, which it chose, and keeps it towards all
others by sending through the stem. What the envelope says and whom it is for stay closed to the relay too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Final, Protocol

from quietfleet.clock import Clock
from quietfleet.errors import PowTargetMissed, WireError
from quietfleet.metrics import Metrics
from quietfleet.network.node import EmbeddedNode
from quietfleet.network.peer import Peer
from quietfleet.network.quota import Bucket
from quietfleet.network.stemwire import ASK_WORK, REQUEST_SIZE, WORK, WorkAsk, WorkDone
from quietfleet.whisper import Envelope, judge_cheaply, pow_of, target_bits

MAX_TARGET: Final = 1e6  # more than any contract may ask for
_PERIOD: Final = 60.0
_OVERHEAD: Final = 128  # bytes: more than a request has besides the data


class Miner(Protocol):
    """Whoever finds nonces."""

    async def work(self, draft: Envelope, target: float, budget: float) -> Envelope:
        """Return `draft` with a nonce whose work is at least `target`; PowTargetMissed after `budget` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """What a relay does for others: expected hashes for one envelope (as zero bits) and, for one peer, in a minute.

    `seconds` is the most it works on one envelope, `queue` how many may wait in all.
    """

    bits: int = 22
    per_minute: float = float(1 << 23)
    seconds: float = 10.0
    queue: int = 16


class WorkService:
    """A `Service` of a relay: one envelope at a time for each peer, within its budget; dropped when it leaves."""

    codes = frozenset({ASK_WORK})

    def __init__(
        self, node: EmbeddedNode, miner: Miner, metrics: Metrics, clock: Clock, limits: WorkLimits | None = None
    ) -> None:
        self._node, self._miner, self._metrics, self._clock = node, miner, metrics, clock
        self._limits = limits or WorkLimits()
        self._working: dict[Peer, asyncio.Task[None]] = {}
        self._budgets: dict[Peer, Bucket] = {}

    def joined(self, peer: Peer) -> None:
        self._budgets[peer] = Bucket(self._limits.per_minute / _PERIOD, self._limits.per_minute)

    def left(self, peer: Peer) -> None:
        self._budgets.pop(peer, None)
        task = self._working.pop(peer, None)
        if task:
            task.cancel()

    async def handle(self, peer: Peer, code: int, payload: bytes) -> None:  # noqa: ARG002 -- there is one code
        if len(payload) > self._node.flood.rules.max_size + _OVERHEAD:
            raise WireError(f"a draft of {len(payload)} bytes")
        ask = WorkAsk.decode(payload)
        refusal = self._refusal(peer, ask)
        if refusal:
            self._metrics.count("work_refused", reason=refusal)
            peer.post(WorkDone(ask.request, None).encode())
            return
        self._working[peer] = asyncio.get_running_loop().create_task(self._work(peer, ask))

    async def run(self) -> None:
        """Let those at work end with the node."""
        try:
            await asyncio.Event().wait()
        finally:
            tasks = list(self._working.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def sweep(self, now: float) -> None:
        """Nothing grows old here."""

    def _refusal(self, peer: Peer, ask: WorkAsk) -> str | None:
        """Return why we will not do it; the budget is asked last, as asking it takes from it."""
        reason = judge_cheaply(ask.draft, self._clock.now(), self._node.flood.rules)
        if reason:
            return reason
        if self._bits(ask) > self._limits.bits:
            return "absurd_target"
        if peer in self._working:
            return "at_work_already"
        if len(self._working) >= self._limits.queue:
            return "busy"
        affordable = self._budgets[peer].take(asyncio.get_running_loop().time(), 2.0 ** self._bits(ask))
        return None if affordable else "over_budget"

    def _bits(self, ask: WorkAsk) -> float:
        return inf if ask.target > MAX_TARGET else target_bits(ask.target, len(ask.draft.data), ask.draft.ttl)

    async def _work(self, peer: Peer, ask: WorkAsk) -> None:
        try:
            mined = await self._miner.work(ask.draft, ask.target, self._limits.seconds)
        except PowTargetMissed:
            self._metrics.count("work_refused", reason="not_found")
            nonce = None
        else:
            self._metrics.count("work_done")
            nonce = mined.nonce
        finally:
            if self._working.get(peer) is asyncio.current_task():
                del self._working[peer]
        peer.post(WorkDone(ask.request, nonce).encode())


class DelegatedMining:
    """A `Service` of a leaf, and a `Miner`: asks the relay with this node id, and works itself where that fails.

    A relay that hands over a false nonce is not asked again. `random` names requests.
    """

    codes = frozenset({WORK})

    def __init__(
        self, node: EmbeddedNode, relay: bytes, itself: Miner, metrics: Metrics, random: Callable[[int], bytes]
    ) -> None:
        self._node, self._relay, self._itself, self._metrics, self._random = node, relay, itself, metrics, random
        self._asked: dict[bytes, asyncio.Future[int | None]] = {}
        self._turn = asyncio.Lock()
        self._lied = False

    async def work(self, draft: Envelope, target: float, budget: float) -> Envelope:
        """Return `draft` with a nonce whose work is at least `target`; PowTargetMissed after our own `budget` seconds.

        The relay has as long, before we begin ourselves.
        """
        async with self._turn:  # it works on one at a time
            nonce = None if self._lied else await self._ask(draft, target, budget)
        if nonce is not None:
            mined = replace(draft, nonce=nonce)
            if pow_of(mined) >= target:
                self._metrics.count("work_delegated", outcome="done")
                return mined
            self._lied = True
            self._metrics.count("work_delegated", outcome="false")
        return await self._itself.work(draft, target, budget)

    def joined(self, peer: Peer) -> None:
        """Nothing: it is asked when there is work."""

    def left(self, peer: Peer) -> None:
        for answer in self._asked.values() if peer.node_id == self._relay else ():
            if not answer.done():
                answer.set_result(None)

    async def handle(self, peer: Peer, code: int, payload: bytes) -> None:  # noqa: ARG002 -- there is one code
        done = WorkDone.decode(payload)
        answer = self._asked.get(done.request) if peer.node_id == self._relay else None
        if answer and not answer.done():
            answer.set_result(done.nonce)

    async def run(self) -> None:
        """Nothing to do unasked."""

    def sweep(self, now: float) -> None:
        """Nothing grows old here."""

    async def _ask(self, draft: Envelope, target: float, patience: float) -> int | None:
        peer, request = self._node.peer(self._relay), self._random(REQUEST_SIZE)
        if peer is None or not peer.stems or not peer.post(WorkAsk(request, draft, target).encode()):
            self._metrics.count("work_delegated", outcome="away")
            return None
        answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._asked[request] = answer
        try:
            async with asyncio.timeout(patience):
                nonce = await answer
        except TimeoutError:
            self._metrics.count("work_delegated", outcome="late")
            return None
        finally:
            del self._asked[request]
        if nonce is None:
            self._metrics.count("work_delegated", outcome="refused")
        return nonce
