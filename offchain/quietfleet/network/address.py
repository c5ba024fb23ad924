"""Where a relay listens, as an operator writes it."""

from __future__ import annotations

from dataclasses import dataclass

from quietfleet.errors import AddressError

_MAX_PORT = 0xFFFF


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
