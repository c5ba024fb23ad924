"""What stands where there is no fleet to speak to."""

from __future__ import annotations

from collections.abc import Callable


class Absent:
    """Stands where a fleet would: says one sentence, whatever verb is called."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence

    def __repr__(self) -> str:
        return self._sentence

    def __getattr__(self, verb: str) -> Callable[..., Absent]:
        if verb.startswith("_"):  # what Python and the console look for in any object
            raise AttributeError(verb)
        return lambda *_arguments, **_options: self
