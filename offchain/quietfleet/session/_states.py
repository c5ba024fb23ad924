"""How a worker stands with another, and what leads from one state to the next.

`Messenger.state` reads the state off what there is: calls, sessions, graves. The table is held against it: a test lets
every cause happen in every state that can be reached, and draws docs/protocol.md from what it finds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """What there is of a peer; of several, the first in this order counts."""

    OPEN = "open"  # a session both sides know, with keys for now
    WAITING = "waiting"  # such a session, whose next epoch key has not come
    ANSWERED = "answered"  # we answered its call; its first word makes the session count
    CALLING = "calling"  # our call is not answered yet
    SEVERED = "severed"  # nothing but topics it might still use, so that they are known and never opened
    APART = "apart"  # nothing


class Cause(StrEnum):
    """What happens to a pair; a version that ends takes its keys along, and the next one's come when they come."""

    WE_CALL = "we call"
    THEY_CALL = "they call"
    THEY_ANSWER = "they answer"
    FIRST_WORD = "their first word"
    PATIENCE_ENDS = "a minute passes"
    SILENCE = "they fall silent"
    GOODBYE = "they say goodbye"
    SEVERED = "we sever"
    VERSION_ENDS = "the version ends"
    KEY_COMES = "the next key comes"


STEPS: Final[dict[tuple[State, Cause], State]] = {
    (State.APART, Cause.WE_CALL): State.CALLING,
    (State.APART, Cause.THEY_CALL): State.ANSWERED,
    (State.CALLING, Cause.THEY_ANSWER): State.OPEN,
    (State.CALLING, Cause.PATIENCE_ENDS): State.APART,
    (State.CALLING, Cause.SEVERED): State.APART,
    (State.ANSWERED, Cause.FIRST_WORD): State.OPEN,
    (State.ANSWERED, Cause.PATIENCE_ENDS): State.APART,
    (State.ANSWERED, Cause.SEVERED): State.SEVERED,
    (State.OPEN, Cause.SILENCE): State.APART,
    (State.OPEN, Cause.GOODBYE): State.APART,
    (State.OPEN, Cause.SEVERED): State.SEVERED,
    (State.OPEN, Cause.VERSION_ENDS): State.WAITING,
    (State.SEVERED, Cause.WE_CALL): State.CALLING,
    (State.SEVERED, Cause.THEY_CALL): State.ANSWERED,
    (State.SEVERED, Cause.VERSION_ENDS): State.APART,
    (State.WAITING, Cause.SEVERED): State.APART,
    (State.WAITING, Cause.KEY_COMES): State.OPEN,
}
"""Where each cause leads; what is missing leads nowhere else.

When both call each other, the call of the lower id counts, for whom the table is; the other's becomes `ANSWERED`.
"""
