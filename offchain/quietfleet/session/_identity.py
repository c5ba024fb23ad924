"""A worker as it signs and keeps secrets."""

from __future__ import annotations

from quietfleet.crypto import PrivateKey


class Identity:
    """A worker's messaging keys, of which this one has a single one.

    The first key names the worker and guards what it stores, for life; the present one speaks for it.
    """

    def __init__(self, first: PrivateKey) -> None:
        self.first = first
        self.id = first.public.id

    @property
    def secret(self) -> bytes:
        """What the keys of everything on disk derive from."""
        return self.first.to_bytes()

    @property
    def present(self) -> PrivateKey | None:
        """The key the chain knows this worker by; None if it is not here, and then nothing may be signed."""
        return self.first

    def key_of(self, public_key: bytes) -> PrivateKey | None:
        """The key with this public half (64 bytes x‖y), replaced or not, if it is here."""
        return self.first if public_key == self.first.public.to_bytes() else None
