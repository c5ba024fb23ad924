"""Logs and revert data as a lying endpoint may serve them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from harness import Script, target

from quietfleet.chain.abi import Abi
from quietfleet.chain.codec import MOST_ENODE, MOST_ENODES, Codec
from quietfleet.chain.events import BootstrapNamed
from quietfleet.chain.source import RawLog
from quietfleet.errors import AbiError

sys.path.insert(0, str(Path(__file__).parents[1] / "offchain/chain"))

from memory_chain import DEPLOYMENT, RELEASES, SERVICE, Emitted, configuration_tuple, emitted, enode, key, worker_id

CODEC: Final = Codec(DEPLOYMENT)
ERRORS: Final = Abi(
    [
        {"type": "error", "name": "TooEarly", "inputs": [{"name": "from", "type": "uint40"}]},
        {"type": "error", "name": "Listed", "inputs": [{"name": "names", "type": "string[]"}]},
    ]
)
TOPICS: Final = [
    (address, topic)
    for address, record in ((SERVICE, DEPLOYMENT.service), (RELEASES, DEPLOYMENT.releases))
    for topic in Abi(record.abi).events
]


def _input(event: Emitted) -> bytes:
    place = TOPICS.index((event.address, event.topics[0]))
    return bytes([place, len(event.topics) - 1]) + b"".join(event.topics[1:]) + event.data


def _event_seeds() -> Iterator[bytes]:
    halves = {"x": key(1)[:32], "y": key(1)[32:]}
    worker = worker_id(1)
    yield _input(emitted("Enrolled", id=worker, owner=worker, kind=3, **halves))
    yield _input(emitted("KeyRotated", id=worker, key=worker, **halves, epoch=5, sequence=6))
    yield _input(emitted("Retired", id=worker, owner=worker, sequence=6))
    yield _input(emitted("BootstrapNamed", version=3, enodes=(enode(1), enode(2)), previousBlock=7))
    yield _input(emitted("BootstrapNamed", version=3, enodes=(), previousBlock=7))
    yield _input(emitted("ConfigurationRotated", version=1, configuration=configuration_tuple()))
    yield _input(emitted("WaveOpened", channel=bytes(32), sequence=1, wave=255))
    listed = emitted("BootstrapNamed", version=3, enodes=(enode(1),) * 3, previousBlock=7)
    yield _input(Emitted(listed.address, listed.topics, b"\xff" * len(listed.data)))
    for place in range(3, 7):  # the lengths of list and strings among them
        data = bytearray(listed.data)
        data[32 * place : 32 * place + 32] = (2**255).to_bytes(32)
        yield _input(Emitted(listed.address, listed.topics, bytes(data)))
    yield b"\xfe\x08\xc3\x79\xa0" + (32).to_bytes(32) + (5).to_bytes(32) + b"\xff" * 32
    yield b"\xfe\x4e\x48\x7b\x71" + (17).to_bytes(32)


@target(_event_seeds, 2048)
def chain_events(data: bytes) -> None:
    script = Script(data)
    place = script.number(256)
    if place == 0xFE:
        name, arguments = ERRORS.error(script.rest())
        assert isinstance(name, str)
        assert isinstance(arguments, dict)
        return
    address, topic = TOPICS[place % len(TOPICS)]
    topics = (topic, *(script.take(32).ljust(32, b"\0") for _ in range(script.number(5))))
    log = RawLog(address=address, topics=topics, data=script.rest(), block=5, block_hash=bytes(32), index=0)
    with suppress(AbiError):
        event = CODEC.decode(log)
        assert event is None or event.subject
        if isinstance(event, BootstrapNamed):
            assert len(event.enodes) <= MOST_ENODES
            assert all(len(each) <= MOST_ENODE for each in event.enodes)
