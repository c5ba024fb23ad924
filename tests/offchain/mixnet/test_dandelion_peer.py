from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "bench" / "darkness" / "dandelion.py"
NEIGHBOURS = [bytes((number,)) for number in range(8)]


@pytest.fixture(scope="module")
def successor():
    return runpy.run_path(str(SOURCE))["successor"]


def test_successor__same_epoch_and_link__is_the_same(successor):
    for came_from in (None, *NEIGHBOURS):
        assert len({successor(b"s", 3, NEIGHBOURS, came_from, 0.1) for _ in range(5)}) == 1


def test_successor__of_own_messages__never_floods_unless_alone(successor):
    assert all(successor(b"s", epoch, NEIGHBOURS, None, 1.0) in NEIGHBOURS for epoch in range(50))
    assert successor(b"s", 0, [], None, 0.0) is None


def test_successor__many_epochs__floods_in_a_share_q_of_them(successor):
    floods = [successor(b"s", epoch, NEIGHBOURS, b"\x01", 0.1) is None for epoch in range(4000)]
    assert sum(floods) / len(floods) == pytest.approx(0.1, abs=0.02)


def test_successor__one_epoch__two_neighbours_at_most_and_all_in_turn(successor):
    by_epoch = [{successor(b"s", epoch, NEIGHBOURS, link, 0) for link in NEIGHBOURS} for epoch in range(200)]
    assert max(len(chosen) for chosen in by_epoch) == 2
    assert len(Counter(peer for chosen in by_epoch for peer in chosen)) == len(NEIGHBOURS)
