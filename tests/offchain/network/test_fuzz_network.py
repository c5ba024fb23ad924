"""Addresses as anybody may write them into a list on chain."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.errors import AddressError
from quietfleet.network.address import NODE_ID_SIZE, Address, Enode

HEX = st.text("0123456789abcdefABCDEF \t\n_-x٣", min_size=128, max_size=128)


@given(st.text(max_size=80) | st.builds("{}:{}".format, st.text(max_size=20), st.integers(-1, 70_000)))
def test_address__any_text__is_refused_or_comes_back(text):
    with suppress(AddressError):
        address = Address.parse(text)
        assert Address.parse(str(address)) == address


@given(HEX | st.binary(min_size=64, max_size=64).map(bytes.hex), st.text(max_size=10))
def test_enode__any_key_and_query__is_refused_or_has_a_whole_key(key, query):
    with suppress(AddressError):
        enode = Enode.parse(f"enode://{key}@relay.example:30303?{query}")
        assert len(enode.node_id) == NODE_ID_SIZE
        assert Enode.parse(str(enode)) == enode


def test_enode__key_with_spaces_for_digits__is_refused():
    with pytest.raises(AddressError):
        Enode.parse(f"enode://{'ab ' * 42}ab@relay.example:30303")
