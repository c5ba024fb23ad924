"""The messaging network: one port, and the node of our own that implements it."""

from quietfleet.network.address import Address, Enode
from quietfleet.network.directory import Directory, key_address
from quietfleet.network.link import SHH, STEM, Link, LinkLayer, LinkTiming, Listener, Message
from quietfleet.network.mining import Mining
from quietfleet.network.node import EmbeddedNode
from quietfleet.network.port import Network
from quietfleet.network.relaying import Relaying
from quietfleet.network.rlpx import RlpxLinks
from quietfleet.network.sending import Sending, StemTuning
from quietfleet.network.tuning import Tuning

__all__ = [
    "SHH",
    "STEM",
    "Address",
    "Directory",
    "EmbeddedNode",
    "Enode",
    "Link",
    "LinkLayer",
    "LinkTiming",
    "Listener",
    "Message",
    "Mining",
    "Network",
    "Relaying",
    "RlpxLinks",
    "Sending",
    "StemTuning",
    "Tuning",
    "key_address",
]
