"""RLPx and the devp2p base protocol, without I/O."""

from quietfleet.devp2p._events import Disconnected, Event, Failed, HelloReceived, MessageReceived
from quietfleet.devp2p._hello import Hello
from quietfleet.devp2p._machine import MOVES, State, Step
from quietfleet.devp2p._session import Profile, Session
from quietfleet.devp2p.capability import Capability, shared_offsets
from quietfleet.devp2p.reason import Reason

__all__ = [
    "MOVES",
    "Capability",
    "Disconnected",
    "Event",
    "Failed",
    "Hello",
    "HelloReceived",
    "MessageReceived",
    "Profile",
    "Reason",
    "Session",
    "State",
    "Step",
    "shared_offsets",
]
