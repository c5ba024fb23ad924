"""Our own envelopes under way: what does not appear in the flood in time is sent again, by another path.

Never by starting the flood ourselves: that is what a relay that drops packets waits for.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from random import Random

from quietfleet.mixnet.path import Path


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for an envelope to appear: `timeout`, stretched by up to `jitter` of it, at most `tries` times.

    `capacity` is how many envelopes are watched at once; beyond it the oldest goes unwatched.
    """

    timeout: float = 6.0
    jitter: float = 0.5
    tries: int = 4
    capacity: int = 1024


@dataclass(frozen=True, slots=True)
class Due:
    """An envelope that did not appear: send it by a path that avoids these, or `exhausted`, give it up."""

    hash: bytes
    envelope: bytes
    expiry: float
    paths: tuple[Path, ...]
    exhausted: bool


@dataclass(slots=True)
class _Outstanding:
    envelope: bytes
    expiry: float
    due: float
    paths: list[Path] = field(default_factory=list)


class Embargo:
    """What we sent and have not seen yet; times in Unix seconds. Pass a `SystemRandom` as `rng`."""

    def __init__(self, patience: Patience, rng: Random) -> None:
        self._patience = patience
        self._rng = rng
        self._out: OrderedDict[bytes, _Outstanding] = OrderedDict()

    def sent(self, envelope_hash: bytes, envelope: bytes, expiry: float, path: Path, now: float) -> int:
        """Watch for an encoded envelope that left by this path, again if it is a resend; return how many were let go.

        `expiry` is the envelope's own.
        """
        out = self._out.setdefault(envelope_hash, _Outstanding(envelope, expiry, now))
        out.paths.append(path)
        out.due = now + self._wait()
        dropped = 0
        while len(self._out) > self._patience.capacity:
            self._out.popitem(last=False)
            dropped += 1
        return dropped

    def seen(self, envelope_hash: bytes) -> Path | None:
        """Stop watching what appeared; return the path it last took, None if it is not ours."""
        out = self._out.pop(envelope_hash, None)
        return out.paths[-1] if out else None

    def drop(self, envelope_hash: bytes) -> None:
        """Stop watching what need not appear."""
        self._out.pop(envelope_hash, None)

    def due(self, now: float) -> list[Due]:
        """Return what is to be sent again; what is exhausted or expired is returned as such, once, and forgotten.

        What is not sent again after all comes back after another timeout.
        """
        late = [(key, out) for key, out in self._out.items() if out.due <= now]
        return [self._overdue(key, out, now) for key, out in late]

    def next_due(self) -> float | None:
        """Return when `due` will have something to say."""
        return min((out.due for out in self._out.values()), default=None)

    def __len__(self) -> int:
        return len(self._out)

    def _overdue(self, key: bytes, out: _Outstanding, now: float) -> Due:
        exhausted = len(out.paths) >= self._patience.tries or out.expiry <= now
        if exhausted:
            del self._out[key]
        out.due = now + self._wait()
        return Due(key, out.envelope, out.expiry, tuple(out.paths), exhausted)

    def _wait(self) -> float:
        return self._patience.timeout * self._rng.uniform(1, 1 + self._patience.jitter)
