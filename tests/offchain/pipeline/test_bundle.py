"""One processor's part of a release: what fits, how it travels, and what a device makes of a false one."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from quietfleet.crypto import keccak256
from quietfleet.errors import ModelRejected
from quietfleet.pipeline.bundle import MOST_PERSONAL, bundle, pack, unpack
from quietfleet.pipeline.linear_onnx import LinearTemplate
from quietfleet.pipeline.runtime import MAXIMUM_MANIFEST_BYTES, load_model

ROOM = 1 << 20
WIDTH = 12


@pytest.fixture(scope="module")
def says():
    """Make a model that says a number, whatever it is asked."""
    template = LinearTemplate(WIDTH)
    return lambda number: template.fill(np.zeros(WIDTH), np.ones(WIDTH), np.zeros(WIDTH), number)


@pytest.fixture(scope="module")
def made(candidate, says):
    return bundle(candidate.manifest, candidate.artifact, [("a", says(1.0)), ("b", says(2.0))], most=ROOM)


def load(made, payload=None):
    default, personal = unpack(pack(made.default, made.personal) if payload is None else payload)
    return load_model(made.manifest, default, keccak256(made.manifest), personal)


def test_load__bundle_of_two_devices__each_is_forecast_by_its_own(made, candidate):
    row = np.full((1, WIDTH), 3.0, dtype=np.float32)
    model = load(made)
    everybody = load_model(candidate.manifest, candidate.artifact, candidate.manifest_hash).predict(row).value
    assert [model.predict(row, device).value for device in ("a", "b", "c", None)] == [1.0, 2.0, everybody, everybody]
    assert model.personal == {"a", "b"}


def test_bundle__nobody_has_a_model__is_the_default_as_it_was(candidate):
    made = bundle(candidate.manifest, candidate.artifact, [], most=ROOM)
    assert made.manifest == candidate.manifest
    assert unpack(pack(made.default, made.personal)) == (candidate.artifact, {})


def test_bundle__more_than_a_manifest_holds__keeps_the_first_and_stays_loadable(candidate, says):
    models = [(f"{place:024x}", says(float(place))) for place in range(MOST_PERSONAL + 9)]
    made = bundle(candidate.manifest, candidate.artifact, models, most=ROOM)
    assert 100 < len(made.personal) < MOST_PERSONAL
    assert list(made.personal) == [device for device, _ in models][: len(made.personal)]
    assert len(made.manifest) <= MAXIMUM_MANIFEST_BYTES
    assert load(made).personal == made.personal.keys()


@pytest.mark.parametrize("most", [900, 2000, 5000, 20_000])
def test_bundle__little_room_for_artefacts__stays_within_it(candidate, says, most):
    models = [(f"{place:024x}", says(float(place))) for place in range(40)]
    made = bundle(candidate.manifest, candidate.artifact, models, most=most)
    payload = pack(made.default, made.personal)
    assert len(payload) <= most
    assert load(made, payload).personal == made.personal.keys()


def test_load__another_devices_model_under_ones_name__is_refused(made):
    payload = pack(made.default, {"a": made.personal["b"], "b": made.personal["a"]})
    with pytest.raises(ModelRejected, match="not the one in the manifest"):
        load(made, payload)


def test_load__one_device_more_or_less_than_promised__is_refused(made, says):
    for personal in ({"a": made.personal["a"]}, made.personal | {"c": says(3.0)}, {}):
        with pytest.raises(ModelRejected, match="not those of the manifest"):
            load(made, pack(made.default, personal))


def test_load__personal_model_with_another_operator__is_refused_before_it_runs(made, says):
    evil = says(4.0).replace(b"LinearRegressor", b"ConstantOfShape")
    plain = json.loads(made.manifest)
    plain["models"]["personal"]["a"] = {"sha256": hashlib.sha256(evil).hexdigest(), "size": len(evil)}
    manifest = json.dumps(plain).encode()
    with pytest.raises(ModelRejected, match="not allowed"):
        load(made._replace(manifest=manifest), pack(made.default, made.personal | {"a": evil}))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x80",
        b"\x83garbage",
        pack(b"x", {"a": b"y"})[:-1],
        pack(b"x", {"": b"y"}),
        pack(b"x", {"a" * 65: b"y"}),
        pack(b"x" * 65_537, {"a": b"y"}),
        pack(b"x", {str(place): b"y" for place in range(MOST_PERSONAL + 1)}),
    ],
    ids=["nothing", "empty map", "garbage", "cut off", "no name", "long name", "too large", "too many"],
)
def test_load__payload_that_is_none__is_refused(made, payload):
    with pytest.raises(ModelRejected):
        load(made, payload)


@given(some.sampled_from(range(0x80, 0x90)), some.binary(max_size=200))
def test_unpack__any_bytes_behind_a_maps_first__are_refused_or_bounded(first, rest):
    try:
        default, personal = unpack(bytes([first]) + rest)
    except ModelRejected:
        return
    assert personal
    assert sum(map(len, (default, *personal.values()))) <= len(rest)


@given(some.binary(max_size=99), some.dictionaries(some.text("ab", min_size=1, max_size=9), some.binary(max_size=99)))
def test_unpack__what_was_packed__comes_out_again(default, personal):
    if personal or default[:1] not in [bytes([one]) for one in range(0x80, 0x90)]:
        assert unpack(pack(default, personal)) == (default, personal)
