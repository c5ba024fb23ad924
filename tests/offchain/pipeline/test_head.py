"""The head a device may get where it lives: what it learns, what it is judged on, and how little it may do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.crypto import keccak256
from quietfleet.errors import ModelRejected
from quietfleet.pipeline.head import Autonomy, fit
from quietfleet.pipeline.package import canonical
from quietfleet.pipeline.runtime import load_model

BOUNDS = Autonomy(max_shift=1.0, min_rows=96)


def week(residual, *, rows=168, seed=1):
    """So many hourly rows of four features, and what a model is off by on them, with noise."""
    random = np.random.default_rng(seed)
    features = random.normal(10.0, 3.0, (rows, 4)).astype(np.float32)
    return features, residual(features) + random.normal(0.0, 0.1, rows), 3600.0 * np.arange(rows)


def test_fit__the_model_is_off_by_a_bit_of_a_feature__better_on_rows_it_never_saw():
    head = fit(BOUNDS, *week(lambda rows: 0.3 + 0.1 * (rows[:, 2] - 10)), gap=3)
    assert head.rows == 168
    assert head.after < 0.5 * head.before
    assert head.until == 167 * 3600.0


def test_fit__nothing_but_noise__no_head():
    assert fit(BOUNDS, *week(lambda rows: np.zeros(len(rows))), gap=3) is None


def test_fit__it_was_so_but_is_no_more__no_head():
    def turning(rows):
        return np.where(np.arange(len(rows)) < 110, 0.5, -0.5)

    assert fit(BOUNDS, *week(turning), gap=3) is None


def test_fit__fewer_rows_than_the_release_wants__no_head():
    assert fit(BOUNDS, *week(lambda rows: 0.1 * rows[:, 0], rows=95), gap=3) is None


def test_head__off_by_more_than_the_release_allows__moves_no_further():
    features, residuals, times = week(lambda rows: np.full(len(rows), 5.0))
    head = fit(BOUNDS, features, residuals, times, gap=3)
    assert np.all(head.corrections(features) == 1.0)


@settings(max_examples=30, deadline=None)
@given(
    most=st.floats(0.01, 5.0),
    wild=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=4, max_size=4),
    slope=st.floats(-100.0, 100.0),
)
def test_attack__rows_of_any_kind__stay_within_the_releases_bound(most, wild, slope):
    head = fit(Autonomy(max_shift=most), *week(lambda rows: slope * rows[:, 1]), gap=3)
    if head is not None:
        moved = head.corrections(np.array([wild], dtype=np.float32))
        assert np.all(np.abs(moved) <= most)


def test_hash__of_heads_that_differ__differs():
    heads = [fit(BOUNDS, *week(lambda rows: 0.1 * rows[:, 0], seed=seed), gap=3) for seed in (1, 1, 2)]
    assert heads[0].hash == heads[1].hash != heads[2].hash


@pytest.mark.parametrize("autonomy", [{}, {"max_shift": -1}, {"max_shift": 1e9}, {"max_shift": 1, "more": 1}, 3, None])
def test_load__a_manifest_with_bounds_that_are_none__refused(candidate, autonomy):
    manifest = candidate.manifest.replace(
        b'"autonomy":{"max_shift":1.0,"min_rows":96}', b'"autonomy":' + canonical(autonomy)
    )
    assert manifest != candidate.manifest
    with pytest.raises(ModelRejected):
        load_model(manifest, candidate.artifact, keccak256(manifest))


def test_load__a_manifest_without_bounds__allows_no_head(candidate):
    manifest = candidate.manifest.replace(b'"autonomy":{"max_shift":1.0,"min_rows":96},', b"")
    assert load_model(manifest, candidate.artifact, keccak256(manifest)).autonomy is None
    assert load_model(candidate.manifest, candidate.artifact, candidate.manifest_hash).autonomy == BOUNDS
