"""With whom this worker works: what the chain allows, narrowed by its operator's allow-list.

A counterpart's owner has to be on the list. An operator's address on it stands for the workers which that operator
itself has switched on, while the grant by their owner holds: an owner may name anyone as its operator without asking,
so the grant alone says nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from quietfleet.chain.types import Right, WorkerState
from quietfleet.crypto import checksum_address
from quietfleet.errors import PartnerRefused, SettingsError
from quietfleet.session import STATIC, Card, decode_card
from quietfleet.workers.messages import DEAL

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime

UNSEEN: Final = "the chain is out of sight"
APART: Final = "not registered, not active, or of a kind we do not work with"
UNLISTED: Final = "its owner is not on our allow-list"
NO_PEER: Final = "it is not one of our static peers any more"


class Partners:
    """Judges counterparts, before a session and as long as it lasts."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        section = runtime.settings.dispatch
        self._allow = frozenset(addresses(section.allow, "allow"))
        self.peers = addresses(section.peers, "peers")
        self._seen: tuple[int, bytes] | None = None

    def refusal(self, peer: str) -> str | None:
        """Say why we do not work with a peer at this block; None if we do."""
        registry = self._runtime.registry
        if registry.stale:
            return UNSEEN
        if not registry.can_cooperate(self._runtime.id, peer):
            return APART
        return None if self._listed(peer) else UNLISTED

    def checked(self, shown: bytes) -> Card:
        """Read the card of somebody we were introduced to; raises `CardRefused` or `PartnerRefused`."""
        card = decode_card(shown)
        self.check(card)
        return card

    def check(self, card: Card) -> None:
        """Hold a card against the chain as it is now, and its owner against our list; raises `PartnerRefused`."""
        messenger = self._runtime.messenger
        reason = self.refusal(card.worker)
        if reason is not None:
            raise PartnerRefused(reason)
        if not messenger.vouched(card):
            raise PartnerRefused("that card is not by its worker's present key")
        if messenger.epochs.secrets(card.version) is None:
            raise PartnerRefused("that card is of another configuration version")

    def moved(self) -> bool:
        """Tell whether there is a newer block since this was last asked: what was allowed may not be any more."""
        head = self._runtime.replica.head
        seen = (head.number, head.hash) if head else None
        moved, self._seen = seen != self._seen, seen
        return moved

    def recheck(self, worker: str | None = None) -> None:
        """End the sessions with whom we no longer work, of all or one; what the chain forbids everybody is over."""
        table = self._runtime.messenger.table
        for session in list(table.sessions.values()) if worker is None else table.with_peer(worker):
            reason = self._outdated(session.peer, session.purpose)
            if reason is not None:
                self._runtime.sever(session.peer, reason)

    def _outdated(self, peer: str, purpose: str) -> str | None:
        if purpose == STATIC and peer not in self.peers:
            return NO_PEER
        ours = purpose == STATIC or purpose.startswith(DEAL)
        return UNLISTED if ours and not self._listed(peer) else None

    def _listed(self, peer: str) -> bool:
        state = self._runtime.replica.worker(peer)
        if not self._allow or state is None:
            return not self._allow
        return state.owner in self._allow or self._entrusted(state)

    def _entrusted(self, state: WorkerState) -> bool:
        operator = state.switched_on_by
        if operator is None or operator not in self._allow:
            return False
        return Right.SWITCH_ON in self._runtime.replica.operator_rights(state.owner, operator)


def addresses(written: list[str], name: str) -> tuple[str, ...]:
    """Return a setting's addresses, each once and checksummed; SettingsError for one whose checksum is wrong."""
    found: dict[str, None] = {}
    for one in written:
        address = checksum_address(bytes.fromhex(one.removeprefix("0x")))
        plain = one.removeprefix("0x")
        if plain not in (plain.lower(), plain.upper(), address.removeprefix("0x")):
            raise SettingsError(f"[dispatch] {name}: {one} has a wrong checksum; look for a mistyped digit")
        found[address] = None
    return tuple(found)
