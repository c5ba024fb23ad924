"""Zero trust on record: each message that was accepted, by what the chain said at that moment; never what it said.

Each entry says who, what kind of message, by which rule, and the block that was the newest known: its number, the
beginning of its hash, its age. What was refused of known peers is counted, and entered once a minute and peer at most,
so that nobody fills a disk by being refused.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from quietfleet.crypto import derive
from quietfleet.session import Decision

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime

ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
EVERY: Final = 60.0  # seconds between two entries about what was refused of one peer
COUNTED: Final = 256  # peers counted apart in that time; further ones are counted together
OTHERS: Final = "others"
SOMEBODY: Final = "somebody"
UNKNOWN: Final = "unknown"  # whose pseudonym there is no key for
_HASH: Final = 8  # bytes of a block's hash
_NAME: Final = 8  # bytes of a pseudonym


class _Refusals:
    """What was refused of one peer since when, by reason."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.reasons: Counter[str] = Counter()


class Trail:
    """Enters decisions into a worker's audit log."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._refused: dict[str, _Refusals] = {}

    def who(self, peer: str) -> str:
        """The name a peer has in the trail: its id; for a veiled worker a pseudonym that ends with the epoch.

        The key of pseudonyms comes from the epoch's own, and is gone with it.
        """
        if not self._runtime.veiled:
            return peer
        epochs = self._runtime.messenger.epochs
        configuration = epochs.in_force(self._runtime.clock.now())
        secrets = epochs.secrets(configuration.epoch) if configuration else None
        if secrets is None:
            return UNKNOWN
        return derive(secrets.hpke.to_bytes(), "audit pseudonym", peer.encode(), length=_NAME).hex()

    def parted(self, peer: str) -> str:
        """The name of a peer in an entry whose time anybody can match with an event on chain; a veiled worker has none.

        A pseudonym there would be known for whose it is, and with it all other entries under it.
        """
        return SOMEBODY if self._runtime.veiled else peer

    def decided(self, decision: Decision) -> None:
        """Take note of what the session layer decided, inside its transaction."""
        if decision.accepted:
            self._accepted(decision)
        else:
            self._count(self.parted(decision.peer), decision.why)

    def tick(self) -> None:
        """Enter what was refused, of each peer once its minute is over."""
        now = self._runtime.clock.now()
        self._enter([who for who, one in self._refused.items() if not one.since <= now < one.since + EVERY])

    def flush(self) -> None:
        """Enter all that was refused: the worker stops."""
        self._enter(list(self._refused))

    def _accepted(self, decision: Decision) -> None:
        now, head = self._runtime.clock.now(), self._runtime.replica.head
        detail: dict[str, Any] = {"who": self.who(decision.peer), "what": decision.what, "why": decision.why}
        if head is not None:
            seen = {"block": head.number, "hash": head.hash[:_HASH].hex(), "age": round(now - head.timestamp, 1)}
            detail |= seen
        self._runtime.audit.append(ACCEPTED, detail, now)

    def _count(self, who: str, why: str) -> None:
        if who not in self._refused and len(self._refused) >= COUNTED:
            who = OTHERS
        one = self._refused.setdefault(who, _Refusals(self._runtime.clock.now()))
        one.reasons[why] += 1

    def _enter(self, whom: list[str]) -> None:
        for who in whom:
            one = self._refused.pop(who)
            self._runtime.audit.append(
                REFUSED, {"who": who, "why": dict(one.reasons), "since": one.since}, self._runtime.clock.now()
            )
