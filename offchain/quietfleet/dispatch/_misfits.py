"""Whom a seeker was introduced to in vain of late: its next seeks are dealt others first.

What came of an introduction only the two know, each under its own allow-list; the oracle learns no more than that it
came to nothing. Without this, seekers who take turns at the same few offers could be dealt the wrong ones for ever:
each deal puts an offer last, and the next seeker's deal puts it first again. It is a preference and no promise: it
lives in memory, and who else is free is still dealt where nobody better is.
"""

from __future__ import annotations

from typing import Final

REMEMBER_MISFIT: Final = 3_600.0  # seconds
MAX_MISFITS: Final = 32  # of one seeker, the newest
_SWEEP_EVERY: Final = 600.0  # seconds


class Misfits:
    """Remembers, for each seeker, providers that it did not come together with."""

    def __init__(self) -> None:
        self._until: dict[str, dict[str, float]] = {}
        self._swept = 0.0

    def note(self, seeker: str, provider: str, now: float) -> None:
        """Remember a pair from now on, and forget what is past."""
        if now >= self._swept + _SWEEP_EVERY:
            self._sweep(now)
        known = self._until.setdefault(seeker, {})
        known.pop(provider, None)
        known[provider] = now + REMEMBER_MISFIT
        if len(known) > MAX_MISFITS:
            del known[next(iter(known))]

    def of(self, seeker: str, now: float) -> tuple[str, ...]:
        """Return the providers that come last for a seeker."""
        return tuple(sorted(name for name, until in self._until.get(seeker, {}).items() if now < until))

    def forget(self, worker: str) -> None:
        """Know nothing of a worker any more."""
        self._until.pop(worker, None)
        for known in self._until.values():
            known.pop(worker, None)

    def _sweep(self, now: float) -> None:
        """Drop seekers whose newest pair is past: of one seeker, pairs are in the order of their end."""
        self._swept = now
        past = [seeker for seeker, known in self._until.items() if not known or next(reversed(known.values())) <= now]
        for seeker in past:
            del self._until[seeker]
