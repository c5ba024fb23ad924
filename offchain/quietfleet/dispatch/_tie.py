"""What the two sides of a deal must have been told alike, and the cards that are sealed under it.

A card is sealed to the other side's one-time key and tied to the deal's id, its terms and both keys. An oracle that
tells the sides different terms makes the cards unreadable. One that puts keys of its own in between can read them, but
not make the two ties equal: the session's purpose names the tie, both sides sign it, and no session opens.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Final

import msgspec

from quietfleet.crypto import keccak256
from quietfleet.crypto.onetime import OneTimeKey, seal_once
from quietfleet.dispatch.messages import Proposal, Terms

_ID_SIZE: Final = 32  # characters of a deal's id
_NAMED: Final = 19  # bytes of the digest in a tie's name: two ties of one name take 2^76 attempts


class Tie(msgspec.Struct, frozen=True, array_like=True):
    """A deal as one side was told it."""

    deal_id: str
    terms: Terms
    seeker_key: bytes
    provider_key: bytes

    @property
    def digest(self) -> bytes:
        """32 bytes that stand for all of it."""
        return keccak256(msgspec.msgpack.encode(self))

    @property
    def name(self) -> str:
        """58 characters for the purpose of the session: the deal's id, then its digest."""
        return self.deal_id + urlsafe_b64encode(self.digest[:_NAMED]).decode().rstrip("=")


def tie_of(proposal: Proposal) -> Tie:
    """Return the tie that a proposal makes."""
    keys = (proposal.own_key, proposal.other_key)
    seeker_key, provider_key = keys if proposal.initiator else reversed(keys)
    return Tie(proposal.deal_id, proposal.terms, seeker_key, provider_key)


def deal_of(name: str) -> str:
    """Return the deal's id in a tie's name."""
    return name[:_ID_SIZE]


def seal_card(tie: Tie, card: bytes, *, from_seeker: bool) -> bytes:
    """Seal a card for the other side; CryptoError if that side's key is none."""
    return seal_once(tie.provider_key if from_seeker else tie.seeker_key, card, _info(tie, from_seeker))


def open_card(tie: Tie, key: OneTimeKey, sealed: bytes, *, from_seeker: bool) -> bytes:
    """Open the other side's card; CryptoError if that side was told anything else, or it was altered."""
    return key.open(sealed, _info(tie, from_seeker))


def _info(tie: Tie, from_seeker: bool) -> bytes:
    return b"quietfleet deal" + tie.digest + bytes([from_seeker])
