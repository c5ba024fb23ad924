"""The manifests against Kubernetes' own schemas, and against the program and the documents that they name."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from quietfleet.cli import main
from quietfleet.settings import load_settings
from quietfleet.storage import _redis

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.31", "1.34")


def documents():
    return [one for file in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())]


def of_kind(kind):
    return [one for one in documents() if one["kind"] == kind]


def workloads():
    return [one for one in documents() if one["kind"] in {"Deployment", "StatefulSet"}]


def name(manifest):
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pod(manifest):
    return manifest["spec"]["template"]["spec"]


def labels(manifest):
    return manifest["spec"]["template"]["metadata"]["labels"]


def component(kind, part):
    (found,) = [one for one in of_kind(kind) if one["metadata"]["labels"]["app.kubernetes.io/component"] == part]
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", documents(), ids=name)
def test_manifest__against_the_schema__every_field_is_known_and_of_its_type(manifest, version):
    kubernetes_validate.validate(manifest, version, strict=True)


def test_schema__field_misspelt__refused():
    manifest = workloads()[0]
    manifest["spec"]["replicaz"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[0], strict=True)


@pytest.mark.parametrize("manifest", workloads(), ids=name)
def test_pod__every_container__not_root_nothing_to_write_no_rights(manifest):
    assert pod(manifest)["securityContext"]["runAsNonRoot"] is True
    assert pod(manifest)["securityContext"]["runAsUser"] > 0
    assert pod(manifest)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(manifest)["automountServiceAccountToken"] is False
    for container in pod(manifest)["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("manifest", workloads(), ids=name)
def test_pod__secrets__come_as_files_and_never_as_variables_or_arguments(manifest):
    secret = {v["name"] for v in pod(manifest)["volumes"] if "secret" in v}
    assert secret
    for container in pod(manifest)["containers"]:
        mounted = {m["name"] for m in container["volumeMounts"] if m.get("readOnly")}
        assert secret <= mounted
        assert not any("valueFrom" in one for one in container.get("env", []))
        assert "requirepass" not in str(container.get("args")) + str(container.get("command"))
    assert not of_kind("Secret"), "a secret belongs in no repository"


@pytest.mark.parametrize("manifest", workloads(), ids=name)
def test_selectors__of_everything_about_a_pod__name_that_pod(manifest):
    part = labels(manifest)["app.kubernetes.io/component"]
    assert manifest["spec"]["selector"]["matchLabels"] == labels(manifest)
    assert component("NetworkPolicy", part)["spec"]["podSelector"]["matchLabels"] == labels(manifest)


def test_network__store__reached_by_the_oracle_alone_and_reaches_nobody():
    policy = component("NetworkPolicy", "store")["spec"]
    (rule,) = policy["ingress"]
    assert [one["podSelector"]["matchLabels"] for one in rule["from"]] == [labels(component("Deployment", "oracle"))]
    assert policy["egress"] == []
    assert component("NetworkPolicy", "oracle")["spec"]["ingress"] == []


def test_disruption__of_the_oracle__one_replica_at_a_time():
    budget, deployment = component("PodDisruptionBudget", "oracle"), component("Deployment", "oracle")
    assert budget["spec"]["selector"]["matchLabels"] == labels(deployment)
    assert budget["spec"]["maxUnavailable"] == 1
    assert deployment["spec"]["replicas"] > 1


def test_store__its_settings__every_write_on_disk_and_nothing_evicted():
    lines = component("ConfigMap", "store")["data"]["redis.conf"].splitlines()
    for needed in ("appendonly yes", "appendfsync always", "maxmemory-policy noeviction"):
        assert needed in lines
    (included,) = [line.split()[1] for line in lines if line.startswith("include")]
    mounts = {m["mountPath"] for m in pod(component("StatefulSet", "store"))["containers"][0]["volumeMounts"]}
    assert str(Path(included).parent) in mounts


def test_settings__of_the_oracle__are_ones_and_name_what_is_mounted(tmp_path):
    (tmp_path / "worker.toml").write_text(component("ConfigMap", "oracle")["data"]["worker.toml"])
    container = pod(component("Deployment", "oracle"))["containers"][0]
    settings = load_settings(tmp_path / "worker.toml", {})
    mounts = [m["mountPath"] for m in container["volumeMounts"]]
    for path in (settings.worker.state, settings.worker.keystore, settings.chain.deployment):
        assert any(Path(path).is_relative_to(mount) for mount in mounts), path
    for variable in container["env"]:
        assert any(Path(variable["value"]).is_relative_to(mount) for mount in mounts)
    host = component("Service", "store")["metadata"]["name"]
    assert settings.oracle.store == f"redis://{host}:6379/0"
    store = _redis.open_redis(settings.oracle.store, None, "space")
    store.close()


def test_commands__of_containers_and_probes__are_commands_of_the_program():
    container = pod(component("Deployment", "oracle"))["containers"][0]
    probes = [container[kind]["exec"]["command"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")]
    for command in (container["args"], *(probe[1:] for probe in probes)):
        done = CliRunner().invoke(main, [*command, "--help"])
        assert done.exit_code == 0, done.output
    assert all(probe[0] == "quietfleet" for probe in probes)


def test_operations__about_kubernetes__names_every_secret_and_map_that_must_be_made_first():
    text = (ROOT / "docs" / "operations.md").read_text()
    made = {one["metadata"]["name"] for one in of_kind("ConfigMap")}
    for manifest in workloads():
        for volume in pod(manifest)["volumes"]:
            needed = volume.get("secret", {}).get("secretName") or volume.get("configMap", {}).get("name")
            if needed and (needed not in made or "secret" in volume):
                assert re.search(rf"create (secret generic|configmap) {needed}\b", text), needed


def test_image__of_somebody_else__pinned_by_digest():
    foreign = [c["image"] for manifest in workloads() for c in pod(manifest)["containers"]]
    for image in foreign:
        assert image.startswith("quietfleet-") or re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image
