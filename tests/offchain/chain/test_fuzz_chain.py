"""Logs of an endpoint that lies about lengths: refused, in the memory that an honest one takes."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_chain import DEPLOYMENT, emitted, enode

from quietfleet.chain.abi import Abi
from quietfleet.chain.codec import MOST_ENODE, MOST_ENODES, Codec
from quietfleet.chain.source import RawLog
from quietfleet.errors import AbiError

CODEC = Codec(DEPLOYMENT)
NAMED = emitted("BootstrapNamed", version=3, enodes=(enode(1), enode(2)), previousBlock=7)
WORD = 32


def decode(data):
    log = RawLog(address=NAMED.address, topics=NAMED.topics, data=data, block=5, block_hash=bytes(32), index=0)
    return CODEC.decode(log)


def word(number):
    return number.to_bytes(WORD)


@given(st.integers(0, len(NAMED.data) // WORD - 1), st.integers(0, 2**256 - 1) | st.sampled_from([2**63, 2**64 - 1]))
def test_decode__any_word_of_a_list_replaced__is_refused_or_read(place, value):
    data = bytearray(NAMED.data)
    data[place * WORD : (place + 1) * WORD] = word(value)
    try:
        event = decode(bytes(data))
    except AbiError:
        return
    assert len(event.enodes) <= MOST_ENODES


def test_decode__one_long_string_named_thousands_of_times__is_refused_before_it_is_copied():
    count = 2000
    string = word(count * WORD) + bytes(count * WORD)
    data = word(2 * WORD) + word(7) + word(count) + word(count * WORD) * count + string
    tracemalloc.start()
    try:
        with pytest.raises(AbiError):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_decode__longest_list_the_contract_takes__is_read():
    enodes = tuple(enode(number).ljust(MOST_ENODE, "0") for number in range(MOST_ENODES))
    event = emitted("BootstrapNamed", version=3, enodes=enodes, previousBlock=7)
    assert decode(event.data).enodes == enodes


def test_error__message_of_a_length_no_machine_has__stays_hex():
    data = bytes.fromhex("08c379a0") + word(WORD) + word(2**255)
    assert Abi([]).error(data) == ("Unknown", {"data": "0x" + data.hex()})
