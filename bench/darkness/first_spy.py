"""The adversary of the literature: whoever first sends an envelope to any spy is taken for its author."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from bench.darkness.packets import Bools, Ints
from bench.darkness.recording import Sight

NOBODY = -1


class FirstSpy:
    """Who relayed each letter to whom, in order of arrival; a stem's predecessor counts as a relayer."""

    def __init__(self, sights: list[Sight], letters: int) -> None:
        seen = defaultdict[int, list[Sight]](list)
        for sight in sorted(sights, key=lambda sight: sight.time):
            seen[sight.letter].append(sight)
        longest = max(len(each) for each in seen.values())
        self._source = np.full((letters, longest + 1), NOBODY, dtype=np.int64)
        self._target = np.full((letters, longest + 1), NOBODY, dtype=np.int64)
        for letter, each in seen.items():
            self._source[letter, : len(each)] = [sight.source for sight in each]
            self._target[letter, : len(each)] = [sight.target for sight in each]

    def suspects(self, spies: Bools) -> Ints:
        """Return the node taken for the author of each letter; NOBODY where no spy ever got it from an honest node."""
        told = spies[self._target] & ~spies[self._source] & (self._source != NOBODY)
        told[:, -1] = True  # where nothing else is
        return np.asarray(self._source[np.arange(len(told)), told.argmax(axis=1)])
