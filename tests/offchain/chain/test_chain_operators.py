"""An owner's operators in the replica: whom it named, with which rights, until when."""

from __future__ import annotations

import pytest
from memory_chain import emitted
from test_chain_codec import CODEC, ID, OTHER, OWNER, log

from quietfleet.chain._journal import Located
from quietfleet.chain.events import OperatorChanged
from quietfleet.chain.replica import Batch, Replica
from quietfleet.chain.types import Head, OperatorsChanged, Right
from quietfleet.storage import Database

BOTH = Right.SWITCH_OFF | Right.SWITCH_ON


@pytest.fixture
def replica(tmp_path):
    with Database(tmp_path / "worker.db") as database:
        yield Replica(database)


def block(number, *events, timestamp=100):
    located = tuple(Located(number, index, timestamp, event) for index, event in enumerate(events))
    return Batch(located, (Head(number, bytes([number]) * 32, timestamp),))


def test_decode__operator_named__rights_and_term():
    event = emitted("OperatorChanged", owner=OWNER, operator=OTHER, rights=3, until=1234)
    assert CODEC.decode(log(event)) == OperatorChanged(OWNER, OTHER, BOTH, 1234)


def test_rights__named_and_taken_back__as_the_newest_word_says(replica):
    assert replica.advance(0, block(1, OperatorChanged(OWNER, OTHER, BOTH, 500)), 16) == [OperatorsChanged(OWNER, 1)]
    assert replica.operator_rights(OWNER, OTHER) == BOTH
    assert replica.operator_rights(OWNER, ID) == replica.operator_rights(OTHER, OWNER) == Right(0)
    replica.advance(1, block(2, OperatorChanged(OWNER, OTHER, Right(0), 0)), 16)
    assert replica.operator_rights(OWNER, OTHER) == Right(0)


def test_rights__block_past_the_term__none(replica):
    replica.advance(0, block(1, OperatorChanged(OWNER, OTHER, BOTH, 500)), 16)
    replica.advance(1, block(2, timestamp=500), 16)
    assert replica.operator_rights(OWNER, OTHER) == BOTH
    replica.advance(2, block(3, timestamp=501), 16)
    assert replica.operator_rights(OWNER, OTHER) == Right(0)


def test_rights__block_taken_back__as_before_it(replica):
    replica.advance(0, block(1), 16)
    replica.advance(1, block(2, OperatorChanged(OWNER, OTHER, BOTH, 500)), 16)
    assert replica.advance(1, block(2, timestamp=101), 16) == [OperatorsChanged(OWNER, 2)]
    assert replica.operator_rights(OWNER, OTHER) == Right(0)
