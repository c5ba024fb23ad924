"""Where a relay listens and who it is, as an operator writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from quietfleet.errors import AddressError

NODE_ID_SIZE = 64
_MAX_PORT = 0xFFFF
_SCHEME = "enode://"
_NODE_ID = re.compile(rf"[0-9A-Fa-f]{{{2 * NODE_ID_SIZE}}}")  # bytes.fromhex would pass over spaces


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A host name or IP address and a TCP port; port 0 lets the machine choose when listening."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host:port` or `[ipv6]:port`; raise AddressError on anything else."""
        host, separator, port = text.rpartition(":")
        if not separator or not _is_port(port):
            raise AddressError(repr(text))
        return cls(_bare_host(host, text), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, order=True)
class Enode:
    """A listening node: its 64-byte public key and its address, written `enode://<128 hex digits>@host:port`."""

    node_id: bytes
    address: Address

    @classmethod
    def parse(cls, text: str) -> Enode:
        """Read an enode URL; raise AddressError on anything else. A discovery port after `?` is ignored."""
        key, separator, place = text.removeprefix(_SCHEME).partition("@")
        if not text.startswith(_SCHEME) or not separator or not _NODE_ID.fullmatch(key):
            raise AddressError(repr(text))
        return cls(bytes.fromhex(key), Address.parse(place.partition("?")[0]))

    def __str__(self) -> str:
        return f"{_SCHEME}{self.node_id.hex()}@{self.address}"


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(_MAX_PORT)) and int(text) <= _MAX_PORT


def _bare_host(host: str, text: str) -> str:
    """Strip an IPv6 address's brackets; without them its colons would be ambiguous."""
    if host.startswith("[") and host.endswith("]"):
        host, colons = host[1:-1], True
    else:
        colons = False
    if not host or (":" in host) != colons or any(char.isspace() or char in "[]/@" for char in host):
        raise AddressError(repr(text))
    return host
