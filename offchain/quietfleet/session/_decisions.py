"""What was decided about a message, and by which rule: for the audit trail, without anything of what it said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """Why a message was accepted; each asked the registry in that moment."""

    SESSION = "both active, kinds cooperate, in session"
    ANSWERED = "both active, kinds cooperate, key vouched for, called by us"
    ADMITTED = "both active, kinds cooperate, key vouched for, expected"


@dataclass(frozen=True, slots=True)
class Decision:
    """A message of a peer's was accepted, or refused; `what` is the tag of its body, empty where it was not read."""

    peer: str
    what: str
    accepted: bool
    why: str


Decided = Callable[[Decision], None]


class Judge:
    """Tells whoever keeps the trail."""

    def __init__(self, decided: Decided) -> None:
        self._decided = decided

    def accept(self, peer: str, what: str, rule: Rule) -> None:
        """Tell of a message that was accepted."""
        self._decided(Decision(peer, what, accepted=True, why=rule))

    def refuse(self, peer: str, why: str) -> None:
        """Tell of a message of a known peer that was not."""
        self._decided(Decision(peer, "", accepted=False, why=why))
