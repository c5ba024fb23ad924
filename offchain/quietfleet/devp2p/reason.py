"""Why a link is closed."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """The reasons devp2p's Disconnect names."""

    REQUESTED = 0
    NETWORK_ERROR = 1
    PROTOCOL_BREACH = 2
    USELESS_PEER = 3
    TOO_MANY_PEERS = 4
    ALREADY_CONNECTED = 5
    INCOMPATIBLE_VERSION = 6
    INVALID_IDENTITY = 7
    QUITTING = 8
    UNEXPECTED_IDENTITY = 9
    CONNECTED_TO_SELF = 10
    READ_TIMEOUT = 11
    SUBPROTOCOL_ERROR = 16
