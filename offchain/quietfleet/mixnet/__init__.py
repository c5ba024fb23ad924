"""Onion packets, paths and cover traffic, without I/O."""

from quietfleet.mixnet.book import OwnerOf, Relay, RelayBook, Verdict
from quietfleet.mixnet.cover import DEFAULT_LOADS, Load, Schedule, cost, loads
from quietfleet.mixnet.descriptor import MAX_DESCRIPTOR, RelayDescriptor, decode_descriptor, sign_descriptor
from quietfleet.mixnet.embargo import Due, Embargo, Patience
from quietfleet.mixnet.guards import Guards, GuardView
from quietfleet.mixnet.mix import Mix
from quietfleet.mixnet.onion_keys import OnionKeys
from quietfleet.mixnet.packet import (
    CAPACITIES,
    DELAY_SHARES,
    HOPS,
    LONGEST_LIFE,
    PACKET_SIZES,
    Drop,
    Fault,
    Flood,
    Forward,
    Peeled,
    build,
    coarse_expiry,
    draw_delays,
    peel,
    size_class,
    tag_of,
)
from quietfleet.mixnet.path import Path, check_coverage, choose_path
from quietfleet.mixnet.replay import ReplayCache

__all__ = [
    "CAPACITIES",
    "DEFAULT_LOADS",
    "DELAY_SHARES",
    "HOPS",
    "LONGEST_LIFE",
    "MAX_DESCRIPTOR",
    "PACKET_SIZES",
    "Drop",
    "Due",
    "Embargo",
    "Fault",
    "Flood",
    "Forward",
    "GuardView",
    "Guards",
    "Load",
    "Mix",
    "OnionKeys",
    "OwnerOf",
    "Path",
    "Patience",
    "Peeled",
    "Relay",
    "RelayBook",
    "RelayDescriptor",
    "ReplayCache",
    "Schedule",
    "Verdict",
    "build",
    "check_coverage",
    "choose_path",
    "coarse_expiry",
    "cost",
    "decode_descriptor",
    "draw_delays",
    "loads",
    "peel",
    "sign_descriptor",
    "size_class",
    "tag_of",
]
