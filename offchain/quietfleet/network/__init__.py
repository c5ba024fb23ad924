"""The messaging network: one port, and the node of our own that implements it."""

from quietfleet.network.address import Address
from quietfleet.network.link import Link, LinkLayer, LinkTiming, Listener, TcpLinks
from quietfleet.network.node import EmbeddedNode
from quietfleet.network.port import Network
from quietfleet.network.tuning import Tuning

__all__ = ["Address", "EmbeddedNode", "Link", "LinkLayer", "LinkTiming", "Listener", "Network", "TcpLinks", "Tuning"]
