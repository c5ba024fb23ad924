"""Who is proposed to whom: deterministic, fair among equals, and able to say why nobody was found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from quietfleet.dispatch._deal import ListedOffer, QueuedSeek
from quietfleet.dispatch.messages import Offer, Reason, Seek, Terms


class Registry(Protocol):
    """What the oracle asks the chain."""

    def usable(self, worker: str) -> bool:
        """Tell whether a worker may work at all now."""
        ...

    def can_cooperate(self, a: str, b: str) -> bool:
        """Tell whether these two may work together now."""
        ...


def fits(seek: Seek, offer: Offer) -> bool:
    """Tell whether an offer of the sought capability meets the version, the price and every constraint."""
    return (
        offer.capability.version >= seek.min_version
        and offer.price <= seek.max_price
        and all(c.holds(offer.attributes) for c in seek.constraints)
    )


def choose(queued: QueuedSeek, in_turn: Iterable[ListedOffer], registry: Registry) -> ListedOffer | None:
    """Pick the first of the fitting offers that may serve this seek; those that let it down before come last."""
    last_resort = None
    for listed in in_turn:
        if listed.worker in (queued.worker, *queued.declined):
            continue
        if not registry.can_cooperate(queued.worker, listed.worker):
            continue
        if listed.worker not in queued.late:
            return listed
        last_resort = last_resort or listed
    return last_resort


def explain(queued: QueuedSeek, listed: Iterable[ListedOffer], registry: Registry) -> str:
    """Name the first hurdle at which no offer was left, in terms that name nobody."""
    seek, left = queued.seek, [entry for entry in listed if entry.worker != queued.worker]
    if not left:
        return Reason.NO_OFFER
    left = [entry for entry in left if entry.offer.capability.version >= seek.min_version]
    if not left:
        return Reason.NO_VERSION
    for constraint in seek.constraints:
        left = [entry for entry in left if constraint.holds(entry.offer.attributes)]
        if not left:
            return Reason.NO_FIT + constraint.attribute
    left = [entry for entry in left if entry.offer.price <= seek.max_price]
    if not left:
        return Reason.TOO_DEAR
    allowed = any(registry.can_cooperate(queued.worker, entry.worker) for entry in left)
    return Reason.BUSY if allowed else Reason.NOT_ALLOWED


def terms_of(seek: Seek, offer: Offer) -> Terms:
    """Return the terms of a deal: of the attributes only those asked about, since each one more tells who offers."""
    asked = {constraint.attribute for constraint in seek.constraints}
    shown = {name: value for name, value in offer.attributes.items() if name in asked}
    return Terms(offer.capability, shown, offer.expires, offer.price)
