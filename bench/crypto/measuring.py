"""Each operation timed here and by the peer in turn, so that what else the machine does falls on both alike.

CPU time of the whole process, so that Node's worker threads count; the median of the rounds.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.peer import Process

from quietfleet.crypto import PrivateKey
from quietfleet.whisper import Search, open_asymmetric, open_symmetric, seal_asymmetric, seal_symmetric

KEY: Final = bytes(range(32))
RECEIVER: Final = PrivateKey.from_bytes(b"\x04" * 32)
SIGNER: Final = PrivateKey.from_bytes(b"\x03" * 32)
SIZES: Final = (256, 1024)
_LONG_ENOUGH: Final = 0.15  # seconds of CPU a measurement should take
_FIRST_COUNT: Final = 16
_UNREACHABLE: Final = 256  # zero bits

Timed = Callable[[int], float]
"""Runs an operation so many times and returns the CPU seconds it took."""


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of operation on one kind of message."""

    op: str
    mode: str
    signed: bool
    size: int

    def ours(self) -> Callable[[], object]:
        payload, signer = secrets.token_bytes(self.size), SIGNER if self.signed else None
        if self.mode == "symmetric":
            data = seal_symmetric(KEY, payload, signer=signer)
            opened, sealed = (lambda: open_symmetric(KEY, data)), (lambda: seal_symmetric(KEY, payload, signer=signer))
        else:
            public = RECEIVER.public
            data = seal_asymmetric(public, payload, signer=signer)
            opened = lambda: open_asymmetric(RECEIVER, data)  # noqa: E731 -- beside its pair
            sealed = lambda: seal_asymmetric(public, payload, signer=signer)  # noqa: E731
        return sealed if self.op == "seal" else opened

    def peer(self, peer: Process) -> Timed:
        def timed(count: int) -> float:
            return float(
                peer.ask(op=self.op, mode=self.mode, signed=self.signed, size=self.size, count=count)["seconds"]
            )

        return timed


def messages() -> list[Message]:
    """Return everything that is measured beside the peer's message encryption."""
    return [
        Message(op, mode, signed, size)
        for mode in ("symmetric", "asymmetric")
        for signed in (False, True)
        for size in SIZES
        for op in ("seal", "open")
    ]


def timed(run: Callable[[], object]) -> Timed:
    """Return how to time a function of ours."""

    def measure(count: int) -> float:
        before = time.process_time()
        for _ in range(count):
            run()
        return time.process_time() - before

    return measure


def mined(search: Search, size: int) -> Timed:
    """Return how to time a search over the nonces of an envelope of so many bytes, none of which will do."""

    def measure(count: int) -> float:
        before = time.process_time()
        search(b"x" * size, 0, count, _UNREACHABLE, lambda: False)
        return time.process_time() - before

    return measure


def mined_by_peer(peer: Process, size: int, *, kept: bool) -> Timed:
    """Return how to time hash-wasm at the same; `kept` if it hashes what all nonces share only once."""
    return lambda count: float(peer.ask(op="mine", size=size, kept=kept, count=count)["seconds"])


def costs(contenders: Sequence[Timed], rounds: int) -> list[float]:
    """Return the median CPU seconds of one run of each, from rounds in which they take turns."""
    counts = [_count(contender) for contender in contenders]
    taken = [[each(count) / count for each, count in zip(contenders, counts, strict=True)] for _ in range(rounds)]
    return [median(column) for column in zip(*taken, strict=True)]


def _count(contender: Timed) -> int:
    """Return how many runs take long enough to measure, once it is warm."""
    contender(_FIRST_COUNT)
    count = _FIRST_COUNT
    while (seconds := contender(count)) < _LONG_ENOUGH / 2:
        count *= 2 if seconds > _LONG_ENOUGH / 10 else 8
    return max(1, round(count * _LONG_ENOUGH / seconds))
