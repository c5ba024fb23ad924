"""Whisper v6 without I/O: envelopes, their content, their proof of work, and what a relay does with them."""

from quietfleet.whisper._envelope import (
    HEADER_SIZE,
    TOPIC_SIZE,
    Envelope,
    decode_envelope,
    encode_bundle,
    split_bundle,
)
from quietfleet.whisper.bloom import (
    BLOOM_BITS,
    BLOOM_SIZE,
    FULL_BLOOM,
    TOPIC_ENTROPY,
    admits,
    aggregate,
    draw_bloom,
    geth_topic_bloom,
    matches,
    read_bloom,
    topic_bloom,
    topic_within,
)
from quietfleet.whisper.mining import fastest_search
from quietfleet.whisper.payload import (
    MAX_PAYLOAD,
    Opened,
    open_asymmetric,
    open_symmetric,
    password_key,
    room,
    seal_asymmetric,
    seal_symmetric,
)
from quietfleet.whisper.pool import Added, Pool
from quietfleet.whisper.pow import Search, legacy_pow_of, mine, pow_of, search_plain, target_bits
from quietfleet.whisper.rules import CLOCK_SKEW, DropReason, Rules, judge, judge_cheaply, pow_at
from quietfleet.whisper.urgency import urgency

__all__ = [
    "BLOOM_BITS",
    "BLOOM_SIZE",
    "CLOCK_SKEW",
    "FULL_BLOOM",
    "HEADER_SIZE",
    "MAX_PAYLOAD",
    "TOPIC_ENTROPY",
    "TOPIC_SIZE",
    "Added",
    "DropReason",
    "Envelope",
    "Opened",
    "Pool",
    "Rules",
    "Search",
    "admits",
    "aggregate",
    "decode_envelope",
    "draw_bloom",
    "encode_bundle",
    "fastest_search",
    "geth_topic_bloom",
    "judge",
    "judge_cheaply",
    "legacy_pow_of",
    "matches",
    "mine",
    "open_asymmetric",
    "open_symmetric",
    "password_key",
    "pow_at",
    "pow_of",
    "read_bloom",
    "room",
    "seal_asymmetric",
    "seal_symmetric",
    "search_plain",
    "split_bundle",
    "target_bits",
    "topic_bloom",
    "topic_within",
    "urgency",
]
