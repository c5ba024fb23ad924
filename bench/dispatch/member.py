"""One process of a fleet: all relays, one replica of the oracle, or all workers; obeys and tells in JSON lines."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from bench.dispatch.agents import Board, OneAfterAnother, Serving
from bench.dispatch.parts import REST, Meter
from bench.dispatch.plan import PLAN, RELAYS, Plan, Role, key_of

from quietfleet.clock import SystemClock
from quietfleet.network import RlpxLinks, Tuning
from quietfleet.workers import _host, _network
from quietfleet.workers._host import Host
from quietfleet.workers._replicated import ReplicatedRuntime
from quietfleet.workers._runtime import Runtime
from quietfleet.workers.oracle import Oracle
from quietfleet.workers.relay import Relay

_LOOK: Final = 0.05
_COMING: Final = 100  # workers that come up at a time: more would all wait for the same two cores
_INBOUND: Final = 8_192  # links that a relay takes here: 1,000 workers behind eight


def told(kind: type[Any]) -> type[Any]:
    """A worker whose chain stands still, as its folder has it, and which shows its status to nobody."""

    class Told(kind):  # type: ignore[misc]
        async def _follow(self) -> None:
            await asyncio.Event().wait()

        def _show(self) -> None:
            pass

    return Told


class Member:
    """The hosts of this process, all on one loop."""

    def __init__(self, plan: Plan, role: str, number: int) -> None:
        self._board, self._meter = Board(plan), Meter()
        self._prepare(plan, role)
        self._makers = self._made(plan, role, number)
        self._hosts: list[Host] = []
        self._within = plan.ready_within

    async def run(self) -> None:
        running: list[asyncio.Task[None]] = []
        began, cpu = time.monotonic(), time.process_time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._within):
                coming: list[Host] = []
                for make in self._makers:
                    coming = await _fewer(coming, _COMING)
                    coming.append(host := make())
                    self._hosts.append(host)
                    running.append(asyncio.create_task(host.run()))
                await _fewer(coming, 1)
        took, cost = time.monotonic() - began, time.process_time() - cpu
        say(ready={"up": sum(map(_is_up, self._hosts)), "seconds": took, "cpu": cost, "memory": _most_memory()})
        orders = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
        while line := await orders.readline():
            self._obey(json.loads(line))
        for host in self._hosts:
            host._stop.set()  # noqa: SLF001
        await asyncio.gather(*running, return_exceptions=True)

    def _obey(self, order: dict[str, Any]) -> None:
        if "go" in order:
            self._board.going = order["go"]
            say(gone=True)
        elif "mark" in order:
            say(marked=self._told())

    def _told(self) -> dict[str, Any]:
        """Return what happened since the last time, and processor time by part since the start."""
        board, parts = self._board, dict(self._meter.seconds)
        cpu = time.process_time()
        said = {
            "cpu": cpu,
            "parts": parts | {REST: cpu - sum(parts.values())},
            "introduced": board.introduced,
            "first": board.first_messages,
            "counts": dict(board.counts),
            "metrics": self._metrics(),
        }
        board.clear()
        return said

    def _metrics(self) -> dict[str, float]:
        names = ("envelopes_unsent", "steps_failed", "network_throttled", "network_published", "stem_emitted_bytes")
        total: dict[str, float] = {}
        for host in self._hosts:
            for name in names:
                total[name] = total.get(name, 0.0) + host.metrics.value(name)
        return total

    def _prepare(self, plan: Plan, role: str) -> None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # 1,000 workers have 7,000 files and links open
        _host.BEAT = plan.beat if role == "workers" else _host.BEAT
        # all of them come from the loopback, which a relay of the product takes for one house
        links = partial(RlpxLinks, exempt_loopback=True)
        _network.RlpxLinks, _network.Tuning = links, partial(Tuning, max_inbound=_INBOUND)  # type: ignore[misc, assignment]
        if plan.parts:
            self._meter.watch()

    def _made(self, plan: Plan, role: str, number: int) -> list[Callable[[], Host]]:
        if role == "relays":
            return [partial(self._relay, plan, place) for place in range(RELAYS)]
        if role == "oracle":
            return [partial(self._oracle, plan, number)]
        agents = {"seeker": OneAfterAnother, "provider": Serving}
        return [partial(self._worker, plan, kind, place, agents[kind]) for kind, place in plan.started()]

    def _relay(self, plan: Plan, number: int) -> Host:
        relay: Host = told(Relay)(plan.settings("relay", number), key_of("relay", number), SystemClock())
        return relay

    def _oracle(self, plan: Plan, number: int) -> Host:
        kind = ReplicatedRuntime if plan.replicas > 1 else Runtime
        return self._runtime(plan, "oracle", number, kind, Oracle)

    def _worker(self, plan: Plan, role: Role, number: int, agent: type[Any]) -> Host:
        return self._runtime(plan, role, number, Runtime, partial(agent, board=self._board))

    def _runtime(
        self, plan: Plan, role: Role, number: int, kind: type[Runtime], agent: Callable[[Runtime], Any]
    ) -> Host:
        runtime: Runtime = told(kind)(plan.settings(role, number), key_of(role, number), SystemClock(), "")
        runtime.agent = agent(runtime)
        return runtime


async def _fewer(coming: list[Host], limit: int) -> list[Host]:
    """Wait until fewer than `limit` of these are still coming up, and return those."""
    await asyncio.sleep(0)
    while len(coming) >= limit:
        await asyncio.sleep(_LOOK)  # a membership has no event
        coming = [host for host in coming if not _is_up(host)]
    return coming


def _is_up(host: Host) -> bool:
    """Whether it has a link, and if it is a worker, is a member of the epoch."""
    member = not isinstance(host, Runtime) or isinstance(host.agent, Oracle) or host.membership.complete
    return member and host.node.peers > 0


def _most_memory() -> int:
    """Bytes that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def say(**what: Any) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    folder, role, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    logging.basicConfig(filename=folder / f"{role}-{number}.log", level=logging.WARNING)
    plan = msgspec.json.decode((folder / PLAN).read_bytes(), type=Plan)
    member = Member(plan, role, number)
    gc.freeze()
    uvloop.run(member.run())


if __name__ == "__main__":
    main()
