"""The messaging network: one port, and the node of our own that implements it."""

from quietfleet.network.address import Address, Enode
from quietfleet.network.archive import Archive, Limits
from quietfleet.network.archiving import Archiving
from quietfleet.network.backfill import Backfill
from quietfleet.network.chain_asking import ChainAsking
from quietfleet.network.chain_serving import ChainServing, ShowingLimits
from quietfleet.network.delegated import DelegatedMining, Miner, WorkService
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
    "Archive",
    "Archiving",
    "Backfill",
    "ChainAsking",
    "ChainServing",
    "DelegatedMining",
    "Directory",
    "EmbeddedNode",
    "Enode",
    "Limits",
    "Link",
    "LinkLayer",
    "LinkTiming",
    "Listener",
    "Message",
    "Miner",
    "Mining",
    "Network",
    "Relaying",
    "RlpxLinks",
    "Sending",
    "ShowingLimits",
    "StemTuning",
    "Tuning",
    "WorkService",
    "key_address",
]
