from __future__ import annotations

import rlp as reference
from hypothesis import example, given
from hypothesis import strategies as st
from rlp.codec import consume_length_prefix
from rlp.exceptions import DecodingError

from quietfleet.crypto import rlp

ITEMS = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=5), max_leaves=12)


@given(ITEMS)
@example(b"x" * 300)
def test_encode__any_item__is_what_the_reference_writes(item) -> None:
    assert rlp.encode(item) == reference.encode(item)


@given(st.integers(0, 2**64))
def test_encode__integer__is_what_the_reference_writes(number: int) -> None:
    assert rlp.encode([number]) == reference.encode([number])


@given(st.binary(max_size=12) | ITEMS.map(reference.encode), st.integers(0, 3))
@example(b"\xb8\x00", 0)
@example(b"\x81\x05", 0)
@example(b"\xbf" + b"\xff" * 8, 0)
def test_span__any_bytes__is_what_the_reference_reads_where_all_of_it_is_there(data: bytes, at: int) -> None:
    try:
        _, kind, length, start = consume_length_prefix(data, at)
        expected = (kind, start, start + length) if start + length <= len(data) else None
    except (DecodingError, IndexError):
        expected = None
    try:
        found = rlp.span(data, at)
    except rlp.RlpError:
        found = None
    assert found == expected
