"""Who is proposed to whom: deterministic, fair among equals, and able to say why nobody was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256

import msgspec

from quietfleet.dispatch._deal import ListedOffer, QueuedSeek
from quietfleet.dispatch.messages import Offer, Reason, Seek, Terms

MayCooperate = Callable[[str, str], bool]


class Candidate(msgspec.Struct, frozen=True):
    """A listed offer and how many of its places are taken."""

    listed: ListedOffer
    used: int

    @property
    def spare(self) -> bool:
        return self.used < self.listed.offer.capacity

    def taken(self, now: float) -> Candidate:
        """Return this candidate after one more proposal, which sends it to the end of the turns."""
        return Candidate(msgspec.structs.replace(self.listed, since=now), self.used + 1)


def fits(seek: Seek, offer: Offer) -> bool:
    """Tell whether an offer of the sought capability meets the version and every constraint."""
    return offer.capability.version >= seek.min_version and all(c.holds(offer.attributes) for c in seek.constraints)


def choose(queued: QueuedSeek, candidates: Iterable[Candidate], may_cooperate: MayCooperate) -> Candidate | None:
    """Pick the provider whose turn it is, among those with a place that fit and may work with the seeker."""
    eligible = (c for c in candidates if _eligible(queued, c.listed, may_cooperate))
    return min(eligible, key=lambda c: _turn(queued, c), default=None)


def explain(queued: QueuedSeek, listed: list[ListedOffer], may_cooperate: MayCooperate) -> Reason:
    """Say which hurdle kept a seek from being paired, in terms that name nobody."""
    if not listed:
        return Reason.NO_OFFER
    fresh = msgspec.structs.replace(queued, declined=())
    return Reason.BUSY if any(_eligible(fresh, entry, may_cooperate) for entry in listed) else Reason.NO_FIT


def terms_of(seek: Seek, offer: Offer) -> Terms:
    """Return the terms of a deal: of the attributes only those asked about, since each one more tells who offers."""
    asked = {constraint.attribute for constraint in seek.constraints}
    shown = {name: value for name, value in offer.attributes.items() if name in asked}
    return Terms(offer.capability, shown, offer.expires)


def _eligible(queued: QueuedSeek, listed: ListedOffer, may_cooperate: MayCooperate) -> bool:
    return (
        listed.worker not in (queued.worker, *queued.declined)
        and fits(queued.seek, listed.offer)
        and may_cooperate(queued.worker, listed.worker)
    )


def _turn(queued: QueuedSeek, candidate: Candidate) -> tuple[bool, float, float, bytes]:
    """Order equals: reliable for this seek, least loaded, longest waiting, then a hash no provider can aim for."""
    listed = candidate.listed
    lot = sha256(f"{queued.seek.seek_id}{listed.offer.offer_id}{listed.worker}".encode()).digest()
    return (listed.worker in queued.late, candidate.used / listed.offer.capacity, listed.since, lot)
