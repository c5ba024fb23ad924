"""A relay: listens for links, floods what the rules allow, and cooperates with nobody."""

from __future__ import annotations

from quietfleet.workers._host import Host


class Relay(Host):
    """Everything a relay does is being a host with a listening node."""
