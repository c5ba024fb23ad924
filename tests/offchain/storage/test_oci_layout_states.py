"""An OCI layout under any sequence of writing, writing again, refusals and failing disks, against a plain model."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quietfleet.errors import LayoutRefused
from quietfleet.storage import OciLayout
from quietfleet.storage._oci_layout import Image

KIND = "application/octet-stream"
NAMES = st.sampled_from(["weather-1", "weather-2", "porch-1"])
DATA = st.binary(max_size=6)


class Layouts(RuleBasedStateMachine):
    """The model is what each name means."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.layout = OciLayout(self.folder / "layout")
        self.means = {}

    def teardown(self):
        shutil.rmtree(self.folder)

    def write(self, name, data, *, replace=False):
        with self.layout.writing() as writing:
            image = Image(config=writing.put(KIND, b"{}"), layers=[writing.put(KIND, data)])
            return writing.name(name, image, replace=replace).digest

    @rule(name=NAMES, data=DATA)
    def adds(self, name, data):
        if self.means.get(name, data) == data:
            assert self.write(name, data) == self.write(name, data)
            self.means[name] = data
        else:
            with pytest.raises(LayoutRefused, match="another"):
                self.write(name, data)

    @rule(name=NAMES, data=DATA)
    def replaces(self, name, data):
        self.write(name, data, replace=True)
        self.means[name] = data

    @rule(name=NAMES, data=DATA, steps=st.integers(0, 3))
    def is_written_on_a_failing_disk(self, name, data, steps):
        """Four files are written, the index last: a disk that fails at any of them has changed nothing."""
        left, sync = [steps], os.fsync

        def fails(handle):
            if not left[0]:
                raise OSError(5, "Input/output error")
            left[0] -= 1
            sync(handle)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.fsync", fails)
            with pytest.raises(OSError, match="Input"):
                self.write(name, data, replace=True)

    @rule(name=NAMES, at=st.integers(min_value=0))
    def loses_a_byte_and_gets_it_back_by_writing_again(self, name, at):
        if name not in self.means:
            return
        described = self.layout.image(name).layers[0]
        path = self.layout.directory / "blobs" / "sha256" / described.digest.removeprefix("sha256:")
        data = path.read_bytes()
        path.write_bytes(data[: at % (len(data) + 1)] + b"!" + data[at % (len(data) + 1) :])
        with pytest.raises(LayoutRefused):
            self.layout.blob(described, most=100)
        self.write(name, self.means[name])

    @invariant()
    def says_what_was_written(self):
        if not self.means:
            return
        assert self.layout.names() == sorted(self.means)
        for name, data in self.means.items():
            assert self.layout.blob(self.layout.image(name).layers[0], most=100) == data
        assert not list(self.layout.directory.rglob(".part-*"))


TestLayouts = Layouts.TestCase
TestLayouts.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)
