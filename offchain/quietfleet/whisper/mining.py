"""Proof of work by the fastest means at hand: vectors where numba is installed, hashing one by one where it is not."""

from __future__ import annotations

from quietfleet.whisper.pow import Search, search_plain


def fastest_search() -> Search:
    """Return the fastest search for a nonce on this machine; the first call with numba takes a second."""
    try:
        from quietfleet.whisper.mining_vector import search_vector  # noqa: PLC0415 -- half a second and 100 MB
    except (ImportError, RuntimeError):  # the latter where numba finds no folder to keep what it compiled
        return search_plain
    return search_vector
