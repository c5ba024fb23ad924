"""A relay's onion keys: fresh every few hours, in memory only, erased when nobody may use them any more.

A relay that restarts begins with a fresh key, so that packets recorded before, whose tags it forgot, open no more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from quietfleet.crypto import PrivateKey
from quietfleet.mixnet.descriptor import RelayDescriptor, sign_descriptor

ISSUE_EVERY: Final = 6 * 3600
MOST: Final = 4  # keys at a time, each of which a packet may have to be tried with
LIFETIME: Final = 12 * 3600  # so that a relay tries two keys at most, and what it can still open is half a day old


class OnionKeys:
    """The X25519 keys of the relay that listens at `host`:`port`; times in Unix seconds."""

    def __init__(
        self,
        node_key: PrivateKey,
        domain: bytes,
        host: str,
        port: int,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._node_key = node_key
        self._domain = domain
        self._host = host
        self._port = port
        self._random = random
        self._held: list[tuple[RelayDescriptor, X25519PrivateKey]] = []  # newest first

    def refresh(self, now: float) -> RelayDescriptor | None:
        """Erase what expired; return a new descriptor, to be told to everyone, when one is due."""
        self._held = [held for held in self._held if held[0].expires > now]
        return None if self._held and now < self._held[0][0].issued + ISSUE_EVERY else self._issue(int(now))

    def outdo(self, told: RelayDescriptor, now: float) -> RelayDescriptor | None:
        """Return a new descriptor if `told` is ours, not the current one, and not older: a clock was set back.

        DescriptorError if it is not ours.
        """
        current = self.current
        if current is None or told.issued < current.issued or told.expires <= now or len(self._held) >= MOST:
            return None
        if told in (descriptor for descriptor, _ in self._held):
            return None
        told.verify(self._domain)
        return self._issue(told.issued + 1)

    def _issue(self, issued: int) -> RelayDescriptor:
        key = X25519PrivateKey.from_private_bytes(self._random(32))
        public = key.public_key().public_bytes_raw()
        where = (self._domain, self._host, self._port)
        descriptor = sign_descriptor(self._node_key, *where, public, issued, issued + LIFETIME)
        self._held.insert(0, (descriptor, key))
        return descriptor

    @property
    def current(self) -> RelayDescriptor | None:
        """The newest descriptor; None before the first `refresh`."""
        return self._held[0][0] if self._held else None

    @property
    def private_keys(self) -> tuple[X25519PrivateKey, ...]:
        """What `peel` tries, newest first."""
        return tuple(key for _, key in self._held)
