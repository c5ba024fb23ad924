"""How long to wait before what failed is tried again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_WORD: Final = 4  # random bytes a pause is drawn from


class Retries:
    """Pauses that double from `first` to `longest` seconds, each drawn from its upper half.

    So a fleet that lost the same thing at the same moment does not come back for it all at once.
    """

    def __init__(self, random: Callable[[int], bytes], first: float, longest: float) -> None:
        self._random = random
        self._first = first
        self._longest = longest
        self._span = first
        self._about: object = None

    def pause(self, about: object = None) -> float:
        """Return the seconds to wait after one more try; for another thing than last time it begins anew."""
        if about != self._about:
            self.succeeded()
            self._about = about
        span, self._span = self._span, min(self._longest, 2 * self._span)
        drawn = int.from_bytes(self._random(_WORD)) / float(1 << 8 * _WORD)
        return span * (1.0 + drawn) / 2.0

    def succeeded(self) -> None:
        """Begin with short pauses again."""
        self._span = self._first
