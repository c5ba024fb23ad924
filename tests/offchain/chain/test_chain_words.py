"""Single words are decoded by hand, for speed: as eth_abi decodes them, and refused where it refuses them."""

from __future__ import annotations

import pytest
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.chain import abi
from quietfleet.errors import AbiError

KINDS = ("address", "bool", "bytes32", "uint8", "uint32", "uint40", "uint96", "uint256")
OTHERS = ("string", "bytes", "bytes24", "int8", "uint8[]", "(uint8,bool)", "uint256[2]")


@st.composite
def words(draw):
    """Types with bytes that are mostly of them, some with a bit too many, some cut short."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6))
    numbers = [draw(st.integers(0, (1 << draw(st.sampled_from((1, 8, 32, 160, 256)))) - 1)) for _ in kinds]
    data = b"".join(number.to_bytes(32, "big") for number in numbers) + draw(st.binary(max_size=40))
    return kinds, data[: draw(st.sampled_from((len(data), len(data), len(data), 31)))]


def described(kinds):
    return [{"name": f"word{place}", "type": kind, "indexed": False} for place, kind in enumerate(kinds)]


def by_hand(kinds, data):
    """What an event of these words says, or that it is refused."""
    ((topic, decoder),) = abi.Abi([{"type": "event", "name": "Said", "inputs": described(kinds)}]).events.items()
    assert decoder.values is not None
    try:
        return decoder.decode([topic], data)
    except AbiError:
        return "refused"


def by_eth_abi(kinds, data):
    try:
        return abi.named(described(kinds), decode(kinds, data))
    except DecodingError:
        return "refused"


@given(words())
def test_words__any_bytes__are_what_eth_abi_makes_of_them(case):
    assert by_hand(*case) == by_eth_abi(*case)


@pytest.mark.parametrize("kind", OTHERS)
def test_words__anything_else__is_left_to_eth_abi(kind):
    assert not abi._by_hand(kind)
