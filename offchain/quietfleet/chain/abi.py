"""A contract's ABI as lookup tables: functions by name, events by topic, errors by selector.

Everybody reads by `light_abi`; whoever writes, because it calls or sends, does so by eth_abi.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from quietfleet.chain.light_abi import WORD, decode
from quietfleet.crypto import checksum_address, keccak256
from quietfleet.errors import AbiError

Entry = dict[str, Any]

_BEFORE_ADDRESS: Final = 12
_ADDRESSES: Final = 16_384  # whose checksums are remembered: the same workers and owners come up time and again
_LONGEST: Final = 16_384  # bytes of an event's data: in more, one string a thousand times named would fill the memory


def _by_hand(kind: str) -> bool:
    return kind in {"address", "bool", "bytes32"} or (kind.startswith("uint") and not kind.endswith("]"))


def _reader(kind: str) -> Callable[[bytes], Any]:
    """Return what reads a value of one word; it raises AbiError for a word that is none."""
    if kind == "bytes32":
        return bytes
    if kind == "address":
        return _address
    bits = 1 if kind == "bool" else int(kind[len("uint") :])

    def number(word: bytes) -> Any:
        value = int.from_bytes(word, "big")
        if value >> bits:
            raise AbiError(f"{word.hex()} is no {kind}")
        return bool(value) if kind == "bool" else value

    return number


@lru_cache(_ADDRESSES)
def _address(word: bytes) -> str:
    if word[:_BEFORE_ADDRESS] != bytes(_BEFORE_ADDRESS):
        raise AbiError(f"{word.hex()} is no address")
    return checksum_address(word[_BEFORE_ADDRESS:])


_ERROR_STRING = {"name": "Error", "inputs": [{"name": "message", "type": "string"}]}
_PANIC = {"name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]}


def canonical_type(parameter: Entry) -> str:
    """Spell a parameter's type as signatures do, tuples by their components."""
    kind: str = parameter["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(canonical_type(part) for part in parameter['components'])}){kind[len('tuple') :]}"


def signature(entry: Entry) -> str:
    """Spell a function, event or error: `name(type,…)`."""
    return f"{entry['name']}({','.join(canonical_type(parameter) for parameter in entry['inputs'])})"


def named(parameters: Sequence[Entry], values: Sequence[Any]) -> dict[str, Any]:
    """Pair decoded values with names, structs as nested dictionaries, addresses checksummed."""
    return {
        parameter["name"] or str(place): _shaped(parameter, value)
        for place, (parameter, value) in enumerate(zip(parameters, values, strict=True))
    }


def _shaped(parameter: Entry, value: Any) -> Any:
    kind: str = parameter["type"]
    if kind.endswith("]"):
        item = {**parameter, "type": kind[: kind.rindex("[")]}
        return tuple(_shaped(item, each) for each in value)
    if kind == "tuple":
        return named(parameter["components"], value)
    return checksum_address(bytes.fromhex(value[2:])) if kind == "address" else value


@dataclass(frozen=True, slots=True)
class Function:
    """One callable function of a contract."""

    selector: bytes
    inputs: tuple[Entry, ...]
    outputs: tuple[Entry, ...]
    signature: str

    def encode(self, arguments: Sequence[Any]) -> bytes:
        """Return the call data; AbiError if the arguments do not fit."""
        from eth_abi.abi import encode  # noqa: PLC0415 - a sensor calls nothing, and has no library to do it
        from eth_abi.exceptions import EncodingError  # noqa: PLC0415

        try:
            return self.selector + encode([canonical_type(one) for one in self.inputs], arguments)
        except (EncodingError, ValueError) as error:
            raise AbiError(f"{self.signature}: {error}") from error

    def decode(self, data: bytes) -> tuple[Any, ...]:
        """Return the outputs in order, structs as dictionaries; AbiError if `data` is something else."""
        try:
            values = decode([canonical_type(one) for one in self.outputs], data)
        except AbiError as error:
            raise AbiError(f"{self.signature} returned {len(data)} bytes: {error}") from error
        return tuple(_shaped(one, value) for one, value in zip(self.outputs, values, strict=True))


_Readers = tuple[tuple[str, Callable[[bytes], Any]], ...]  # by name of the argument, in order


@dataclass(frozen=True, slots=True)
class EventDecoder:
    """One event's layout, and how to read it, worked out once: a block may bring a thousand events at once."""

    name: str
    indexed: tuple[Entry, ...]
    plain: tuple[Entry, ...]
    types: tuple[str, ...]
    size: int
    keys: _Readers | None  # None where a value is not a single word, and eth_abi has to read them
    values: _Readers | None

    def decode(self, topics: Sequence[bytes], data: bytes) -> dict[str, Any]:
        """Return the arguments by name; AbiError if the log does not have this event's shape."""
        if len(topics) != len(self.indexed) + 1 or not self.size <= len(data) <= _LONGEST:
            raise AbiError(f"{self.name} has {len(topics)} topics and {len(data)} bytes")
        try:
            return self._keys(topics[1:]) | self._values(data)
        except AbiError as error:
            raise AbiError(f"{self.name}: {error}") from error

    def _keys(self, topics: Sequence[bytes]) -> dict[str, Any]:
        if self.keys is not None and all(len(topic) == WORD for topic in topics):
            return {name: read(topic) for (name, read), topic in zip(self.keys, topics, strict=True)}
        kinds = (one["type"] for one in self.indexed)
        return named(self.indexed, [decode([kind], topic)[0] for kind, topic in zip(kinds, topics, strict=True)])

    def _values(self, data: bytes) -> dict[str, Any]:
        if self.values is None:
            return named(self.plain, decode(self.types, data))
        words = range(0, WORD * len(self.values), WORD)
        return {name: read(data[at : at + WORD]) for (name, read), at in zip(self.values, words, strict=True)}


class Abi:
    """The lookup tables of one contract."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        every = tuple(entries)
        self.events = {_topic(one): _event(one) for one in every if one["type"] == "event"}
        self._functions: dict[str, Function] = {}
        for function in (_function(one) for one in every if one["type"] == "function"):
            self._functions[function.signature] = function
            self._functions.setdefault(function.signature.partition("(")[0], function)
        errors = [_ERROR_STRING, _PANIC, *(one for one in every if one["type"] == "error")]
        self._errors = {keccak256(signature(one).encode())[:4]: one for one in errors}

    def function(self, name: str) -> Function:
        """Find a function by name, or by whole signature where the name is overloaded."""
        try:
            return self._functions[name]
        except KeyError as error:
            raise AbiError(f"no function {name}") from error

    def error(self, data: bytes) -> tuple[str, dict[str, Any]]:
        """Decode revert data into the error's name and arguments; unknown ones keep their hex."""
        entry = self._errors.get(data[:4])
        if entry is None:
            return ("Unknown", {"data": "0x" + data.hex()}) if data else ("NoReason", {})
        try:
            values = decode([canonical_type(one) for one in entry["inputs"]], data[4:])
        except AbiError:
            return "Unknown", {"data": "0x" + data.hex()}
        return entry["name"], named(entry["inputs"], values)


def _topic(entry: Entry) -> bytes:
    return keccak256(signature(entry).encode())


def _event(entry: Entry) -> EventDecoder:
    if entry.get("anonymous"):
        raise AbiError(f"{entry['name']} is anonymous: its logs cannot be told apart")
    indexed = tuple(one for one in entry["inputs"] if one["indexed"])
    plain = tuple(one for one in entry["inputs"] if not one["indexed"])
    types = tuple(canonical_type(one) for one in plain)
    size = sum(map(_least_size, plain))
    return EventDecoder(entry["name"], indexed, plain, types, size, _readers(indexed), _readers(plain))


def _readers(parameters: Sequence[Entry]) -> _Readers | None:
    if not all(_by_hand(one["type"]) for one in parameters):
        return None
    return tuple((one["name"] or str(place), _reader(one["type"])) for place, one in enumerate(parameters))


def _least_size(parameter: Entry) -> int:
    """Return the bytes a value takes at least: a word for each static part, a word for what is only pointed to."""
    kind: str = parameter["type"]
    if kind == "tuple":
        return sum(map(_least_size, parameter["components"]))
    return WORD


def _function(entry: Entry) -> Function:
    text = signature(entry)
    return Function(keccak256(text.encode())[:4], tuple(entry["inputs"]), tuple(entry["outputs"]), text)
