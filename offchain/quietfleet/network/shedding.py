"""Who has to go when there is no room for another peer that dialled us."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from quietfleet.network.peer import Peer

HARMFUL: Final = 100.0  # units lately: ten worthless envelopes, or a fifth of a second's reading above its pace


def worst(inbound: Iterable[Peer], newcomer: Peer, now: float) -> Peer | None:
    """Return the stranger to close for a newcomer; None if the newcomer is no better.

    The most harmful of late comes first; then, of the address with the most links, the newest. How much a peer has
    brought in all does not count, or who comes new would displace whoever stayed and worked. A stranger displaces
    only the harmful, and links of an address that has at least two more than its own: nobody keeps all places by
    dialling first. A registered relay displaces any stranger and no other relay.
    """
    strangers = [peer for peer in inbound if not peer.registered]
    crowds = Counter(peer.link.remote.host for peer in strangers)

    def badness(place: int) -> tuple[float, int, int]:
        harm = strangers[place].harm.at(now)
        return harm if harm >= HARMFUL else 0.0, crowds[strangers[place].link.remote.host], place

    place = max(range(len(strangers)), key=badness, default=None)
    if place is None:
        return None
    harm, crowd, _ = badness(place)
    room = newcomer.registered or harm > 0 or crowd > crowds[newcomer.link.remote.host] + 1
    return strangers[place] if room else None
