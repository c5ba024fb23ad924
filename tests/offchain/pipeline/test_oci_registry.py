"""An exported release through a real container registry, by the tools that everybody uses, and back."""

from __future__ import annotations

import hashlib
import json

import pytest
from oci_world import exported, read_all

from quietfleet.pipeline.oci import ARTIFACT_TYPE, CONFIG_TYPE, ONNX_TYPE, read_release, reference_of, write_release
from quietfleet.storage._oci_layout import MANIFEST
from quietfleet.testbed import container_registry
from quietfleet.testbed.container_registry import ContainerRegistry, skopeo


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    if not container_registry.installed():
        pytest.skip(container_registry.MISSING)
    with ContainerRegistry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def push(registry, folder, reference):
    name, tag = reference.rsplit("-", 1)
    skopeo("copy", "--dest-tls-verify=false", f"oci:{folder}:{reference}", f"docker://{registry.host}/{name}:{tag}")
    return f"docker://{registry.host}/{name}:{tag}"


def test_copy__to_a_registry_and_back__every_byte_is_the_same(candidate, registry, tmp_path):
    there, back = tmp_path / "there", tmp_path / "back"
    for version in (1, 2):
        release = exported(candidate, version=version, devices=2)
        write_release(release, there)
        source = push(registry, there, reference_of(release))
        skopeo("copy", "--src-tls-verify=false", source, f"oci:{back}:{reference_of(release)}")
        assert read_release(back, reference_of(release)) == release
    assert read_all(back / "blobs") == read_all(there / "blobs")


def test_export__into_a_layout_that_came_from_a_registry__what_is_there_stays(candidate, registry, tmp_path):
    first, second = (exported(candidate, version=version) for version in (3, 4))
    write_release(first, tmp_path / "there")
    source = push(registry, tmp_path / "there", reference_of(first))
    skopeo("copy", "--src-tls-verify=false", source, f"oci:{tmp_path / 'back'}:{reference_of(first)}")
    write_release(second, tmp_path / "back")
    assert [read_release(tmp_path / "back", reference_of(one)) for one in (first, second)] == [first, second]


def test_pull__as_artifact_clients_do__the_type_tells_what_it_is_and_titles_name_the_files(
    candidate, registry, tmp_path
):
    release = exported(candidate, version=5, devices=1)
    digest = write_release(release, tmp_path)
    push(registry, tmp_path, reference_of(release))
    manifest = registry.get(f"{release.name}/manifests/{release.version}", MANIFEST)
    assert "sha256:" + hashlib.sha256(manifest).hexdigest() == digest
    told = json.loads(manifest)
    assert (told["artifactType"], told["config"]["mediaType"]) == (ARTIFACT_TYPE, CONFIG_TYPE)
    assert {layer["mediaType"] for layer in told["layers"]} == {ONNX_TYPE}
    files = {
        layer["annotations"]["org.opencontainers.image.title"]: registry.get(
            f"{release.name}/blobs/{layer['digest']}", "*/*"
        )
        for layer in told["layers"]
    }
    (device,) = release.artifacts.keys() - {"default"}
    assert files == dict.fromkeys(["default.onnx", f"personal/{device}.onnx"], release.artifact)
    assert registry.get(f"{release.name}/blobs/{told['config']['digest']}", "*/*") == release.manifest
