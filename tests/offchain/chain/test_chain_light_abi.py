from __future__ import annotations

from contextlib import suppress

import pytest
from eth_abi.abi import decode as reference
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.chain.light_abi import decode
from quietfleet.errors import AbiError

PLAIN = {
    "uint256": st.integers(0, 2**256 - 1),
    "uint8": st.integers(0, 255),
    "uint40": st.integers(0, 2**40 - 1),
    "int256": st.integers(-(2**255), 2**255 - 1),
    "int16": st.integers(-(2**15), 2**15 - 1),
    "bool": st.booleans(),
    "address": st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
    "bytes32": st.binary(min_size=32, max_size=32),
    "bytes4": st.binary(min_size=4, max_size=4),
    "bytes": st.binary(max_size=70),
    "string": st.text(max_size=40),
}


def _larger(inner):
    def grown(parts):
        kinds, values = zip(*parts, strict=True)
        return f"({','.join(kinds)})", st.tuples(*values)

    many = inner.map(lambda one: (one[0] + "[]", st.lists(one[1], max_size=3).map(tuple)))
    fixed = st.tuples(inner, st.integers(1, 3)).map(lambda it: (f"{it[0][0]}[{it[1]}]", st.tuples(*[it[0][1]] * it[1])))
    return many | fixed | st.lists(inner, min_size=1, max_size=3).map(grown)


KINDS = st.recursive(st.sampled_from(sorted(PLAIN.items())), _larger, max_leaves=5)


@st.composite
def encoded(draw):
    kinds = draw(st.lists(KINDS, min_size=1, max_size=4))
    values = tuple(draw(strategy) for _, strategy in kinds)
    types = [kind for kind, _ in kinds]
    return types, values, encode(types, values)


@given(encoded())
def test_decode__what_eth_abi_encoded__comes_back(case):
    types, values, data = case
    assert decode(types, data) == values == reference(types, data)


@given(encoded(), st.data())
def test_decode__tampered_data__is_refused_or_read_as_eth_abi_reads_it(case, draw):
    types, _, data = case
    raw = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        raw[draw.draw(st.integers(0, len(raw) - 1))] = draw.draw(st.integers(0, 255))
    cut = bytes(raw[: draw.draw(st.integers(0, len(raw)))])
    for hostile in (bytes(raw), cut):
        with suppress(AbiError):
            found = decode(types, hostile)
            try:
                expected = reference(types, hostile)
            except UnicodeDecodeError:  # where eth_abi gives up, we read with replacements
                continue
            assert found == expected


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("uint256[]", (32).to_bytes(32, "big") + b"\xff" * 32),
        ("string[]", (32).to_bytes(32, "big") + (2**60).to_bytes(32, "big")),
        ("bytes", (32).to_bytes(32, "big") + b"\xff" * 32),
        ("string", (2**255).to_bytes(32, "big") + bytes(32)),
        ("bytes[]", (0).to_bytes(32, "big") * 3),
    ],
)
def test_decode__lengths_and_pointers_beyond_the_data__are_refused_at_once(kind, data):
    with pytest.raises(AbiError):
        decode([kind], data)


def test_decode__a_type_nobody_knows__says_so():
    with pytest.raises(AbiError, match="no type"):
        decode(["fixed128x18"], bytes(32))
