"""The one face of the messaging network that the rest of Quietfleet sees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from quietfleet.whisper import Envelope, Rules


class Network(Protocol):
    """A flood of sealed envelopes: whoever takes part carries everyone's and cannot tell whose they are."""

    @property
    def peers(self) -> int:
        """How many peers are connected now."""
        ...

    async def start(self) -> None:
        """Join; peers that cannot be reached yet are tried again until `stop`."""
        ...

    async def stop(self) -> None:
        """Leave, and end every iteration over `envelopes`."""
        ...

    async def publish(self, envelope: Envelope) -> None:
        """Hand over an envelope, to go as soon as there is a peer; raise UnsendableError if peers would drop it."""
        ...

    def withdraw(self, envelopes: Mapping[bytes, float]) -> None:
        """Let none of these envelopes of ours, given by hash and expiry, leave any more; cover takes their places."""
        ...

    def envelopes(self) -> AsyncIterator[Envelope]:
        """Yield each valid envelope of others that arrives from this call on, exactly once; call it before `start`."""
        ...

    def set_rules(self, rules: Rules) -> None:
        """Judge envelopes by these rules from now on."""
        ...
