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
    with pytest.raises(ModelRejected, match="tensors in the graph"):
        guard(bytes_of(identity(), initializers=[tensor]))


@pytest.mark.parametrize("dims", [[3], [2**29], [2**31, 2**31]])
def test_guard__tensor_inside_whatever_it_claims_to_hold__is_refused(dims):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims)
    with pytest.raises(ModelRejected, match="tensors in the graph"):
        guard(bytes_of(identity(), initializers=[tensor]))


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
    with pytest.raises(ModelRejected, match="more than one graph"):
        guard(candidate.artifact + bytes_of(identity("Expand")))


@pytest.mark.parametrize("shape", [None, [12], [None, None], [None, 10**6], [None, 0], [4, 12], [None, 12, 1]])
def test_guard__input_is_not_rows_of_so_many_features__is_refused(shape):
    model = build([identity()])
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    with pytest.raises(ModelRejected, match="feature"):
        guard(model.SerializeToString())


@pytest.mark.parametrize(
    ("operator", "attributes", "why"),
    [
        ("LinearRegressor", {"coefficients": [1.0] * 11}, "do not fit"),
        ("LinearRegressor", {"coefficients": [1.0] * 12, "targets": 10**8}, "one target"),
        ("LinearRegressor", {"coefficients": [1.0] * 12, "intercepts": [0.0] * 9}, "do not fit"),
        ("LinearRegressor", {"coefficients": [1.0] * 12, "post_transform": "PROBIT"}, "transformed"),
        ("LinearRegressor", {"coefficients": [1.0] * 12, "weights": [1.0]}, "weights is not allowed"),
        ("Scaler", {"offset": [0.0] * 12, "scale": [1.0] * 13}, "do not fit"),
    ],
)
def test_guard__attributes_do_not_fit_the_rows__are_refused(operator, attributes, why):
    with pytest.raises(ModelRejected, match=why):
        guard(bytes_of(identity(operator, "ai.onnx.ml", **attributes)))


def test_guard__cast_to_text__is_refused():
    with pytest.raises(ModelRejected, match="float32"):
        guard(bytes_of(identity("Cast", to=TensorProto.STRING)))


def test_guard__many_nodes__are_refused():
    with pytest.raises(ModelRejected, match="nodes"):
        guard(bytes_of(*[identity()] * 33))


def trees(**changed):
    """One split over feature 0 and two leaves."""
    plain = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_values": [0.5, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 0],
        "target_weights": [1.0, 2.0],
        "n_targets": 1,
    }
    return identity("TreeEnsembleRegressor", "ai.onnx.ml", **(plain | changed))


def test_guard__trees__are_let_in():
    assert guard(bytes_of(trees())) == {("ai.onnx.ml", "TreeEnsembleRegressor")}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"nodes_truenodeids": [0, 0, 0]}, "leads back"),
        ({"nodes_falsenodeids": [7, 0, 0]}, "leads back, or nowhere"),
        ({"nodes_featureids": [12, 0, 0]}, "feature that there is not"),
        ({"nodes_featureids": [-1, 0, 0]}, "feature that there is not"),
        ({"nodes_nodeids": [0, 1, 1]}, "twice"),
        ({"nodes_treeids": [0, 1, 0]}, "in pieces"),
        ({"nodes_modes": ["BRANCH_LEQ", "LEAF"]}, "one length"),
        ({"nodes_modes": ["BRANCH_MEMBER", "LEAF", "LEAF"]}, "unknown kind"),
        ({"n_targets": 10**9}, "one target"),
        ({"target_ids": [0, 1]}, "elsewhere"),
        ({"target_nodeids": [1, 0]}, "elsewhere"),
        ({"target_nodeids": [1, 1]}, "elsewhere"),
        ({"target_weights": [1.0]}, "one length"),
        ({"base_values": [1.0, 2.0]}, "one base value"),
        ({"aggregate_function": "MAX"}, "sums and averages"),
        ({"nodes_hitrates": [1.0]}, "nodes' length"),
        ({"more": [1]}, "more is not allowed"),
    ],
)
def test_guard__trees_that_are_none__are_refused(changed, why):
    with pytest.raises(ModelRejected, match=why):
        guard(bytes_of(trees(**changed)))


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
