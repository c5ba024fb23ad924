"""A chain in memory that reorganises at will, and a plain model of the contracts that fills it with valid events."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import encode

from quietfleet.chain.abi import canonical_type, signature
from quietfleet.chain.bloom import bloom_of
from quietfleet.chain.deployment import ContractRecord, Deployment
from quietfleet.chain.source import Header, RawLog
from quietfleet.crypto import checksum_address, keccak256
from quietfleet.errors import ChainRefused

SERVICE = checksum_address(b"\x51" * 20)
RELEASES = checksum_address(b"\x52" * 20)
FIRST_BLOCK = 3
GENESIS_TIME = 1_700_000_000
SECONDS_A_BLOCK = 12

CONFIGURATION_PARTS = (
    "uint32 version,uint40 activeFrom,uint32 grace,uint64 minPow,uint32 maxTtl,uint32 maxSize,address oracle,"
    "address gateway,bytes32 epochKeyCommitment,bytes32 oracleCardDigest,bytes32 gatewayCardDigest,uint64 previousBlock"
)
SERVICE_EVENTS = (
    "Enrolled(address indexed id,address indexed owner,uint8 kind,bool pending,bytes32 x,bytes32 y,uint24 sequence)",
    "Accepted(address indexed id,address indexed owner,uint24 sequence)",
    "FeeChanged(uint256 previous,uint256 current)",
    "ActiveChanged(address indexed id,address indexed owner,bool active,uint24 sequence)",
    "SuspendedChanged(address indexed id,bool suspended,uint24 sequence)",
    "OwnerChanged(address indexed id,address indexed from,address indexed to,uint24 sequence)",
    "Retired(address indexed id,address indexed owner,uint24 sequence)",
)
RELEASE_EVENTS = (
    "ReleasePublished(bytes32 indexed channel,uint32 indexed sequence,bytes32 manifestHash)",
    "RolledBack(bytes32 indexed channel,uint32 indexed sequence,uint32 target,bytes32 manifestHash)",
    "ReleaseRevoked(bytes32 indexed channel,uint32 indexed sequence)",
)


def parameter(text: str) -> dict[str, Any]:
    words = text.split()
    return {"type": words[0], "indexed": "indexed" in words, "name": words[-1]}


def event_abi(text: str) -> dict[str, Any]:
    name, inputs = re.fullmatch(r"(\w+)\((.*)\)", text).groups()
    return {"type": "event", "name": name, "inputs": [parameter(one) for one in inputs.split(",")]}


def rotation_abi() -> dict[str, Any]:
    parts = [parameter(one) for one in CONFIGURATION_PARTS.split(",")]
    configuration = {"type": "tuple", "name": "configuration", "indexed": False, "components": parts}
    return {
        "type": "event",
        "name": "ConfigurationRotated",
        "inputs": [parameter("uint32 indexed version"), configuration],
    }


SERVICE_ABI = (*map(event_abi, SERVICE_EVENTS), rotation_abi())
RELEASES_ABI = tuple(map(event_abi, RELEASE_EVENTS))
DEPLOYMENT = Deployment(
    1337, ContractRecord(SERVICE, SERVICE_ABI, FIRST_BLOCK), ContractRecord(RELEASES, RELEASES_ABI, FIRST_BLOCK + 1)
)
_EVENTS = {
    entry["name"]: (address, entry)
    for address, abi in ((SERVICE, SERVICE_ABI), (RELEASES, RELEASES_ABI))
    for entry in abi
}


@dataclass(frozen=True)
class Emitted:
    """An event before it has a place: contract, topics and data."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes


def emitted(name: str, **values: Any) -> Emitted:
    address, entry = _EVENTS[name]
    indexed = [one for one in entry["inputs"] if one["indexed"]]
    plain = [one for one in entry["inputs"] if not one["indexed"]]
    topics = [keccak256(signature(entry).encode())]
    topics += [encode([one["type"]], [values[one["name"]]]) for one in indexed]
    data = encode([canonical_type(one) for one in plain], [values[one["name"]] for one in plain])
    return Emitted(address, tuple(topics), data)


def key(number: int) -> bytes:
    return keccak256(b"x%d" % number) + keccak256(b"y%d" % number)


def worker_id(number: int) -> str:
    return checksum_address(keccak256(key(number))[12:])


def owner(number: int) -> str:
    return checksum_address(bytes([0xA0 + number % 16]) * 20)


def configuration_tuple(**values: Any) -> tuple[Any, ...]:
    defaults = {
        "version": 1, "activeFrom": GENESIS_TIME, "grace": 60, "minPow": 200_000_000, "maxTtl": 300, "maxSize": 1 << 20,
        "oracle": worker_id(1000), "gateway": worker_id(1001), "epochKeyCommitment": b"\x01" * 32,
        "oracleCardDigest": b"\x02" * 32, "gatewayCardDigest": b"\x03" * 32, "previousBlock": 0,
    }  # fmt: skip
    return tuple((defaults | values).values())


@dataclass
class Fleet:
    """What the contracts would hold: written without looking at the code under test."""

    workers: dict[str, dict[str, Any]] = field(default_factory=dict)
    version: int = 0
    channels: dict[bytes, list[dict[str, Any]]] = field(default_factory=dict)

    def act(self, action: tuple[str, int], timestamp: int) -> Emitted | None:
        """Perform an action if the contracts would let it, and return its event."""
        verb, number = action
        if verb in ("rotate", "publish", "roll_back", "revoke"):
            return getattr(self, f"_{verb}")(number, timestamp)
        return self._worker(verb, number, timestamp)

    def _worker(self, verb: str, number: int, timestamp: int) -> Emitted | None:
        found = self.workers.get(worker_id(number))
        if verb == "enrol":
            return self._enrol(number, timestamp) if found is None else None
        if found is None or found["retired"]:
            return None
        event: Emitted | None = getattr(self, f"_{verb}")(found)
        return event

    def _enrol(self, number: int, timestamp: int) -> Emitted:
        pending, public = number % 3 == 0, key(number)
        found = {
            "id": worker_id(number), "owner": owner(number), "kind": number % 5 + 1, "epoch": 0, "sequence": 1,
            "since": timestamp, "active": not pending, "suspended": False, "pending": pending, "retired": False,
        }  # fmt: skip
        self.workers[found["id"]] = found
        return emitted("Enrolled", **_some(found, "id owner kind pending sequence"), x=public[:32], y=public[32:])

    def _accept(self, found: dict[str, Any]) -> Emitted | None:
        if not found["pending"]:
            return None
        found.update(pending=False, active=True, sequence=found["sequence"] + 1)
        return emitted("Accepted", **_some(found, "id owner sequence"))

    def _toggle(self, found: dict[str, Any]) -> Emitted | None:
        if found["pending"]:
            return None
        found.update(active=not found["active"], sequence=found["sequence"] + 1)
        return emitted("ActiveChanged", **_some(found, "id owner active sequence"))

    def _suspend(self, found: dict[str, Any]) -> Emitted:
        found.update(suspended=not found["suspended"], sequence=found["sequence"] + 1)
        return emitted("SuspendedChanged", **_some(found, "id suspended sequence"))

    def _sell(self, found: dict[str, Any]) -> Emitted:
        before = found["owner"]
        found.update(owner=owner(found["sequence"]), sequence=found["sequence"] + 1)
        return emitted("OwnerChanged", **_some(found, "id sequence"), **{"from": before, "to": found["owner"]})

    def _retire(self, found: dict[str, Any]) -> Emitted:
        found.update(active=False, pending=False, retired=True, sequence=found["sequence"] + 1)
        return emitted("Retired", **_some(found, "id owner sequence"))

    def _rotate(self, number: int, timestamp: int) -> Emitted:
        self.version += 1
        parts = configuration_tuple(version=self.version, activeFrom=timestamp, grace=number)
        return emitted("ConfigurationRotated", version=self.version, configuration=parts)

    def _publish(self, number: int, timestamp: int) -> Emitted:
        channel, book = self._book(number)
        manifest = keccak256(b"manifest %d %d %d" % (number, len(book), timestamp))
        return emitted("ReleasePublished", **self._append(channel, book, manifest, len(book) + 1, timestamp))

    def _roll_back(self, number: int, timestamp: int) -> Emitted | None:
        channel, book = self._book(number)
        targets = [one for one in book if one["state"] == 1 and one["manifest_hash"] != book[-1]["manifest_hash"]]
        if not targets:
            return None
        target = targets[-1]
        values = self._append(channel, book, target["manifest_hash"], target["artefact_of"], timestamp)
        return emitted("RolledBack", target=target["sequence"], **values)

    def _revoke(self, number: int, _timestamp: int) -> Emitted | None:
        channel, book = self._book(number)
        if not book or book[0]["state"] == 2 or book[0]["manifest_hash"] == book[-1]["manifest_hash"]:
            return None
        for one in book:
            if one["manifest_hash"] == book[0]["manifest_hash"]:
                one["state"] = 2
        return emitted("ReleaseRevoked", channel=channel, sequence=1)

    def _book(self, number: int) -> tuple[bytes, list[dict[str, Any]]]:
        channel = bytes([number % 2]) * 32
        return channel, self.channels.setdefault(channel, [])

    def _append(
        self, channel: bytes, book: list[dict[str, Any]], manifest: bytes, artefact: int, timestamp: int
    ) -> dict[str, Any]:
        sequence = len(book) + 1
        book.append(
            {"channel": channel, "sequence": sequence, "published_at": timestamp, "manifest_hash": manifest,
             "artefact_of": artefact, "state": 1}
        )  # fmt: skip
        return {"channel": channel, "sequence": sequence, "manifestHash": manifest}


def _some(found: dict[str, Any], names: str) -> dict[str, Any]:
    return {name: found[name] for name in names.split()}


@dataclass(frozen=True)
class Block:
    header: Header
    events: tuple[Emitted, ...]
    fleet: Fleet
    actions: tuple[tuple[str, int], ...]


class MemoryChain:
    """A `Source` whose chain the test extends and reorganises; what it does wrong is set by its attributes."""

    def __init__(self) -> None:
        self._salt = 0
        self.blocks: list[Block] = []
        self.requests: list[str] = []
        self.between = lambda: None
        self.most_blocks = 10_000
        self.hidden_logs: set[int] = set()
        self.hidden_by_hash = False
        self.visible: int | None = None
        for _ in range(FIRST_BLOCK + 1):
            self.extend()

    @property
    def fleet(self) -> Fleet:
        return self.blocks[-1].fleet

    @property
    def height(self) -> int:
        return len(self.blocks) - 1

    def extend(self, *actions: tuple[str, int], extra: tuple[Emitted, ...] = ()) -> None:
        number = len(self.blocks)
        timestamp = GENESIS_TIME + number * SECONDS_A_BLOCK + self._salt % 5
        fleet = copy.deepcopy(self.blocks[-1].fleet) if self.blocks else Fleet()
        events = tuple(one for action in actions if (one := fleet.act(action, timestamp)) is not None) + extra
        parent = self.blocks[-1].header.hash if self.blocks else bytes(32)
        self._salt += 1
        own = keccak256(parent + b"%d" % self._salt)
        bloom = 0
        for event in events:
            bloom |= bloom_of(bytes.fromhex(event.address[2:]))
        self.blocks.append(Block(Header(number, own, parent, timestamp, bloom), events, fleet, actions))

    def drop(self, depth: int) -> list[Block]:
        """Take blocks away and return them, though never those before the contracts."""
        first = max(FIRST_BLOCK, len(self.blocks) - depth)
        dropped = self.blocks[first:]
        del self.blocks[first:]
        return dropped

    async def header(self, number: int | None = None) -> Header | None:
        self._asked("header")
        seen = self.blocks if self.visible is None else self.blocks[: self.visible + 1]
        if number is None:
            return seen[-1].header
        return seen[number].header if number < len(seen) else None

    async def logs(self, first: int, last: int) -> list[RawLog]:
        self._asked("logs")
        if last - first >= self.most_blocks:
            raise ChainRefused("eth_getLogs", "query returned more than 10000 results")
        found = [log for block in self.blocks[first : last + 1] for log in _logs(block)]
        return [log for log in found if log.block not in self.hidden_logs]

    async def logs_in(self, block_hash: bytes) -> list[RawLog]:
        self._asked("logs_in")
        if self.hidden_by_hash:
            return []
        for block in self.blocks:
            if block.header.hash == block_hash:
                return _logs(block)
        raise ChainRefused("eth_getLogs", "unknown block")

    def _asked(self, request: str) -> None:
        self.requests.append(request)
        self.between()


def _logs(block: Block) -> list[RawLog]:
    header = block.header
    return [
        RawLog(event.address, event.topics, event.data, header.number, header.hash, index)
        for index, event in enumerate(block.events)
    ]


def run(coroutine: Any) -> Any:
    """Run a coroutine that never really waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the coroutine waited")
