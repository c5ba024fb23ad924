"""What a relay carries: the fleet's limits, applied to each envelope before it costs anything.

A broken rule drops the envelope and never the peer: Whisper nodes that disconnected for it lost each other to
nothing but clock skew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from quietfleet.whisper._envelope import Envelope
from quietfleet.whisper.bloom import FULL_BLOOM, admits
from quietfleet.whisper.pow import pow_of

CLOCK_SKEW: Final = 10  # seconds an envelope may come from the future, as geth allows


class DropReason(StrEnum):
    """Why an envelope went no further; the label its counter carries."""

    MALFORMED = "malformed"
    OVERSIZE = "oversize"
    TTL_TOO_LONG = "ttl_too_long"
    EXPIRED = "expired"
    FROM_FUTURE = "from_future"
    BLOOM_MISMATCH = "bloom_mismatch"
    LOW_POW = "low_pow"
    DUPLICATE = "duplicate"
    POOL_FULL = "pool_full"


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits of one configuration: `max_ttl` in seconds, `max_size` in bytes of envelope data.

    Until `previous_until` (Unix seconds), what the `previous` rules allow passes too, so that a change of
    configuration loses no message under way.
    """

    min_pow: float = 0.2
    max_ttl: int = 3600
    max_size: int = 1 << 20
    bloom: bytes = FULL_BLOOM
    previous: Rules | None = None
    previous_until: float = 0.0


def judge(envelope: Envelope, now: float, rules: Rules) -> DropReason | None:
    """Return why `rules` drop the envelope at `now`, cheapest reason first, or None if they let it pass."""
    return _either(_judge, envelope, now, rules)


def judge_cheaply(envelope: Envelope, now: float, rules: Rules) -> DropReason | None:
    """As `judge`, without looking at the proof of work."""
    return _either(_judge_limits, envelope, now, rules)


_Judgement = Callable[[Envelope, int, Rules], DropReason | None]


def _either(judgement: _Judgement, envelope: Envelope, now: float, rules: Rules) -> DropReason | None:
    reason = judgement(envelope, int(now), rules)
    if reason and rules.previous and now < rules.previous_until:
        return judgement(envelope, int(now), rules.previous)
    return reason


def _judge(envelope: Envelope, now: int, rules: Rules) -> DropReason | None:
    reason = _judge_limits(envelope, now, rules)
    if reason is None and pow_at(envelope, now) < rules.min_pow:
        return DropReason.LOW_POW
    return reason


def _judge_limits(envelope: Envelope, now: int, rules: Rules) -> DropReason | None:  # noqa: PLR0911 -- one line a rule
    if not 0 < envelope.ttl <= envelope.expiry:
        return DropReason.MALFORMED
    if len(envelope.data) > rules.max_size:
        return DropReason.OVERSIZE
    if envelope.ttl > rules.max_ttl:
        return DropReason.TTL_TOO_LONG
    if envelope.expiry < now:
        return DropReason.EXPIRED
    if envelope.sent > now + CLOCK_SKEW:
        return DropReason.FROM_FUTURE
    if rules.bloom != FULL_BLOOM and not admits(rules.bloom, envelope.topic):
        return DropReason.BLOOM_MISMATCH
    return None


def pow_at(envelope: Envelope, now: float) -> float:
    """Return the proof of work at `now`: what comes from the future pays for the time until then, as with geth."""
    early = envelope.sent - int(now)
    return pow_of(envelope, early + 1 if early > 0 else 0)
