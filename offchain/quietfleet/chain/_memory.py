"""What was looked up in the replica's tables, kept until they change: the registry is asked about at each message.

One memory a database, whoever looks it up. It is emptied at each write to the tables, and when anything was rolled back
since: what was read inside a transaction that failed never was. Only the worker's own process writes these tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from quietfleet.storage import Database

MOST: Final = 4_096
"""Answers kept: whoever asks about made-up workers must not fill the memory."""

_Answer = TypeVar("_Answer")


class Memory:
    """Answers by question; `Memory.of` returns a database's."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], Any] = {}
        self._undone = 0

    @classmethod
    def of(cls, database: Database) -> Memory:
        """Return the one that belongs to this database."""
        return _MEMORIES.setdefault(database, cls())

    def answer(self, database: Database, kind: str, about: str, read: Callable[[], _Answer]) -> _Answer:
        """Return what is known, or else what `read` finds; it must not be changed."""
        self._check(database)
        question = kind, about
        if question not in self._answers:
            self._keep(question, read())
        found: _Answer = self._answers[question]
        return found

    def learn(self, database: Database, kind: str, about: str, answer: object) -> None:
        """Take note of what was just written."""
        self._check(database)
        self._keep((kind, about), answer)

    def clear(self) -> None:
        """Forget everything."""
        self._answers.clear()

    def _check(self, database: Database) -> None:
        if database.undone != self._undone:
            self.clear()
            self._undone = database.undone

    def _keep(self, question: tuple[str, str], answer: object) -> None:
        if len(self._answers) >= MOST:
            self.clear()
        self._answers[question] = answer


_MEMORIES: Final[WeakKeyDictionary[Database, Memory]] = WeakKeyDictionary()
