from contextlib import suppress

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quietfleet.errors import ModelRejected
from quietfleet.pipeline.onnx_guard import MAXIMUM_BYTES, guard


def build(nodes, *, initializers=(), opsets=(("", 17), ("ai.onnx.ml", 3)), functions=()):
    features = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 12])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [features], [out], initializer=list(initializers))
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions))


def identity(name="Identity", domain="", **attributes):
    return helper.make_node(name, ["x"], ["y"], domain=domain, **attributes)


def bytes_of(*nodes, **options):
    return build(nodes, **options).SerializeToString()


def test_guard__our_own_artifact__names_the_operators_onnx_names(candidate):
    model = onnx.load_from_string(candidate.artifact)
    assert guard(candidate.artifact) == {(node.domain, node.op_type) for node in model.graph.node}


@pytest.mark.parametrize(
    "name", ["ConstantOfShape", "Expand", "Tile", "MatMul", "Add", "Loop", "If", "Scan", "identity"]
)
def test_guard__operator_not_on_the_list__is_refused(name):
    with pytest.raises(ModelRejected, match=name):
        guard(bytes_of(identity(name)))


@pytest.mark.parametrize("domain", ["com.microsoft", "evil", "ai.onnx"])
def test_guard__known_name_in_another_domain__is_refused(domain):
    with pytest.raises(ModelRejected):
        guard(bytes_of(identity(domain=domain)))


def test_guard__imports_another_domain__is_refused():
    with pytest.raises(ModelRejected, match="domain"):
        guard(bytes_of(identity(), opsets=(("", 17), ("evil", 1))))


def test_guard__tensor_kept_in_another_file__is_refused():
    tensor = numpy_helper.from_array(np.zeros(3, dtype=np.float32), "w")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secrets")
    with pytest.raises(ModelRejected, match="outside"):
        guard(bytes_of(identity(), initializers=[tensor]))


def test_guard__tensor_inside__is_fine():
    tensor = numpy_helper.from_array(np.zeros(3, dtype=np.float32), "w")
    assert guard(bytes_of(identity(), initializers=[tensor])) == {("", "Identity")}


def test_guard__graph_inside_an_attribute__is_refused():
    with pytest.raises(ModelRejected, match="inside attributes"):
        guard(bytes_of(identity(body=build([identity("Loop")]).graph)))


def test_guard__tensor_inside_an_attribute__is_refused():
    with pytest.raises(ModelRejected, match="inside attributes"):
        guard(bytes_of(identity(value=numpy_helper.from_array(np.zeros(3)))))


def test_guard__functions__are_refused():
    function = helper.make_function("", "Identity2", ["x"], ["y"], [identity("Expand")], [helper.make_opsetid("", 17)])
    with pytest.raises(ModelRejected, match="functions"):
        guard(bytes_of(identity(), functions=[function]))


def test_guard__second_graph_appended__is_looked_into_too(candidate):
    # protocol buffers merge repeated messages: a reader sees both graphs' nodes
    with pytest.raises(ModelRejected, match="Expand"):
        guard(candidate.artifact + bytes_of(identity("Expand")))


def test_guard__larger_than_the_cap__is_refused():
    with pytest.raises(ModelRejected, match="bytes"):
        guard(bytes(MAXIMUM_BYTES + 1))


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x3a\x7f", b"hello world", b"\x38\x01", b"\x3b", b"\xff" * 11])
def test_guard__no_onnx_at_all__is_refused(data):
    with pytest.raises(ModelRejected):
        guard(data)


@given(st.binary(max_size=200))
def test_guard__any_bytes__refuses_or_names_but_never_crashes(data):
    with suppress(ModelRejected):
        assert guard(data)


@given(st.data())
def test_guard__any_bit_of_ours_flipped__never_crashes(candidate, data):
    damaged = bytearray(candidate.artifact)
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(ModelRejected):
        guard(bytes(damaged))
