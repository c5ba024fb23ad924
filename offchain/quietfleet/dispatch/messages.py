"""What workers and the Dispatch Oracle say to each other (paper IV.C).

Ids are 32 hex digits that their maker draws at random, so that none derives from an identity. Times are Unix seconds.
Limits stand in the types: a decoder refuses what exceeds them before the oracle sees it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from quietfleet.session import Finite

Id = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Tags = Annotated[tuple[Name, ...], Meta(max_length=32)]
Value = Annotated[str, Meta(max_length=256)] | Finite | Tags
Attributes = Annotated[dict[Name, Value], Meta(max_length=32)]
Price = Annotated[float, Meta(ge=0, le=1e15)]
MAX_REPLY_KEYS = 64
ReplyKey = Annotated[bytes, Meta(min_length=32, max_length=32)]
SealedCard = Annotated[bytes, Meta(max_length=16_384)]
Sentence = Annotated[str, Meta(max_length=256)]


class Reason(StrEnum):
    """Why a seek was refused or a deal failed; none names anybody.

    A failed deal has one reason for every cause: a more exact one could be matched with a public event on chain and so
    name a counterpart that has not agreed to be known.
    """

    NO_OFFER = "no worker offers this capability"
    NO_VERSION = "every offer of this capability is of an older version"
    NO_FIT = "no offer of this capability and version meets the constraint on "  # and all before it
    TOO_DEAR = "every offer that fits costs more than the seek would pay"
    NOT_ALLOWED = "the chain lets no worker whose offer fits work with this one"
    BUSY = "every worker that could serve is busy, or declined or was declined"
    EXPIRED = "the seek had expired when it arrived"
    TOO_LONG = "the seek would wait for longer than a day"
    OVER = "a seek of this id has been answered before"
    QUOTA = "too many seeks of this worker are open"
    NO_ANSWER = "the proposal was not answered in time"
    FELL_THROUGH = "the other side is not available"
    UNKNOWN = "no such deal is open"


class Capability(msgspec.Struct, frozen=True):
    """A service by name and version, with the schemas that its requests and replies follow."""

    name: Name
    version: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    request_schema: Name
    reply_schema: Name


class Equals(msgspec.Struct, frozen=True, tag="equals"):
    """The attribute has exactly this value."""

    attribute: Name
    value: Value

    def holds(self, attributes: dict[str, Value]) -> bool:
        return attributes.get(self.attribute) == self.value

    def words(self) -> tuple[Value, ...] | None:
        """The values one of which the attribute must be, or have among its tags; None if that does not say it all."""
        return (self.value,) if isinstance(self.value, str) else None


class Between(msgspec.Struct, frozen=True, tag="between"):
    """The attribute is a number within these inclusive bounds."""

    attribute: Name
    low: float = float("-inf")
    high: float = float("inf")

    def holds(self, attributes: dict[str, Value]) -> bool:
        value = attributes.get(self.attribute)
        return isinstance(value, int | float) and self.low <= value <= self.high

    def words(self) -> None:
        """A range has no words."""


class OneOf(msgspec.Struct, frozen=True, tag="one-of"):
    """The attribute is one of these words: an allowed set of regions, for instance."""

    attribute: Name
    values: Annotated[tuple[Name, ...], Meta(max_length=64)]

    def holds(self, attributes: dict[str, Value]) -> bool:
        return attributes.get(self.attribute) in self.values

    def words(self) -> tuple[Value, ...]:
        """As of `Equals`."""
        return self.values


class Includes(msgspec.Struct, frozen=True, tag="includes"):
    """The attribute is a set of tags, this one among them."""

    attribute: Name
    value: Name

    def holds(self, attributes: dict[str, Value]) -> bool:
        tags = attributes.get(self.attribute)
        return isinstance(tags, tuple) and self.value in tags

    def words(self) -> tuple[Value, ...]:
        """As of `Equals`."""
        return (self.value,)


Constraint = Equals | Between | OneOf | Includes


class Offer(msgspec.Struct, frozen=True, tag="dispatch.offer/1"):
    """A provider lists a service; the same id with a later expiry renews it and opens it again.

    Each deal takes one of the one-time keys. A renewal's keys replace those that are left. Without any, the
    offer rests.
    """

    offer_id: Id
    capability: Capability
    attributes: Attributes
    capacity: Annotated[int, Meta(ge=1, le=10_000)]
    expires: Finite
    reply_keys: Annotated[tuple[ReplyKey, ...], Meta(max_length=MAX_REPLY_KEYS)] = ()
    price: Price = 0.0


class Withdraw(msgspec.Struct, frozen=True, tag="dispatch.withdraw/1"):
    """A provider takes its offer back; pairings already introduced are left alone."""

    offer_id: Id


class OfferState(msgspec.Struct, frozen=True, tag="dispatch.offer-state/1"):
    """The oracle tells a provider whether its offer takes part in matching."""

    offer_id: Id
    open: bool


class Seek(msgspec.Struct, frozen=True, tag="dispatch.seek/1"):
    """A worker asks to be paired; `expires` is how long it will wait in the queue.

    The one-time key serves one deal. After a failed one, the same id with another key takes part again.
    """

    seek_id: Id
    capability: Name
    min_version: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    constraints: Annotated[tuple[Constraint, ...], Meta(max_length=16)]
    expires: Finite
    reply_key: ReplyKey
    max_price: Price = 0.0


class Refusal(msgspec.Struct, frozen=True, tag="dispatch.refusal/1"):
    """The oracle closes a seek and says why."""

    seek_id: Id
    reason: Sentence


class Terms(msgspec.Struct, frozen=True):
    """All that either side learns before both accept: the service, the attributes asked about, how long it holds."""

    capability: Capability
    attributes: Attributes
    expires: Finite
    price: Price = 0.0


class Proposal(msgspec.Struct, frozen=True, tag="dispatch.proposal/1"):
    """The oracle proposes the same terms to both sides under an id drawn for this deal alone.

    `own_key` is the receiver's one-time key that this deal takes, `other_key` the other side's.
    """

    deal_id: Id
    terms: Terms
    initiator: bool
    own_key: ReplyKey
    other_key: ReplyKey


class Accept(msgspec.Struct, frozen=True, tag="dispatch.accept/1"):
    """A side agrees and leaves its identity card, sealed to the other side's one-time key."""

    deal_id: Id
    card: SealedCard


class Decline(msgspec.Struct, frozen=True, tag="dispatch.decline/1"):
    """A side disagrees; its reason stays with the oracle. `full` says that it is for want of room alone."""

    deal_id: Id
    reason: Sentence
    full: bool = False


class Introduction(msgspec.Struct, frozen=True, tag="dispatch.introduction/1"):
    """Both accepted: the other side's sealed card; the initiator, who sought, opens the session."""

    deal_id: Id
    card: SealedCard
    initiator: bool


class DealFailed(msgspec.Struct, frozen=True, tag="dispatch.deal-failed/1"):
    """The deal will not be concluded; a seek behind it is back in the queue, and waits there for a fresh key."""

    deal_id: Id
    reason: Sentence


class Release(msgspec.Struct, frozen=True, tag="dispatch.release/1"):
    """The session of a deal has ended, or never was `opened`; its place at the provider is free."""

    deal_id: Id
    opened: bool = True


class Released(msgspec.Struct, frozen=True, tag="dispatch.released/1"):
    """A concluded deal is over: the other side has left it or is gone, or its terms have ended."""

    deal_id: Id


FromWorker = Offer | Withdraw | Seek | Accept | Decline | Release
FromOracle = OfferState | Refusal | Proposal | Introduction | DealFailed | Released
Message = FromWorker | FromOracle


class Outgoing(msgspec.Struct, frozen=True):
    """A message and the worker it goes to."""

    worker_id: str
    message: FromOracle
