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
_MOST_ID: Final = 1 << 31
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
    lengths = {line.size for line in nodes.values()} | {_count(found, "nodes_values")}
    if not count or lengths != {count}:
        raise _wrong("the nodes' attributes are not of one length")
    _check_lengths(found, count)
    leaf = np.array([mode == _LEAF for mode in modes])
    if not all(mode in (*_BRANCHES, _LEAF) for mode in modes):
        raise _wrong("an unknown kind of node")
    features = nodes["nodes_featureids"][~leaf]
    if features.size and not 0 <= features.min() <= features.max() < width:
        raise _wrong("a branch reads a feature that there is not")
    places = _Places(nodes["nodes_treeids"], nodes["nodes_nodeids"])
    for branch in ("nodes_truenodeids", "nodes_falsenodeids"):
        _check_leads_on(nodes["nodes_treeids"], nodes[branch], leaf, places)
    _check_results(found, leaf, places)


def _check_lengths(found: Mapping[str, Attribute], count: int) -> None:
    for name, length in (
        ("nodes_hitrates", _count(found, "nodes_hitrates")),
        ("nodes_missing_value_tracks_true", _ints(found, "nodes_missing_value_tracks_true").size),
    ):
        if length not in (0, count):
            raise _wrong(f"{name} is not of the nodes' length")
    if _count(found, "base_values") > 1:
        raise _wrong("one base value is allowed")
    if "n_targets" in found and list(found["n_targets"].ints) != [1]:
        raise _wrong("one target is allowed")
    aggregate = found["aggregate_function"].strings if "aggregate_function" in found else [b"SUM"]
    if aggregate not in ([b"SUM"], [b"AVERAGE"]):
        raise _wrong("sums and averages alone are allowed")


class _Places:
    """Where each node stands; a tree's root stands first among its own.

    Arrays, as a dictionary of a forest's nodes takes twenty times as much memory as its file.
    """

    def __init__(self, trees: Ints, ids: Ints) -> None:
        keys = _keys(trees, ids)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        if (np.diff(self._sorted) == 0).any():
            raise _wrong("a node stands there twice")
        count = np.unique(trees).size
        if count > MOST_TREES or np.count_nonzero(np.diff(trees)) + 1 != count:
            raise _wrong("its trees are too many, or in pieces")

    def of(self, trees: Ints, ids: Ints) -> Ints:
        """Return the places of nodes; -1 for each that there is not."""
        wanted = _keys(trees, ids)
        near = np.minimum(np.searchsorted(self._sorted, wanted), self._sorted.size - 1)
        return np.where(self._sorted[near] == wanted, self._order[near], -1)


def _keys(trees: Ints, ids: Ints) -> Ints:
    for line in (trees, ids):
        if line.size and not 0 <= line.min() <= line.max() < _MOST_ID:
            raise _wrong("a tree's or node's number is out of range")
    return trees * _MOST_ID + ids


def _check_leads_on(trees: Ints, targets: Ints, leaf: npt.NDArray[np.bool_], places: _Places) -> None:
    """Each branch goes to a node of its own tree that stands after it: then every way ends."""
    branches = np.flatnonzero(~leaf)
    if (places.of(trees[branches], targets[branches]) <= branches).any():
        raise _wrong("a branch leads back, or nowhere")


def _check_results(found: Mapping[str, Attribute], leaf: npt.NDArray[np.bool_], places: _Places) -> None:
    trees, ids, targets = (_ints(found, name) for name in _TARGETS)
    if not trees.size == ids.size == targets.size == _count(found, "target_weights"):
        raise _wrong("the results' attributes are not of one length")
    where = places.of(trees, ids)
    if (where < 0).any() or not leaf[where].all() or np.unique(where).size != where.size or targets.any():
        raise _wrong("a result stands elsewhere than at a leaf")


def _ints(found: Mapping[str, Attribute], name: str) -> Ints:
    """Return an attribute's numbers, uncopied."""
    given = found[name].ints if name in found else None
    return np.frombuffer(given, dtype=np.int64) if given else np.zeros(0, dtype=np.int64)


def _count(found: Mapping[str, Attribute], name: str) -> int:
    """Return how many fractions an attribute lists."""
    return len(found[name].floats) if name in found else 0


def _wrong(why: str) -> ModelRejected:
    return ModelRejected(f"TreeEnsembleRegressor: {why}")
