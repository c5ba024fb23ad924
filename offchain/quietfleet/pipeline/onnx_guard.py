"""Looks into an ONNX file before any runtime does: known operators only, nothing outside of the file.

A 76-byte model can ask for gigabytes, and one loaded by path can read its neighbours. Devices have no `onnx`
package, so this walks the protocol-buffer encoding itself (field numbers from onnx.proto3) and refuses what it
does not know. What is allowed is what our own trainer emits; none of it can make a tensor grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from quietfleet.errors import ModelRejected

MAXIMUM_BYTES: Final = 64 * 1024
ALLOWED: Final = frozenset(
    {("ai.onnx.ml", "Scaler"), ("ai.onnx.ml", "LinearRegressor"), ("", "Cast"), ("", "Identity")}
)
_DOMAINS: Final = frozenset({"", "ai.onnx.ml"})

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_OPSET_DOMAIN: Final = 1
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 22, 23
_NESTED: Final = frozenset(
    {_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES}
)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14


def guard(artifact: bytes) -> frozenset[tuple[str, str]]:
    """Return the (domain, operator) pairs of a model; `ModelRejected` when it holds anything else than allowed."""
    if len(artifact) > MAXIMUM_BYTES:
        raise ModelRejected(f"{len(artifact)} bytes, at most {MAXIMUM_BYTES} are allowed")
    operators: set[tuple[str, str]] = set()
    for field, value in _fields(artifact):
        if field in (_MODEL_FUNCTIONS, _MODEL_TRAINING):
            raise ModelRejected("functions and training graphs are not allowed")
        if field == _MODEL_OPSET:
            _guard_domain(_text(_nested(value), _OPSET_DOMAIN))
        if field == _MODEL_GRAPH:
            operators |= _guard_graph(_nested(value))
    if not operators:
        raise ModelRejected("no graph in it")
    return frozenset(operators)


def _guard_graph(graph: bytes) -> set[tuple[str, str]]:
    operators = set()
    for field, value in _fields(graph):
        if field == _GRAPH_NODE:
            operators.add(_guard_node(_nested(value)))
        elif field == _GRAPH_INITIALIZER:
            _guard_tensor(_nested(value))
        elif field == _GRAPH_SPARSE:
            raise ModelRejected("sparse tensors are not allowed")
    return operators


def _guard_node(node: bytes) -> tuple[str, str]:
    operator = (_text(node, _NODE_DOMAIN), _text(node, _NODE_OP))
    if operator not in ALLOWED:
        raise ModelRejected(f"operator {'.'.join(operator)} is not allowed")
    for field, value in _fields(node):
        if field == _NODE_ATTRIBUTE and any(inner in _NESTED for inner, _ in _fields(_nested(value))):
            raise ModelRejected("tensors and graphs inside attributes are not allowed")
    return operator


def _guard_tensor(tensor: bytes) -> None:
    if any(field in (_TENSOR_EXTERNAL, _TENSOR_LOCATION) for field, _ in _fields(tensor)):
        raise ModelRejected("data outside of the file is not allowed")


def _guard_domain(domain: str) -> None:
    if domain not in _DOMAINS:
        raise ModelRejected(f"operator domain {domain} is not allowed")


def _text(message: bytes, wanted: int) -> str:
    """Read a string field; the last one counts, as in every protocol-buffer reader."""
    found = b""
    for field, value in _fields(message):
        if field == wanted:
            found = _nested(value)
    return found.decode("utf-8", errors="replace")


def _nested(value: bytes | int) -> bytes:
    if isinstance(value, int):
        raise ModelRejected("not an ONNX file: a number stands where a message belongs")
    return value


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Walk a message's fields: number, and bytes or integer."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == _VARINT:
            number, at = _varint(message, at)
            yield key >> 3, number
        else:
            size, at = _size(message, at, key & 7)
            if at + size > len(message):
                raise ModelRejected("not an ONNX file: it ends early")
            yield key >> 3, message[at : at + size]
            at += size


def _size(message: bytes, at: int, wire_type: int) -> tuple[int, int]:
    if wire_type == _DELIMITED:
        return _varint(message, at)
    if wire_type in (_FIXED64, _FIXED32):
        return (8 if wire_type == _FIXED64 else 4), at
    raise ModelRejected("not an ONNX file: unknown wire type")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        value |= (message[at] & 0x7F) << shift
        at += 1
        if message[at - 1] < 0x80:  # noqa: PLR2004 -- the continuation bit
            return value, at
    raise ModelRejected("not an ONNX file: a number without end")
