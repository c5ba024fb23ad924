"""RLPx and the devp2p base protocol, without I/O."""

from quietfleet.devp2p.capability import Capability
from quietfleet.devp2p.reason import Reason

__all__ = ["Capability", "Reason"]
