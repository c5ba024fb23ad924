"""The tree over a log: RFC 6962's own numbers, every size and place, and proofs that somebody bent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.storage._merkle import EMPTY, includes, inclusion, leaf_hash, merkle_root

# Entries and roots that certificate-transparency implementations hold each other against (public test vectors).
ENTRIES = [
    bytes.fromhex(text)
    for text in ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LEAVES = [leaf_hash(bytes([number])) for number in range(40)]


@pytest.mark.parametrize("size", range(1, 9))
def test_root__known_entries__is_the_known_one(size):
    assert merkle_root([leaf_hash(entry) for entry in ENTRIES[:size]]).hex() == ROOTS[size - 1]


def test_root__of_nothing__is_the_hash_of_nothing():
    assert merkle_root([]) == EMPTY


@pytest.mark.parametrize("size", range(1, 41))
def test_inclusion__every_place__leads_to_the_root_and_nowhere_else(size):
    leaves = LEAVES[:size]
    root = merkle_root(leaves)
    for index, leaf in enumerate(leaves):
        way = inclusion(leaves, index)
        assert includes(root, size, index, leaf, way)
        assert not any(includes(root, size, other, leaf, way) for other in range(size) if other != index)


@given(st.integers(1, 40), st.data())
def test_inclusion__bent_in_any_way__is_refused(size, data):
    leaves = LEAVES[:size]
    index = data.draw(st.integers(0, size - 1))
    way, root = inclusion(leaves, index), merkle_root(leaves)
    assert not includes(root, size, index, leaf_hash(b"another"), way)
    assert not includes(root, size, index, leaves[index], [*way, EMPTY])
    assert not includes(root, size, size, leaves[index], way)
    if way:
        place = data.draw(st.integers(0, len(way) - 1))
        assert not includes(root, size, index, leaves[index], way[:-1])
        assert not includes(root, size, index, leaves[index], [*way[:place], EMPTY, *way[place + 1 :]])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_inclusion__of_no_entry__is_an_error(index, size):
    with pytest.raises(IndexError):
        inclusion(LEAVES[:size], index)
