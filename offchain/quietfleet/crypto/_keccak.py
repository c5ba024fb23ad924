"""Keccak-256 from the best wheel this machine has."""

from __future__ import annotations

try:
    from quietfleet.crypto._keccak_pysha3 import absorb, keccak256
except ImportError:  # a platform without that wheel
    from quietfleet.crypto._keccak_pycryptodome import absorb, keccak256

__all__ = ["absorb", "keccak256"]
