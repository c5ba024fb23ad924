"""Whether a TreeEnsembleRegressor is trees: each branch reads a feature there is, and leads on to two later nodes.

The runtime believes what it is given: a branch that leads back would never end, and a feature beyond the row would be
read from beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from quietfleet.errors import ModelRejected
from quietfleet.pipeline.onnx_wire import Attribute

MOST_TREES: Final = 2_000
_LEAF: Final = b"LEAF"
_BRANCHES: Final = (b"BRANCH_LEQ", b"BRANCH_LT", b"BRANCH_GTE", b"BRANCH_GT")
_NODES: Final = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids",
)  # fmt: skip
_TARGETS: Final = ("target_treeids", "target_nodeids", "target_ids")
_KNOWN: Final = frozenset(
    {
        *_NODES, *_TARGETS, "nodes_modes", "nodes_values", "nodes_hitrates", "nodes_missing_value_tracks_true",
        "target_weights", "n_targets", "aggregate_function", "base_values", "post_transform",
    }
)  # fmt: skip

Ints = npt.NDArray[np.int64]


def check_trees(found: Mapping[str, Attribute], width: int) -> None:
    """Raise `ModelRejected` unless these attributes are trees over `width` features with one number as result."""
    odd = found.keys() - _KNOWN
    if odd:
        raise _wrong(f"{min(odd):.32} is not allowed")
    nodes = {name: _ints(found, name) for name in _NODES}
    modes = found["nodes_modes"].strings if "nodes_modes" in found else []
    count = len(modes)
    lengths = {line.size for line in nodes.values()} | {len(_floats(found, "nodes_values"))}
    if not count or lengths != {count}:
        raise _wrong("the nodes' attributes are not of one length")
    _check_lengths(found, count)
    leaf = np.array([mode == _LEAF for mode in modes])
    if not all(mode in (*_BRANCHES, _LEAF) for mode in modes):
        raise _wrong("an unknown kind of node")
    features = nodes["nodes_featureids"][~leaf]
    if features.size and not 0 <= features.min() <= features.max() < width:
        raise _wrong("a branch reads a feature that there is not")
    places = _places(nodes["nodes_treeids"], nodes["nodes_nodeids"])
    for branch in ("nodes_truenodeids", "nodes_falsenodeids"):
        _check_leads_on(nodes["nodes_treeids"], nodes[branch], leaf, places)
    _check_results(found, leaf, places)


def _check_lengths(found: Mapping[str, Attribute], count: int) -> None:
    for name, line in (
        ("nodes_hitrates", _floats(found, "nodes_hitrates")),
        ("nodes_missing_value_tracks_true", _ints(found, "nodes_missing_value_tracks_true")),
    ):
        if len(line) not in (0, count):
            raise _wrong(f"{name} is not of the nodes' length")
    if len(_floats(found, "base_values")) > 1:
        raise _wrong("one base value is allowed")
    if "n_targets" in found and list(found["n_targets"].ints) != [1]:
        raise _wrong("one target is allowed")
    aggregate = found["aggregate_function"].strings if "aggregate_function" in found else [b"SUM"]
    if aggregate not in ([b"SUM"], [b"AVERAGE"]):
        raise _wrong("sums and averages alone are allowed")


def _places(trees: Ints, ids: Ints) -> dict[tuple[int, int], int]:
    """Where each node stands; a tree's root stands first among its own."""
    places = {key: place for place, key in enumerate(zip(trees.tolist(), ids.tolist(), strict=True))}
    if len(places) != trees.size:
        raise _wrong("a node stands there twice")
    if np.unique(trees).size > MOST_TREES or np.count_nonzero(np.diff(trees)) + 1 != np.unique(trees).size:
        raise _wrong("its trees are too many, or in pieces")
    return places


def _check_leads_on(
    trees: Ints, targets: Ints, leaf: npt.NDArray[np.bool_], places: Mapping[tuple[int, int], int]
) -> None:
    """Each branch goes to a node of its own tree that stands after it: then every way ends."""
    for place in np.flatnonzero(~leaf).tolist():
        if places.get((int(trees[place]), int(targets[place])), -1) <= place:
            raise _wrong("a branch leads back, or nowhere")


def _check_results(
    found: Mapping[str, Attribute], leaf: npt.NDArray[np.bool_], places: Mapping[tuple[int, int], int]
) -> None:
    trees, ids, targets = (_ints(found, name) for name in _TARGETS)
    if not trees.size == ids.size == targets.size == len(_floats(found, "target_weights")):
        raise _wrong("the results' attributes are not of one length")
    where = [places.get(key, -1) for key in zip(trees.tolist(), ids.tolist(), strict=True)]
    if any(place < 0 or not leaf[place] for place in where) or len(set(where)) != len(where) or targets.any():
        raise _wrong("a result stands elsewhere than at a leaf")


def _ints(found: Mapping[str, Attribute], name: str) -> Ints:
    return np.array(found[name].ints if name in found else [], dtype=np.int64)


def _floats(found: Mapping[str, Attribute], name: str) -> list[float]:
    return list(found[name].floats) if name in found else []


def _wrong(why: str) -> ModelRejected:
    return ModelRejected(f"TreeEnsembleRegressor: {why}")
