"""Releases in an OCI layout: the same bytes each time, and nothing taken from a folder that is not whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oci_world import exported, read_all, registered

from quietfleet.crypto import keccak256
from quietfleet.errors import LayoutRefused, ModelRejected
from quietfleet.pipeline import oci
from quietfleet.pipeline.oci import MANIFEST_HASH, read_release, reference_of, take_release, write_release
from quietfleet.storage import OciLayout

NOW = 1_400_000_000.0


@pytest.fixture
def release(candidate):
    return exported(candidate, version=3, devices=2)


@pytest.fixture
def layout(release, tmp_path):
    write_release(release, tmp_path / "layout")
    return tmp_path / "layout"


class Forger:
    """Changes what a layout says, with digests and sizes made to fit again."""

    def __init__(self, layout):
        self.layout = layout

    def index(self, change):
        path = self.layout / "index.json"
        index = json.loads(path.read_bytes())
        change(index)
        path.write_text(json.dumps(index))

    def manifest(self, change):
        def in_index(index):
            (entry,) = index["manifests"]
            manifest = json.loads(self.path(entry).read_bytes())
            change(manifest)
            entry |= self.blob(json.dumps(manifest).encode())

        self.index(in_index)

    def config(self, change):
        def in_manifest(manifest):
            plain = json.loads(self.path(manifest["config"]).read_bytes())
            change(plain)
            data = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
            manifest["config"] |= self.blob(data)
            manifest["annotations"][MANIFEST_HASH] = "0x" + keccak256(data).hex()

        self.manifest(in_manifest)

    def blob(self, data):
        name = hashlib.sha256(data).hexdigest()
        (self.layout / "blobs" / "sha256" / name).write_bytes(data)
        return {"digest": f"sha256:{name}", "size": len(data)}

    def path(self, described):
        return self.layout / "blobs" / "sha256" / described["digest"].removeprefix("sha256:")


def refused(layout, reference="weather-3"):
    with pytest.raises(LayoutRefused) as told:
        read_release(layout, reference)
    return str(told.value)


# written


def test_export__and_read__is_the_release(release, layout):
    assert read_release(layout, reference_of(release)) == release
    assert take_release(layout, None, now=NOW) == release


def test_export__same_releases_in_another_order_and_again__same_bytes(candidate, tmp_path):
    one, other = (exported(candidate, version=version, devices=version) for version in (1, 2))
    for folder, order in (("a", [one, other]), ("b", [other, one, other])):
        for release in order:
            write_release(release, tmp_path / folder)
    assert read_all(tmp_path / "a") == read_all(tmp_path / "b")
    assert OciLayout(tmp_path / "a").names() == ["weather-1", "weather-2"]


def test_export__what_is_written_on_it__follows_from_its_manifest_alone(release, layout):
    told = OciLayout(layout).image(reference_of(release)).annotations
    created = json.loads(release.manifest)["created_at"]
    assert told == {
        "org.opencontainers.image.title": "weather",
        "org.opencontainers.image.version": "3",
        "org.opencontainers.image.created": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        MANIFEST_HASH: "0x" + keccak256(release.manifest).hex(),
    }


def test_export__another_release_under_the_same_name__refused_and_the_first_stays(candidate, release, layout):
    with pytest.raises(LayoutRefused, match="another weather-3"):
        write_release(exported(candidate, version=3, devices=1), layout)
    assert read_release(layout, reference_of(release)) == release


@pytest.mark.parametrize("name", ["../weather", "Wétter", "a b", "-a", "a__b", "", "x" * 101, "a\n"])
def test_export__name_no_registry_takes__refused_before_anything_is_written(candidate, tmp_path, name):
    with pytest.raises(LayoutRefused, match="tag"):
        write_release(exported(candidate, name=name), tmp_path / "layout")
    assert not (tmp_path / "layout").exists()


def test_export__into_a_folder_of_other_things__refused_and_untouched(release, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(LayoutRefused, match="other things"):
        write_release(release, tmp_path)
    assert read_all(tmp_path) == {"thesis.txt": b"years of work"}


def test_export__disk_fails_before_the_index__the_layout_is_as_it_was(candidate, layout, monkeypatch):
    before = read_all(layout)
    replace = os.fsync

    def full(handle):
        if b"manifests" in os.pread(handle, 200, 0):
            raise OSError(28, "No space left on device")
        replace(handle)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_release(exported(candidate, version=4), layout)
    after = read_all(layout)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if ".part-" in name]
    assert OciLayout(layout).names() == ["weather-3"]


@pytest.mark.parametrize("where", ["oci-layout", "index.json", "blobs", "blobs/sha256"])
def test_export__into_a_layout_with_a_link__refused_and_nothing_written_behind_it(candidate, layout, tmp_path, where):
    (layout / where).rename(tmp_path / "elsewhere")
    before = read_all(tmp_path)
    (layout / where).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LayoutRefused, match="link"):
        write_release(exported(candidate, version=4), layout)
    (layout / where).unlink()
    assert read_all(tmp_path) == before


def test_export__many_at_once__every_one_is_in_it(candidate, tmp_path):
    releases = [exported(candidate, version=version) for version in range(1, 9)]
    with ThreadPoolExecutor(len(releases)) as pool:
        list(pool.map(write_release, releases, [tmp_path / "layout"] * len(releases)))
    assert [read_release(tmp_path / "layout", reference_of(one)) for one in releases] == releases


def test_export__devices_named_as_no_pseudonym_is__refused(candidate, tmp_path):
    release = exported(candidate, devices=1)
    manifest = json.loads(release.manifest)
    manifest["models"]["personal"] = {"../../etc/passwd": next(iter(manifest["models"]["personal"].values()))}
    strange = registered("weather", 1, json.dumps(manifest).encode(), {"default": release.artifact})
    with pytest.raises(LayoutRefused, match="none of a model"):
        write_release(strange, tmp_path / "layout")


# read from a stranger


def test_read__name_it_does_not_have__says_what_it_has(layout):
    assert "it has weather-3" in refused(layout, "weather-4")


@pytest.mark.parametrize("part", ["oci-layout", "index.json", "blobs"])
def test_read__part_missing__refused(layout, part):
    path = layout / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert part in refused(layout)


def test_read__any_blob_changed_cut_or_longer__refused(layout):
    for path in sorted((layout / "blobs" / "sha256").iterdir()):
        data = path.read_bytes()
        for forged in (data[:-1] + bytes([data[-1] ^ 1]), data[:-1], data + b"\0"):
            path.write_bytes(forged)
            refused(layout)
        path.write_bytes(data)
    read_release(layout, "weather-3")


@pytest.mark.parametrize("where", ["index.json", "oci-layout", "blob", "blobs", "sha256"])
def test_read__link_out_of_the_folder__refused_though_the_bytes_are_right(layout, tmp_path, where):
    folder = layout / "blobs" / "sha256"
    path = {"blob": next(folder.iterdir()), "blobs": layout / "blobs", "sha256": folder}.get(where, layout / where)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused(layout)


def test_read__pipe_or_folder_in_the_place_of_a_blob__refused_without_waiting(layout):
    blob = next((layout / "blobs" / "sha256").iterdir())
    blob.unlink()
    os.mkfifo(blob)
    assert "no file" in refused(layout)
    blob.unlink()
    blob.mkdir()
    assert "no file" in refused(layout)


@pytest.mark.parametrize(
    "digest",
    ["sha256:../../../../etc/passwd", "sha256:" + "A" * 64, "sha512:" + "a" * 128, "sha256:" + "a" * 64 + "\n", ""],
)
def test_read__digest_that_is_none__refused_before_any_file_is_opened(layout, digest):
    Forger(layout).manifest(lambda manifest: manifest["layers"][0].update(digest=digest))
    assert "digest" in refused(layout)


@pytest.mark.parametrize("title", ["../default.onnx", "/etc/passwd", "personal/../x.onnx", "default.pkl", ""])
def test_read__layer_titled_as_another_file__refused(layout, title):
    Forger(layout).manifest(
        lambda manifest: manifest["layers"][0]["annotations"].update({"org.opencontainers.image.title": title})
    )
    assert "layers" in refused(layout)


@pytest.mark.parametrize("suffix", ["+gzip", "+zstd", ".tar"])
def test_read__compressed_layer__refused(layout, suffix):
    Forger(layout).manifest(lambda manifest: manifest["layers"][0].update(mediaType=oci.ONNX_TYPE + suffix))
    assert "layers" in refused(layout)


def test_read__layer_that_lies_elsewhere__refused(layout):
    Forger(layout).manifest(lambda manifest: manifest["layers"][0].update(urls=["https://evil.example/model"]))
    assert "layers" in refused(layout)


def test_read__manifest_or_config_that_lies_elsewhere__refused(layout):
    for change in (Forger(layout).index, Forger(layout).manifest):
        before = (layout / "index.json").read_bytes()
        change(lambda plain: (plain.get("config") or plain["manifests"][0]).update(urls=["https://evil.example/"]))
        assert "elsewhere" in refused(layout)
        (layout / "index.json").write_bytes(before)


def test_read__layers_swapped_left_out_or_added__refused(layout):
    for change in (
        lambda layers: layers.reverse(),
        lambda layers: layers.pop(),
        lambda layers: layers.clear(),
        lambda layers: layers.append(layers[0]),
    ):
        before = (layout / "index.json").read_bytes()
        Forger(layout).manifest(lambda manifest, change=change: change(manifest["layers"]))
        assert "layers" in refused(layout)
        (layout / "index.json").write_bytes(before)


def test_read__everything_huge__refused_by_size_before_it_is_read(layout):
    forger = Forger(layout)
    huge = forger.blob(b"")
    os.truncate(forger.path(huge), 1 << 40)  # a hole: reading it would take all memory
    for change in (
        lambda manifest: manifest["config"].update(size=1 << 40, digest=huge["digest"]),
        lambda manifest: manifest["config"].update(size=40, digest=huge["digest"]),
    ):
        before = (layout / "index.json").read_bytes()
        forger.manifest(change)
        assert "allowed" in refused(layout)
        (layout / "index.json").write_bytes(before)
    forger.index(lambda index: index["manifests"][0].update(huge | {"size": 1 << 40}))
    assert "allowed" in refused(layout)
    os.truncate(layout / "index.json", 1 << 40)
    assert "allowed" in refused(layout)


def test_read__models_larger_than_any_device_takes__refused_by_what_the_manifest_says(layout):
    forger = Forger(layout)
    forger.config(lambda plain: plain["models"]["default"].update(size=1 << 30))
    forger.manifest(lambda manifest: manifest["layers"][0].update(size=1 << 30))
    assert "bytes of models" in refused(layout)


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.pop("models"),
        lambda plain: plain["models"].pop("default"),
        lambda plain: plain["models"].update(personal=[1]),
        lambda plain: plain["models"].update(default=None),
        lambda plain: plain.update(created_at="soon"),
        lambda plain: plain.update(created_at=1e300),
        lambda plain: plain["models"]["default"].update(size=None),
    ],
)
def test_read__config_that_is_no_manifest__refused(layout, change):
    Forger(layout).config(change)
    assert "none of a model" in refused(layout)


def test_read__name_version_or_hash_that_the_manifest_does_not_bear_out__refused(layout):
    for key, value in ((MANIFEST_HASH, "0x" + "00" * 32), ("org.opencontainers.image.created", "2013-01-01T00:00:00Z")):
        before = (layout / "index.json").read_bytes()
        Forger(layout).manifest(lambda manifest, key=key, value=value: manifest["annotations"].update({key: value}))
        assert "not what its manifest says" in refused(layout)
        (layout / "index.json").write_bytes(before)


def test_read__image_of_a_container__refused_as_no_model(layout):
    Forger(layout).manifest(lambda manifest: manifest.pop("artifactType"))
    assert "no model" in refused(layout)


def test_read__two_of_the_same_name_or_an_index_within__refused(layout):
    Forger(layout).index(lambda index: index["manifests"].append(index["manifests"][0]))
    assert "2 images" in refused(layout)
    Forger(layout).index(lambda index: index["manifests"].pop())
    Forger(layout).index(
        lambda index: index["manifests"][0].update(mediaType="application/vnd.oci.image.index.v1+json")
    )
    assert "no image manifest" in refused(layout)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"null", b"{}", b"[" * 100_000, b'{"a":' * 100_000])
@pytest.mark.parametrize("where", ["index.json", "oci-layout"])
def test_read__json_that_is_none_or_deep__refused(layout, where, data):
    (layout / where).write_bytes(data)
    refused(layout)


def test_read__artefact_with_an_operator_nobody_allows__read_but_not_loaded(candidate, tmp_path):
    release = exported(candidate)
    evil = release.artifact.replace(b"LinearRegressor", b"LinearRegressoR")
    manifest = json.loads(release.manifest)
    manifest["models"]["default"] = {"sha256": hashlib.sha256(evil).hexdigest(), "size": len(evil)}
    bad = registered("weather", 1, json.dumps(manifest, sort_keys=True).encode(), {"default": evil})
    write_release(bad, tmp_path / "layout")
    with pytest.raises(ModelRejected, match="operator"):
        take_release(tmp_path / "layout", None, now=NOW)


@given(data=st.data())
def test_read__any_bytes_of_it_changed__the_release_or_refused(data, candidate, tmp_path_factory):
    release = exported(candidate, version=3, devices=1)
    folder = tmp_path_factory.mktemp("fuzz")
    write_release(release, folder)
    path = data.draw(st.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file())))
    held = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(held) - 1))
    held[at] = data.draw(st.integers(0, 255))
    path.write_bytes(held)
    with suppress(LayoutRefused):
        assert read_release(folder, reference_of(release)) == release
