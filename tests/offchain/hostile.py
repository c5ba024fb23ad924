"""Artefacts that somebody might want a device to load; run as a program, tries one and says what it cost.

`python hostile.py FILE …` prints how the artefacts were refused, and by how many KiB memory grew at most over that of a
process which loads a good model.
"""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from quietfleet.errors import ModelRejected
from quietfleet.pipeline.onnx_guard import MAXIMUM_BYTES, guard
from quietfleet.pipeline.onnx_wire import MOST_VALUES
from quietfleet.pipeline.sessions import open_session

WIDTH = 12
GIB = 1 << 30


class Opens:
    """Unpickled, it would run."""

    def __reduce__(self):
        return exec, ("raise SystemExit(66)",)


def model(*nodes, initializers=(), functions=(), shape=(None, WIDTH)):
    """An ONNX file around some nodes."""
    rows = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [rows], [out], initializer=list(initializers))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=8)


def linear(**attributes):
    """A good linear model, if nothing is changed about it."""
    plain = {"coefficients": [0.1] * WIDTH, "intercepts": [0.0], "targets": 1} | attributes
    return helper.make_node("LinearRegressor", ["x"], ["y"], domain="ai.onnx.ml", **plain)


def node(name, inputs=("x",), **attributes):
    return helper.make_node(name, list(inputs), ["y"], **attributes)


@cache
def zipped(size):
    """A small archive of much: what a skops file is made of."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("schema.json", "w", force_zip64=True) as inner,
    ):
        for _ in range(size >> 20):
            inner.write(bytes(1 << 20))
    return packed.getvalue()


def skops(name):
    """An archive that names a type to be made."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        state = {"__class__": "system", "__module__": "os", "__loader__": "ObjectNode", "content": {"args": name}}
        archive.writestr("schema.json", json.dumps(state))
    return packed.getvalue()


def nested(depth):
    """A message in a message in a message."""
    inner = b""
    for _ in range(depth):
        size, head = len(inner), b""
        while size > 127:
            head, size = head + bytes([size & 127 | 128]), size >> 7
        inner = b"\x3a" + head + bytes([size]) + inner
    return inner


def outside():
    tensor = numpy_helper.from_array(np.zeros(3, dtype=np.float32), "w")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return model(node("Identity"), initializers=[tensor])


def endless():
    """A tree that leads back to its root."""
    return helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0, 0], nodes_nodeids=[0, 1], nodes_featureids=[0, 0], nodes_modes=["BRANCH_LEQ", "LEAF"],
        nodes_values=[1e30, 0.0], nodes_truenodeids=[0, 0], nodes_falsenodeids=[1, 0],
        target_treeids=[0], target_nodeids=[1], target_ids=[0], target_weights=[1.0],
    )  # fmt: skip


def constant(dims):
    shape = numpy_helper.from_array(np.array(dims, dtype=np.int64), "shape")
    return model(node("ConstantOfShape", ["shape"]), initializers=[shape])


# files that are as much as they can be of what takes more room in memory than there


def field(number, body):
    """A field of bytes in a message."""
    sizes, size = [], len(body)
    while size > 127:
        sizes, size = [*sizes, size & 127 | 128], size >> 7
    return bytes([number << 3 | 2, *sizes, size]) + body


MUCH = MAXIMUM_BYTES - 256
NAMES = (
    b"nodes_treeids", b"nodes_nodeids", b"nodes_featureids", b"nodes_truenodeids", b"nodes_falsenodeids",
    b"target_treeids", b"target_nodeids", b"target_ids", b"nodes_missing_value_tracks_true", b"n_targets",
    b"nodes_hitrates", b"nodes_values", b"target_weights", b"base_values", b"aggregate_function", b"post_transform",
)  # fmt: skip


def typed(*dims):
    shape = field(2, b"".join(field(1, dim) for dim in dims))
    return field(11, field(1, b"x") + field(2, field(1, b"\x08\x01" + shape)))


def tree(*attributes):
    """A model whose only node has these attributes: names and what else they hold."""
    packed = b"".join(field(5, field(1, name) + body) for name, body in attributes)
    head = field(1, b"x") + field(2, b"y") + field(4, b"TreeEnsembleRegressor") + field(7, b"ai.onnx.ml")
    return field(7, field(1, head + packed) + typed(b"", b"\x08\x0c") + field(12, field(1, b"y")))


DENSE = {
    "empty graphs": lambda much: field(7, b"") * (much // 2),
    "empty nodes": lambda much: field(7, field(1, b"") * (much // 2)),
    "empty types": lambda much: field(7, field(11, field(2, b"") * (much // 2))),
    "empty dimensions": lambda much: field(7, field(11, field(2, field(1, field(2, field(1, b"") * (much // 2)))))),
    "packed numbers": lambda much: tree((NAMES[0], field(8, b"\1" * much))),
    "loose numbers": lambda much: tree((NAMES[0], b"\x40\1" * (much // 2))),
    "most numbers everywhere": lambda much: tree(
        *((name, field(8, b"\1" * min(MOST_VALUES, much // 20))) for name in NAMES)
    ),
    "packed fractions": lambda much: tree((b"nodes_values", field(7, bytes(much)))),
    "strings": lambda much: tree((b"nodes_modes", b"".join(field(9, b"%x" % n) for n in range(much // 8)))),
    "attributes": lambda much: tree(*((b"%x" % n, b"") for n in range(much // 10))),
    "long name": lambda much: field(7, field(1, field(4, b"\xff" * much)) + typed(b"", b"\x08\x0c") + field(12, b"")),
}

HOSTILE = DENSE | {
    "pickle": lambda: pickle.dumps(Opens()),
    "joblib": lambda: b"\x80\x04\x95" + pickle.dumps(Opens())[3:],
    "skops with an unknown type": lambda: skops("touch /tmp/was-here"),
    "zip bomb": lambda: zipped(GIB // 2),
    "data outside": outside,
    "constant of 6 GB": lambda: constant([40_000, 40_000]),
    "expand": lambda: model(node("Expand", ["x", "x"])),
    "tile": lambda: model(node("Tile", ["x", "x"])),
    "range": lambda: model(node("Range", ["x", "x", "x"])),
    "loop": lambda: model(node("Loop", body=model(node("Identity")).graph)),
    "function": lambda: model(
        node("Own", domain="own"),
        functions=[helper.make_function("own", "Own", ["x"], ["y"], [node("Identity")], [helper.make_opsetid("", 17)])],
    ),
    "another domain": lambda: model(node("Attention", domain="com.microsoft")),
    "tensor that claims 2 GB": lambda: model(
        linear(), initializers=[TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 29])]
    ),
    "text that claims 2 GB": lambda: model(
        linear(), initializers=[TensorProto(name="w", data_type=TensorProto.STRING, dims=[1 << 28])]
    ),
    "so many targets": lambda: model(linear(targets=10**9)),
    "wide rows": lambda: model(linear(), shape=(None, 10**9)),
    "another width": lambda: model(linear(coefficients=[0.1] * 3), shape=(None, 3)),
    "no width": lambda: model(linear(), shape=(None, None)),
    "endless tree": lambda: model(endless()),
    "deeply nested": lambda: nested(100_000),
    "eight megabytes": lambda: bytes(9 << 20),
    "forecasts no number": lambda: model(linear(intercepts=[float("nan")])),
    "nothing": lambda: b"",
}


def made(name, much=MUCH):
    """The bytes of one of them; `much` is how many those may have that are as much as they can be."""
    found = DENSE[name](much) if name in DENSE else HOSTILE[name]()
    return found if isinstance(found, bytes) else found.SerializeToString()


def peak():
    """KiB at most; not `getrusage`'s, which a process takes over from whoever started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def attempt(data):
    """Take an artefact up as a device does, without its manifest."""
    guard(data)
    session = open_session(data, WIDTH)
    if not np.isfinite(session.run(None, {"x": np.zeros((1, WIDTH), dtype=np.float32)})[0]).all():
        raise ModelRejected("its forecast is not a number")


def refusal(data):
    """Why a device takes it not; empty when it does."""
    try:
        attempt(data)
    except ModelRejected as error:
        return str(error)
    return ""


if __name__ == "__main__":
    attempt(model(linear()).SerializeToString())
    before = peak()
    refused = [refusal(Path(file).read_bytes()) for file in sys.argv[1:]]
    sys.stdout.write(json.dumps({"refused": refused, "grew": peak() - before}))
