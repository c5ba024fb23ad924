from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.errors import PowTargetMissed
from quietfleet.whisper import Search, fastest_search, mine, search_plain

RATE = 136
STARTS = st.one_of(st.integers(0, 600), st.integers(0, 2**64 - 5000), st.just(2**64 - 3000))


@pytest.fixture(scope="module")
def search_vector() -> Search:
    return pytest.importorskip("quietfleet.whisper.mining_vector", reason="numba is not installed").search_vector


def never() -> bool:
    return False


def test_fastest_search__numba_missing__is_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "quietfleet.whisper.mining_vector", raising=False)
    assert fastest_search() is search_plain


def test_fastest_search__numba_cannot_work_here__is_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, search_vector: Search
) -> None:
    def refuse(**_: object) -> None:
        raise RuntimeError("no locator available")

    monkeypatch.setattr("numba.njit", refuse)
    monkeypatch.delitem(sys.modules, "quietfleet.whisper.mining_vector")
    assert fastest_search() is search_plain


def test_fastest_search__numba_there__is_the_one_on_vectors(search_vector: Search) -> None:
    assert fastest_search() is search_vector


@pytest.mark.parametrize("size", [*range(RATE - 17, RATE + 3), 0, 1, 2 * RATE - 8, 2 * RATE - 7, 2 * RATE, 1000])
def test_search_vector__rlp_ends_anywhere_in_a_block__finds_what_the_plain_one_does(
    size: int, search_vector: Search
) -> None:
    rlp = bytes(i % 251 for i in range(size))
    for start in (0, 2**40 - 5):
        expected = search_plain(rlp, start, start + 600, 7, never)
        assert search_vector(rlp, start, start + 600, 7, never) == expected


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), STARTS, st.integers(0, 40), st.sampled_from([1, 2, 5, 9, 12, 40, 200]))
def test_search_vector__any_search__finds_what_the_plain_one_does(
    rlp: bytes, start: int, count: int, wanted: int
) -> None:
    search = fastest_search()
    assert search(rlp, start, start + count, wanted, never) == search_plain(rlp, start, start + count, wanted, never)


def test_search_vector__past_its_chunk__goes_on_from_there(search_vector: Search) -> None:
    wanted = 14
    start = search_plain(b"x", 0, 1 << 20, wanted, never)[0] - 70_000
    start = max(start, 0)
    assert search_vector(b"x", start, 1 << 20, wanted, never) == search_plain(b"x", start, 1 << 20, wanted, never)


def test_search_vector__cancelled__stops_at_the_next_chunk(search_vector: Search) -> None:
    answers = iter([False, False, True])
    nonce, bits = search_vector(b"x", 0, 1 << 40, 64, lambda: next(answers))
    assert nonce < 2 << 16
    assert (nonce, bits) == search_vector(b"x", 0, 2 << 16, 64, never)


def test_mine__either_search__makes_the_same_envelope(search_vector: Search) -> None:
    fields = (2_000_000_000, 50, b"topi", b"data" * 60, 0.5)
    assert mine(*fields, search=search_vector) == mine(*fields, search=search_plain)
    with pytest.raises(PowTargetMissed) as missed:
        mine(2_000_000_000, 50, b"topi", b"data", 1e12, start=5, max_iterations=300, search=search_vector)
    with pytest.raises(PowTargetMissed) as plainly_missed:
        mine(2_000_000_000, 50, b"topi", b"data", 1e12, start=5, max_iterations=300, search=search_plain)
    assert missed.value.nonce == plainly_missed.value.nonce


@pytest.mark.parametrize("wanted", [1, 3, 6, 9])
def test_search_plain__few_bits_wanted__asks_little(wanted: int) -> None:
    asked: list[Callable[[], bool]] = []
    nonce, _ = search_plain(b"x", 0, 1 << 20, wanted, lambda: bool(asked.append(never)))
    assert nonce < len(asked) * 256
