"""The oracle's work as it is seen from the network: replayed envelopes, and what its book keeps of a fleet."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType

from quietfleet.session import encode_card
from quietfleet.storage import Database


async def test_replay__every_envelope_of_a_brokered_deal__oracle_does_and_says_nothing(fleet):
    oracle, dispatcher = fleet.workers["oracle"], fleet.workers["oracle"].agent._dispatcher
    recorded = [envelope for sender, envelope in fleet.wire if sender is not oracle]
    await fleet.run()
    before, book = dict(dispatcher.counts), oracle.rows("SELECT id, row FROM dispatch_book ORDER BY id")
    for envelope in (*recorded, *reversed(recorded)):
        await oracle.hear(envelope)
    await oracle.runtime.flush()
    assert len(recorded) > 8
    assert before["introductions"] == 1
    assert dict(dispatcher.counts) == before
    assert oracle.rows("SELECT id, row FROM dispatch_book ORDER BY id") == book
    assert oracle.node.sent == []


async def test_book__deal_brokered__holds_no_card_that_it_passed_on(fleet):
    dispatcher = fleet.workers["oracle"].agent._dispatcher
    cards = [encode_card(fleet.workers[name].runtime.messenger.own_card()) for name in ("sensor", "processor")]
    held = b"\0".join(texts(dispatcher._book))
    assert len(held) > 1_000
    assert not [card for card in cards if card in held or card[-200:-100] in held]


async def test_session__after_an_introduction__its_purpose_names_the_same_tie_on_both_sides(fleet):
    sensor, processor = fleet.workers["sensor"], fleet.workers["processor"]
    purposes = {
        one.runtime.messenger.session(other.id).purpose for one, other in ((sensor, processor), (processor, sensor))
    }
    assert len(purposes) == 1
    assert len(purposes.pop()) == len("deal:") + 58


def texts(root):
    """Every piece of bytes that an object reaches, without code and classes."""
    seen, waiting = {}, [root]
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | ModuleType | FunctionType | Database):
            continue
        seen[id(each)] = each
        if isinstance(each, bytes):
            yield each
        waiting += gc.get_referents(each)
