"""The life of a link as a table; its drawing is in docs/protocol.md.

Both sides shake hands, then each sends its Hello without waiting for the other's. Nothing else may come before the
Hello but a Disconnect. A step that the table does not have for a state is a fault, and a fault closes the link at once
and without a word.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    AWAITING_AUTH = "awaiting_auth"  # we were dialled
    AWAITING_ACK = "awaiting_ack"  # we dialled
    AWAITING_HELLO = "awaiting_hello"
    OPEN = "open"
    CLOSED = "closed"


class Step(StrEnum):
    AUTH = "auth"
    ACK = "ack"
    HELLO = "hello"  # one we can work with
    REFUSAL = "refusal"  # we said why not: ourselves, another identity, nothing in common
    UPKEEP = "upkeep"  # ping, pong, another Hello, base codes we do not know
    MESSAGE = "message"
    DISCONNECT = "disconnect"
    FAULT = "fault"
    HANG_UP = "hang_up"  # by us


_ENDS: Final = {Step.FAULT: State.CLOSED, Step.HANG_UP: State.CLOSED}

MOVES: Final[dict[State, dict[Step, State]]] = {
    State.AWAITING_AUTH: {Step.AUTH: State.AWAITING_HELLO, **_ENDS},
    State.AWAITING_ACK: {Step.ACK: State.AWAITING_HELLO, **_ENDS},
    State.AWAITING_HELLO: {
        Step.HELLO: State.OPEN,
        Step.REFUSAL: State.CLOSED,
        Step.DISCONNECT: State.CLOSED,
        **_ENDS,
    },
    State.OPEN: {Step.UPKEEP: State.OPEN, Step.MESSAGE: State.OPEN, Step.DISCONNECT: State.CLOSED, **_ENDS},
    State.CLOSED: {},
}
