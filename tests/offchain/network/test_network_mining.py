from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from quietfleet.errors import PowTargetMissed
from quietfleet.network.mining import Mining
from quietfleet.whisper import Envelope, pow_of, search_plain

UNREACHABLE = 1e12
PATIENT = 3600.0


class WatchedSearch:
    """The plain search, which tells when it begins and when it ends."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), threading.Event()
        self.starts: list[int] = []

    def __call__(
        self, rlp: bytes, start: int, stop: int, wanted: int, cancelled: Callable[[], bool]
    ) -> tuple[int, int]:
        self.starts.append(start)
        self.began.set()
        try:
            return search_plain(rlp, start, stop, wanted, cancelled)
        finally:
            self.ended.set()


class SteppingClock:
    """Time that passes by one second each time it is looked at."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        self.time += 1.0
        return self.time


@pytest.fixture
def search() -> WatchedSearch:
    return WatchedSearch()


@pytest.fixture
async def mining(search: WatchedSearch) -> AsyncIterator[Mining]:
    mining = Mining(search=search)
    yield mining
    mining.close()


def draft(nonce: int = 0) -> Envelope:
    return Envelope(1_700_000_050, 50, b"topi", b"data", nonce)


async def happened(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 30)


async def test_work__target_in_reach__returns_the_first_nonce_from_the_drafts_own(mining: Mining) -> None:
    first = await mining.work(draft(), 1.0, PATIENT)
    assert pow_of(first) >= 1.0
    assert await mining.work(draft(first.nonce), 1.0, PATIENT) == first
    assert (await mining.work(draft(first.nonce + 1), 1.0, PATIENT)).nonce > first.nonce
    assert mining.waiting == 0


async def test_work__none_is_asked_for__returns_the_draft_and_troubles_no_thread(
    mining: Mining, search: WatchedSearch
) -> None:
    assert await mining.work(draft(7), 0.0, PATIENT) == draft(7)
    assert search.starts == []


async def test_work__means_not_given__finds_some() -> None:
    mining = Mining()
    assert pow_of(await mining.work(draft(), 1.0, PATIENT)) >= 1.0
    mining.close()


async def test_work__budget_used_up__raises_with_the_best_nonce() -> None:
    mining = Mining(search=search_plain, monotonic=SteppingClock())
    with pytest.raises(PowTargetMissed) as missed:
        await mining.work(draft(), UNREACHABLE, 20.0)
    assert 0 < missed.value.nonce < 256 * 20
    mining.close()


async def test_work__budget_of_nothing__tries_nothing(mining: Mining) -> None:
    with pytest.raises(PowTargetMissed) as missed:
        await mining.work(draft(7), UNREACHABLE, 0.0)
    assert (missed.value.nonce, missed.value.zero_bits) == (7, 0)


async def test_work__task_cancelled__the_thread_stops(mining: Mining, search: WatchedSearch) -> None:
    task = asyncio.create_task(mining.work(draft(), UNREACHABLE, PATIENT))
    await happened(search.began)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await happened(search.ended)
    assert pow_of(await mining.work(draft(), 1.0, PATIENT)) >= 1.0


async def test_work__second_envelope__waits_for_the_first(mining: Mining, search: WatchedSearch) -> None:
    first = asyncio.create_task(mining.work(draft(), UNREACHABLE, PATIENT))
    second = asyncio.create_task(mining.work(draft(1), 1.0, PATIENT))
    await happened(search.began)
    assert (mining.waiting, search.starts) == (2, [0])
    first.cancel()
    assert pow_of(await second) >= 1.0
    assert search.starts == [0, 1]


async def test_work__cancelled_while_it_waits__never_begins(mining: Mining, search: WatchedSearch) -> None:
    first = asyncio.create_task(mining.work(draft(), UNREACHABLE, PATIENT))
    second = asyncio.create_task(mining.work(draft(1), UNREACHABLE, PATIENT))
    await happened(search.began)
    second.cancel()
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    await mining.work(draft(2), 1.0, PATIENT)
    assert search.starts == [0, 2]


async def test_close__work_under_way__ends_it(mining: Mining, search: WatchedSearch) -> None:
    task = asyncio.create_task(mining.work(draft(), UNREACHABLE, PATIENT))
    await happened(search.began)
    mining.close()
    with pytest.raises(PowTargetMissed):
        await task


async def test_work__while_it_goes_on__the_loop_keeps_turning(mining: Mining, search: WatchedSearch) -> None:
    task = asyncio.create_task(mining.work(draft(), UNREACHABLE, PATIENT))
    await happened(search.began)
    for _ in range(100):
        await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
