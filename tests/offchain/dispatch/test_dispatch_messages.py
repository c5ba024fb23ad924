from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from dispatch_kit import make_offer, make_seek

from quietfleet.dispatch import Between, Equals, Message, Offer, OneOf

DECODER = msgspec.msgpack.Decoder(Message)


@pytest.mark.parametrize(
    "message",
    [make_offer("a"), make_seek("a", constraints=(Equals("x", 1.0), Between("y", 1), OneOf("z", ("q",))))],
)
def test_decode__what_was_encoded__is_the_same(message: Message) -> None:
    assert DECODER.decode(msgspec.msgpack.encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        make_offer("a", offer_id="short"),
        make_offer("a", capacity=0),
        make_offer("a", attributes={f"n{number}": 1.0 for number in range(33)}),
        make_seek("a", constraints=(Equals("x", 1.0),) * 17),
        make_seek("a", capability="x" * 65),
    ],
)
def test_decode__beyond_a_limit__is_refused(message: Message) -> None:
    with pytest.raises(msgspec.ValidationError):
        DECODER.decode(msgspec.msgpack.encode(message))


@pytest.mark.parametrize(
    "changes",
    [
        {"expires": math.nan},
        {"expires": math.inf},
        {"attributes": {"price": math.nan}},
        {"attributes": {"price": math.inf}},
        {"attributes": {"note": "x" * 257}},
    ],
)
def test_decode__offer_without_measure__refused(changes: dict[str, Any]) -> None:
    offer = msgspec.structs.replace(make_offer("processor"), **changes)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(offer), type=Offer)
