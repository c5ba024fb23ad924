"""Keccak-256 from the best wheel this machine has."""

from __future__ import annotations

try:
    from quietfleet.crypto._keccak_pysha3 import keccak256, keccak256_each, running_keccak
except ImportError:  # a platform without that wheel
    from quietfleet.crypto._keccak_pycryptodome import keccak256, keccak256_each, running_keccak

__all__ = ["keccak256", "keccak256_each", "running_keccak"]
