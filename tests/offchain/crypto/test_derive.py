from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quietfleet.crypto import derive

PURPOSES = st.text(max_size=12)
CONTEXTS = st.lists(st.binary(max_size=6), max_size=3)
SECRET = b"secret"


def _hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 written out, with the empty salt."""
    key, block, output = hmac.digest(b"\x00" * 32, secret, "sha256"), b"", b""
    for counter in range(1, -(-length // hashlib.sha256().digest_size) + 1):
        block = hmac.digest(key, block + info + bytes((counter,)), "sha256")
        output += block
    return output[:length]


@pytest.mark.parametrize("length", [1, 32, 100])
def test_derive__known_purpose_and_context__is_hkdf_of_the_documented_label(length: int) -> None:
    label = b"quietfleet/1/topic"
    info = b"\x00\x00\x00\x12" + label + b"\x00\x00\x00\x02ab" + b"\x00\x00\x00\x00" + length.to_bytes(4, "big")
    assert derive(SECRET, "topic", b"ab", b"", length=length) == _hkdf(SECRET, info, length)


@given(PURPOSES, CONTEXTS, PURPOSES, CONTEXTS)
def test_derive__any_two_uses__never_collide(one: str, first: list[bytes], other: str, second: list[bytes]) -> None:
    assume((one, first) != (other, second))
    assert derive(SECRET, one, *first) != derive(SECRET, other, *second)


@given(CONTEXTS, st.integers(0, 6))
def test_derive__context_split_elsewhere__differs(context: list[bytes], at: int) -> None:
    joined = b"".join(context)
    split = [joined[:at], joined[at:]]
    assume(split != context)
    assert derive(SECRET, "p", *context) != derive(SECRET, "p", *split)


def test_derive__purpose_moved_into_context__differs() -> None:
    assert derive(SECRET, "ab", b"c") != derive(SECRET, "a", b"bc")


def test_derive__longer_output__does_not_extend_the_shorter_one() -> None:
    assert derive(SECRET, "p", length=64)[:32] != derive(SECRET, "p", length=32)


def test_derive__another_secret__differs() -> None:
    assert derive(SECRET, "p") != derive(b"other", "p")
