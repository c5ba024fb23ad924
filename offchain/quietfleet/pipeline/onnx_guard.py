"""Looks into an ONNX file before any runtime does: known operators only, each with attributes that fit its width.

A 76-byte model can ask for gigabytes, and one loaded by path can read its neighbours. What is allowed is what our own
trainer emits for linear models and for trees; none of it can make a tensor grow, run without end or read beside its
input. What is not known is refused. Two bytes of a file can be an object of a hundred here, so whatever is counted is
refused at the first one too many, not once all are collected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final

from quietfleet.errors import ModelRejected
from quietfleet.pipeline.onnx_trees import check_trees
from quietfleet.pipeline.onnx_wire import Attribute, fields, nested, text, text_of

MAXIMUM_BYTES: Final = 8 << 20
"""The most that an artefact has; those that are to travel in a message are smaller."""
MOST_NODES: Final = 32
MOST_WIDTH: Final = 256
MOST_ATTRIBUTES: Final = 16

_FLOAT: Final = 1
_DOMAINS: Final = frozenset({"", "ai.onnx.ml"})
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 8, 20, 25
_OPSET_DOMAIN: Final = 1
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
_VALUE_TYPE, _TYPE_TENSOR, _TENSOR_ELEMENT, _TENSOR_SHAPE, _SHAPE_DIM, _DIM_VALUE = 2, 1, 1, 2, 1, 1

Attributes = Mapping[str, Attribute]


def guard(artifact: bytes) -> frozenset[tuple[str, str]]:
    """Return the (domain, operator) pairs of a model; `ModelRejected` when it holds anything else than allowed."""
    if len(artifact) > MAXIMUM_BYTES:
        raise ModelRejected(f"{len(artifact)} bytes, at most {MAXIMUM_BYTES} are allowed")
    graph = None
    for field, value in fields(memoryview(artifact)):
        if field in (_MODEL_FUNCTIONS, _MODEL_TRAINING):
            raise ModelRejected("functions and training graphs are not allowed")
        if field == _MODEL_OPSET:
            _guard_domain(text(nested(value), _OPSET_DOMAIN))
        if field == _MODEL_GRAPH:
            if graph is not None:
                raise ModelRejected("more than one graph in it")
            graph = nested(value)
    if graph is None:
        raise ModelRejected("no graph in it")
    return frozenset(_guard_graph(graph))


def _guard_graph(graph: memoryview) -> set[tuple[str, str]]:
    nodes, widths, outputs = [], [], 0
    for field, value in fields(graph):
        if field == _GRAPH_NODE:
            nodes.append(nested(value))
        elif field in (_GRAPH_INITIALIZER, _GRAPH_SPARSE):
            raise ModelRejected("tensors in the graph are not allowed")
        elif field == _GRAPH_INPUT:
            widths.append(_width(nested(value)))
        elif field == _GRAPH_OUTPUT:
            outputs += 1
        if len(nodes) > MOST_NODES or len(widths) > 1 or outputs > 1:
            raise ModelRejected(f"a model has one input, one output and at most {MOST_NODES} nodes")
    if len(widths) != 1 or outputs != 1:
        raise ModelRejected("a model has one input and one output")
    if not nodes:
        raise ModelRejected("no node in it")
    return {_guard_node(node, widths[0]) for node in nodes}


def _guard_node(node: memoryview, width: int) -> tuple[str, str]:
    operator = (text(node, _NODE_DOMAIN), text(node, _NODE_OP))
    rule = _RULES.get(operator)
    if rule is None:
        raise ModelRejected(f"operator {'.'.join(operator)} is not allowed")
    found: dict[str, Attribute] = {}
    ends = {_NODE_INPUT: 0, _NODE_OUTPUT: 0}
    for field, value in fields(node):
        if field in ends:
            ends[field] += bool(text_of(value))
        if field == _NODE_ATTRIBUTE:
            attribute = Attribute(nested(value))
            if attribute.odd:
                raise ModelRejected("tensors and graphs inside attributes are not allowed")
            if attribute.name in found:
                raise ModelRejected(f"{operator[1]}: {attribute.name:.32} stands there twice")
            found[attribute.name] = attribute
            if len(found) > MOST_ATTRIBUTES:
                raise ModelRejected(f"{operator[1]}: more than {MOST_ATTRIBUTES} attributes")
    if set(ends.values()) != {1}:
        raise ModelRejected(f"{operator[1]} has one input and one output")
    rule(found, width)
    return operator


def _width(value: memoryview) -> int:
    """Return how many features a row has, from an input's type: float32 [N, features]."""
    tensor = _inner(_inner(value, _VALUE_TYPE), _TYPE_TENSOR)
    element = _few(tensor, _TENSOR_ELEMENT)
    dims = _few(_inner(tensor, _TENSOR_SHAPE), _SHAPE_DIM)
    sizes = [_few(nested(dim), _DIM_VALUE) for dim in dims]
    if element != [_FLOAT] or len(sizes) != 2 or sizes[0] not in ([], [1]) or len(sizes[1]) != 1:  # noqa: PLR2004 - [N, F]
        raise ModelRejected("the input is not float32 [N, features]")
    width = sizes[1][0]
    if not isinstance(width, int) or not 0 < width <= MOST_WIDTH:
        raise ModelRejected(f"{width!r:.20} features, 1 to {MOST_WIDTH} are allowed")
    return width


def _inner(message: memoryview, wanted: int) -> memoryview:
    found = _few(message, wanted)
    if len(found) != 1:
        raise ModelRejected("the input is not float32 [N, features]")
    return nested(found[0])


def _few(message: memoryview, wanted: int) -> list[memoryview | int]:
    """Return the first fields of a number: three, which is one more than there may be of any."""
    return list(islice((value for field, value in fields(message) if field == wanted), 3))


def _guard_domain(domain: str) -> None:
    if domain not in _DOMAINS:
        raise ModelRejected(f"operator domain {domain} is not allowed")


# operators


def _linear(found: Attributes, width: int) -> None:
    _known("LinearRegressor", found, {"coefficients", "intercepts", "targets", "post_transform"})
    if "targets" in found and list(found["targets"].ints) != [1]:
        raise ModelRejected("LinearRegressor: one target is allowed")
    _plain_result("LinearRegressor", found)
    if len(_floats(found, "coefficients")) != width or len(_floats(found, "intercepts")) not in (0, 1):
        raise ModelRejected("LinearRegressor: the coefficients do not fit the features")


def _scaler(found: Attributes, width: int) -> None:
    _known("Scaler", found, {"offset", "scale"})
    if any(len(_floats(found, name)) not in (1, width) for name in ("offset", "scale")):
        raise ModelRejected("Scaler: the scales do not fit the features")


def _cast(found: Attributes, _width: int) -> None:
    _known("Cast", found, {"to", "saturate"})
    if list(found["to"].ints if "to" in found else ()) != [_FLOAT]:
        raise ModelRejected("Cast: only to float32 is allowed")


def _identity(found: Attributes, _width: int) -> None:
    _known("Identity", found, set())


def _trees(found: Attributes, width: int) -> None:
    _plain_result("TreeEnsembleRegressor", found)
    check_trees(found, width)


def _known(operator: str, found: Attributes, known: set[str]) -> None:
    odd = found.keys() - known
    if odd:
        raise ModelRejected(f"{operator}: {min(odd):.32} is not allowed")


def _plain_result(operator: str, found: Attributes) -> None:
    if "post_transform" in found and found["post_transform"].strings not in ([b"NONE"], [b""]):
        raise ModelRejected(f"{operator}: its result is not to be transformed")


def _floats(found: Attributes, name: str) -> list[float]:
    return list(found[name].floats) if name in found else []


_RULES: Final[Mapping[tuple[str, str], Callable[[Attributes, int], None]]] = {
    ("ai.onnx.ml", "Scaler"): _scaler,
    ("ai.onnx.ml", "LinearRegressor"): _linear,
    ("ai.onnx.ml", "TreeEnsembleRegressor"): _trees,
    ("", "Cast"): _cast,
    ("", "Identity"): _identity,
}
ALLOWED: Final = frozenset(_RULES)
