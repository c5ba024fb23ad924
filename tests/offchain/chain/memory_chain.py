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
    "uint32 version,uint40 activeFrom,uint32 grace,uint48 minPow,uint32 maxTtl,uint32 maxSize,address oracle,"
    "address gateway,bytes32 epochKeyCommitment,bytes32 oracleCardDigest,bytes32 gatewayCardDigest,uint48 previousBlock"
)
TERMS_PARTS = (
    "bytes32 manifestHash,bytes32 groupRoot,bytes32 gateHash,uint32 notBefore,uint32 expiresAt,uint24 soak,"
    "uint8 waveCount"
)
REPORT_PARTS = "bytes32 reportRoot,uint32 succeeded,uint32 failed,uint32 silent"
SERVICE_EVENTS = (
    "Enrolled(address indexed id,address indexed owner,uint8 kind,bytes32 x,bytes32 y)",
    "EnrolledItself(address indexed id,address indexed owner,uint8 kind,bytes32 x,bytes32 y)",
    "Accepted(address indexed id,address indexed owner,uint32 sequence)",
    "FeeChanged(uint256 previous,uint256 current)",
    "ActiveChanged(address indexed id,address indexed by,bool active,uint32 sequence)",
    "SuspendedChanged(address indexed id,bool suspended,uint32 sequence)",
    "TransferOffered(address indexed id,address indexed to,uint32 sequence)",
    "TransferCancelled(address indexed id,uint32 sequence)",
    "OwnerChanged(address indexed id,address indexed from,address indexed to,uint32 sequence)",
    "KeyRotated(address indexed id,address indexed key,bytes32 x,bytes32 y,uint16 epoch,uint32 sequence)",
    "Retired(address indexed id,address indexed owner,uint32 sequence)",
    "OperatorChanged(address indexed owner,address indexed operator,uint8 rights,uint256 until)",
    "BootstrapNamed(uint32 indexed version,string[] enodes,uint48 previousBlock)",
)
RELEASE_EVENTS = (
    "ReleaseApproved(bytes32 indexed channel,uint32 indexed sequence,address indexed by)",
    "WaveOpened(bytes32 indexed channel,uint32 indexed sequence,uint8 wave)",
    "RolloutPaused(bytes32 indexed channel,uint32 indexed sequence,address indexed by)",
    "RolloutResumed(bytes32 indexed channel,uint32 indexed sequence,address indexed by)",
    "RolledBack(bytes32 indexed channel,uint32 indexed sequence,bytes32 indexed manifestHash,uint32 target)",
    "ReleaseRevoked(bytes32 indexed channel,uint32 indexed sequence,bytes32 indexed manifestHash,uint32 floor)",
)


def parameter(text: str) -> dict[str, Any]:
    words = text.split()
    return {"type": words[0], "indexed": "indexed" in words, "name": words[-1]}


def event_abi(text: str) -> dict[str, Any]:
    name, inputs = re.fullmatch(r"(\w+)\((.*)\)", text).groups()
    return {"type": "event", "name": name, "inputs": [parameter(one) for one in inputs.split(",")]}


def with_struct(text: str, name: str, parts: str) -> dict[str, Any]:
    """The ABI of an event whose last argument is a struct of these parts."""
    event = event_abi(text)
    components = [parameter(one) for one in parts.split(",")]
    event["inputs"].append({"type": "tuple", "name": name, "indexed": False, "components": components})
    return event


SERVICE_ABI = (
    *map(event_abi, SERVICE_EVENTS),
    with_struct("ConfigurationRotated(uint32 indexed version)", "configuration", CONFIGURATION_PARTS),
)
RELEASES_ABI = (
    *map(event_abi, RELEASE_EVENTS),
    with_struct("ReleaseProposed(bytes32 indexed channel,uint32 indexed sequence)", "terms", TERMS_PARTS),
    with_struct(
        "ReleaseFinalised(bytes32 indexed channel,uint32 indexed sequence,uint32 floor)", "report", REPORT_PARTS
    ),
)
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


def enode(number: int) -> str:
    return f"enode://{key(number).hex()}@relay-{number}.example:30303"


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
class Line:
    """One channel of releases."""

    head: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HEAD, 0))
    manifests: list[bytes] = field(default_factory=list)
    completed: set[int] = field(default_factory=set)
    revoked: set[bytes] = field(default_factory=set)

    @property
    def newest(self) -> bytes:
        return self.manifests[-1]


HEAD = ("sequence", "completed", "floor", "state", "wave", "wave_count", "since", "not_before", "expires_at", "soak")
PROPOSED, APPROVED, ROLLING, PAUSED, COMPLETED, REVOKED = range(1, 7)
RELEASE_VERBS = ("propose", "approve", "open", "pause", "resume", "finalise", "roll_back", "revoke")


@dataclass
class Fleet:
    """What the contracts would hold: written without looking at the code under test."""

    workers: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)
    versions: list[dict[str, int]] = field(default_factory=list)
    previous: int = 0
    channels: dict[bytes, Line] = field(default_factory=dict)
    relays: tuple[str, ...] = ()
    lists: int = 0

    @property
    def version(self) -> int:
        return len(self.versions)

    def act(self, action: tuple[str, int], timestamp: int) -> Emitted | None:
        """Perform an action if the contracts would let it, and return its event."""
        verb, number = action
        if verb == "rotate":
            return self._rotate(number, timestamp)
        if verb == "name_relays":
            return self._name_relays(number)
        if verb in RELEASE_VERBS:
            channel = bytes([number % 2]) * 32
            line = self.channels.setdefault(channel, Line())
            event: Emitted | None = getattr(self, f"_{verb}")(channel, line, timestamp)
            return event
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
            "key": worker_id(number), "public_key": public, "offered_to": None,
            "switched_on_by": None,
        }  # fmt: skip
        self.workers[found["id"]] = found
        self.keys[found["id"]] = (found["id"], 0)
        name = "EnrolledItself" if pending else "Enrolled"
        return emitted(name, **_some(found, "id owner kind"), x=public[:32], y=public[32:])

    def _accept(self, found: dict[str, Any]) -> Emitted | None:
        if not found["pending"]:
            return None
        found.update(pending=False, active=True, sequence=found["sequence"] + 1)
        return emitted("Accepted", **_some(found, "id owner sequence"))

    def _toggle(self, found: dict[str, Any]) -> Emitted | None:
        if found["pending"]:
            return None
        found.update(active=not found["active"], sequence=found["sequence"] + 1)
        if found["active"]:
            found["switched_on_by"] = owner(5)
        return emitted("ActiveChanged", by=owner(5), **_some(found, "id active sequence"))

    def _suspend(self, found: dict[str, Any]) -> Emitted:
        found.update(suspended=not found["suspended"], sequence=found["sequence"] + 1)
        return emitted("SuspendedChanged", **_some(found, "id suspended sequence"))

    def _rekey(self, found: dict[str, Any]) -> Emitted | None:
        if found["pending"]:
            return None
        number = 1_000_000 + int(found["id"][2:10], 16) + found["epoch"]
        public, address = key(number), worker_id(number)
        found.update(key=address, public_key=public, epoch=found["epoch"] + 1, sequence=found["sequence"] + 1)
        self.keys[address] = (found["id"], found["epoch"])
        return emitted("KeyRotated", **_some(found, "id key epoch sequence"), x=public[:32], y=public[32:])

    def _offer(self, found: dict[str, Any]) -> Emitted | None:
        if found["pending"]:
            return None
        found.update(offered_to=owner(found["sequence"] + 1), sequence=found["sequence"] + 1)
        return emitted("TransferOffered", **_some(found, "id sequence"), to=found["offered_to"])

    def _cancel(self, found: dict[str, Any]) -> Emitted | None:
        if found["offered_to"] is None:
            return None
        found.update(offered_to=None, sequence=found["sequence"] + 1)
        return emitted("TransferCancelled", **_some(found, "id sequence"))

    def _sell(self, found: dict[str, Any]) -> Emitted:
        before = found["owner"]
        found.update(owner=owner(found["sequence"]), sequence=found["sequence"] + 1, offered_to=None)
        found["switched_on_by"] = None
        return emitted("OwnerChanged", **_some(found, "id sequence"), **{"from": before, "to": found["owner"]})

    def _retire(self, found: dict[str, Any]) -> Emitted:
        found.update(active=False, pending=False, retired=True, sequence=found["sequence"] + 1, offered_to=None)
        return emitted("Retired", **_some(found, "id owner sequence"))

    def _rotate(self, number: int, timestamp: int) -> Emitted:
        """Rotate now or some blocks ahead; the keys are one of three sets, so that they may be kept."""
        latest = self.versions[-1] if self.versions else None
        keys = number % 3
        shared = [self.versions[at - 1] for at in (self.version, self.previous) if at]
        epoch = next((one["epoch"] for one in shared if one["keys"] == keys), self.version + 1)
        if latest is not None and latest["active_from"] <= timestamp:
            self.previous = self.version
        active_from = timestamp + (number % 2) * 3 * SECONDS_A_BLOCK
        self.versions.append({"active_from": active_from, "keys": keys, "epoch": epoch})
        parts = configuration_tuple(
            version=self.version, activeFrom=active_from, grace=number, epochKeyCommitment=bytes([keys + 1]) * 32
        )
        return emitted("ConfigurationRotated", version=self.version, configuration=parts)

    def _name_relays(self, number: int) -> Emitted | None:
        """Name up to two relays; an unchanged list is refused."""
        relays = tuple(enode(one) for one in range(number % 3))
        if relays == self.relays:
            return None
        self.relays, self.lists = relays, self.lists + 1
        return emitted("BootstrapNamed", version=self.lists, enodes=relays, previousBlock=0)

    def _propose(self, channel: bytes, line: Line, timestamp: int) -> Emitted | None:
        if line.head["state"] in (ROLLING, PAUSED):
            return None
        manifest = keccak256(b"manifest %d %d" % (channel[0], len(line.manifests)) + b"%d" % timestamp)
        waves = len(line.manifests) % 2 + 1
        terms = (manifest, b"\x04" * 32, b"\x05" * 32, timestamp, timestamp + 60, 7, waves)
        self._next(line, manifest, state=PROPOSED, wave_count=waves, not_before=timestamp, soak=7)
        line.head["expires_at"] = timestamp + 60
        return emitted("ReleaseProposed", channel=channel, sequence=line.head["sequence"], terms=terms)

    def _next(self, line: Line, manifest: bytes, **values: int) -> None:
        line.manifests.append(manifest)
        kept = {name: line.head[name] for name in ("completed", "floor")}
        line.head = dict.fromkeys(HEAD, 0) | kept | {"sequence": len(line.manifests)} | values

    def _approve(self, channel: bytes, line: Line, _timestamp: int) -> Emitted | None:
        return self._step("ReleaseApproved", channel, line, (PROPOSED,), state=APPROVED, by=owner(1))

    def _open(self, channel: bytes, line: Line, timestamp: int) -> Emitted | None:
        if line.head["wave"] == line.head["wave_count"]:
            return None
        wave = line.head["wave"] + 1
        terms = {"state": ROLLING, "since": timestamp, "wave": wave}
        return self._step("WaveOpened", channel, line, (APPROVED, ROLLING), **terms)

    def _pause(self, channel: bytes, line: Line, _timestamp: int) -> Emitted | None:
        return self._step("RolloutPaused", channel, line, (ROLLING,), state=PAUSED, by=owner(1))

    def _resume(self, channel: bytes, line: Line, timestamp: int) -> Emitted | None:
        return self._step("RolloutResumed", channel, line, (PAUSED,), state=ROLLING, since=timestamp, by=owner(1))

    def _step(self, event: str, channel: bytes, line: Line, states: tuple[int, ...], **values: Any) -> Emitted | None:
        if line.head["state"] not in states:
            return None
        line.head.update({name: value for name, value in values.items() if name in HEAD})
        return emitted(event, channel=channel, sequence=line.head["sequence"], **values)

    def _finalise(self, channel: bytes, line: Line, timestamp: int) -> Emitted | None:
        if line.head["state"] != ROLLING or line.head["wave"] != line.head["wave_count"]:
            return None
        number = line.head["sequence"]
        line.completed.add(number)
        floor = max(line.head["floor"], number - 3)
        line.head.update(state=COMPLETED, completed=number, since=timestamp, floor=floor)
        report = (bytes(32), 1, 2, 3)
        return emitted("ReleaseFinalised", channel=channel, sequence=number, floor=floor, report=report)

    def _roll_back(self, channel: bytes, line: Line, timestamp: int) -> Emitted | None:
        """Bring back the oldest manifest that may be, under the newest number it had."""
        numbers = {manifest: number for number, manifest in enumerate(line.manifests, 1)}
        possible = [
            (numbers[manifest], manifest)
            for manifest in line.manifests
            if numbers[manifest] in line.completed and manifest not in line.revoked and manifest != line.newest
        ]
        if not possible:
            return None
        target, manifest = possible[0]
        number = len(line.manifests) + 1
        line.completed.add(number)
        self._next(line, manifest, state=COMPLETED, since=timestamp, completed=number)
        return emitted("RolledBack", channel=channel, sequence=number, manifestHash=manifest, target=target)

    def _revoke(self, channel: bytes, line: Line, timestamp: int) -> Emitted:
        """Revoke, in turns, the newest manifest and one nobody proposed."""
        known = bool(line.manifests) and timestamp % 2 == 0 and line.newest not in line.revoked
        manifest = line.newest if known else keccak256(b"unknown %d %d" % (timestamp, len(line.revoked)))
        line.revoked.add(manifest)
        number = len(line.manifests) if known else 0
        if known:
            line.head.update(floor=number + 1, state=REVOKED)
        floor = line.head["floor"]
        return emitted("ReleaseRevoked", channel=channel, sequence=number, manifestHash=manifest, floor=floor)


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
