"""The images' recipe, line by line, against the program, the tool that makes them without a base, and the manifests."""

from __future__ import annotations

import fnmatch
import io
import json
import os
import re
import shlex
import stat
import tarfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from quietfleet import __version__
from quietfleet.cli import main
from quietfleet.errors import TestbedError
from quietfleet.storage import OciLayout
from quietfleet.testbed import image
from quietfleet.testbed.image_layers import Tree

ROOT = Path(__file__).parents[3]
RECIPE = ROOT / "deploy" / "images" / "Dockerfile"
PINNED = re.compile(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}")
ROLES = sorted(image.LOCKS)


def instructions(text):
    """(word, rest) of each instruction, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(" ", 1)) for line in joined.splitlines() if line.strip()]


def stages():
    """Each stage's base and its instructions, by name."""
    found = {}
    for word, rest in instructions(RECIPE.read_text()):
        if word == "FROM":
            base, _, name = rest.split()
            inside = found[name] = (base, [])[1]
            found[name] = (base, inside)
        elif found:
            inside.append((word, rest))
    return found


def whole(role):
    """All instructions of a role's image, those of what it is made from first."""
    base, own = stages()[role]
    return [*(whole(base) if base in stages() else []), *own]


def values(role, word):
    return [rest for found, rest in whole(role) if found == word]


def allowed():
    return [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]


def test_recipe__its_base__pinned_by_digest_and_the_only_one():
    ((word, rest), *_) = instructions(RECIPE.read_text())
    assert word == "ARG"
    name, _, base = rest.partition("=")
    assert name == "BASE"
    assert PINNED.fullmatch(base)
    for stage, (made_from, _) in stages().items():
        assert made_from in {"${BASE}", *stages()}, stage


def test_recipe__python_of_the_base__is_one_that_the_package_takes():
    base = re.search(r"python:(\d+)\.(\d+)", RECIPE.read_text())
    assert base
    assert f"python{base[1]}.{base[2]}" in {"python3.11", "python3.12"}


def test_recipe__whatever_comes_in__pinned_by_hash_or_from_the_checkout():
    for name, (_, inside) in stages().items():
        for word, rest in inside:
            assert word not in {"ADD", "ONBUILD", "SHELL", "MAINTAINER"}, name
            assert not re.search(r"https?://|\b(curl|wget|git|apt-get|apk)\b", rest), (name, rest)
            for command in re.split(r"&&|;", rest if word == "RUN" else ""):
                words = shlex.split(command)
                if {"install", "wheel"} & set(words) and any(one.endswith("pip") for one in words):
                    assert "--require-hashes" in words or "--no-index" in words, command
                    assert "--no-deps" in words, command
                    assert "--require-hashes" not in words or "--only-binary" in words, command


def test_recipe__what_it_copies__is_there_and_let_through_and_nothing_else_is():
    copied = set()
    for _, inside in stages().values():
        for word, rest in inside:
            if word == "COPY" and not rest.startswith("--from="):
                copied |= set(rest.split()[:-1])
    assert all((ROOT / path).exists() for path in copied)
    patterns = allowed()
    assert all(any(fnmatch.fnmatch(path, pattern) for pattern in patterns) for path in copied)
    assert all(any(fnmatch.fnmatch(path, pattern) for path in copied) for pattern in patterns)
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith(("#", "!"))]
    assert lines[0] == "*"
    for secret in ("deployments", ".demo", ".git", "node_modules", "tests"):
        assert not any(fnmatch.fnmatch(secret, pattern) for pattern in patterns)


def test_recipe__secrets__in_no_layer_variable_or_argument():
    for name, (_, inside) in stages().items():
        for word, rest in inside:
            assert not re.search(r"passphrase|password|secret|token|keystore|\.json", rest, re.IGNORECASE), (name, word)


@pytest.mark.parametrize("role", ROLES)
def test_image__of_a_role__not_root_with_its_probe_and_its_lock(role):
    assert values(role, "USER")[-1] == f"{image.USER}:{image.USER}"
    made_of = next(rest.split()[0].removeprefix("--from=") for word, rest in stages()[role][1] if word == "COPY")
    assert ("COPY", f"requirements/{image.LOCKS[role]}.txt /requirements.txt") in stages()[made_of][1]
    (probe,) = values(role, "HEALTHCHECK")
    assert json.loads(probe.split("CMD ", 1)[1]) == image.healthy()
    assert not any(word == "RUN" for word, _ in stages()[role][1])


@pytest.mark.parametrize("role", ROLES)
def test_image__of_a_role__starts_as_the_one_made_without_a_base(role):
    config = image.config_of(role, "arm64", [])["config"]
    assert json.loads(values(role, "CMD")[-1]) == config["Cmd"]
    assert [Path(config["Entrypoint"][0]).name] == json.loads(values(role, "ENTRYPOINT")[-1])
    assert config["User"] == values(role, "USER")[-1]
    assert config["WorkingDir"] == values(role, "WORKDIR")[-1]
    assert sorted(config["Volumes"]) == sorted(json.loads(values(role, "VOLUME")[-1]))
    assert config["StopSignal"] == values(role, "STOPSIGNAL")[-1]


@pytest.mark.parametrize("role", ROLES)
def test_image__its_command_and_its_probe__are_commands_of_the_program(role):
    for command in (json.loads(values(role, "CMD")[-1]), image.healthy()[1:], image.healthy(ready=True)[1:]):
        done = CliRunner().invoke(main, [*command, "--help"])
        assert done.exit_code == 0, done.output


def test_manifests__their_images__are_these_of_this_version_and_their_user():
    for file in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            pod = document["spec"].get("template", {}).get("spec", {}) if document.get("spec") else {}
            for container in pod.get("containers", []):
                if not container["image"].startswith("quietfleet"):
                    continue
                role = container["image"].removeprefix("quietfleet-").split(":")[0]
                assert container["image"] == f"quietfleet-{role}:{__version__}"
                assert role in ROLES
                assert pod["securityContext"]["runAsUser"] == image.USER
                assert role in container["args"]
                assert container["livenessProbe"]["exec"]["command"] == image.healthy()
                assert container["readinessProbe"]["exec"]["command"] == image.healthy(ready=True)


# layers made here


@pytest.fixture
def files(tmp_path):
    """The same files twice, made in another order at another time with other rights."""

    def make(name, order, moment, mode):
        folder = tmp_path / name
        for path in order:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(path)
            (folder / path).chmod(mode)
            os.utime(folder / path, (moment, moment))
        return folder

    paths = ["b/c.py", "a.py", "b/d/e.py"]
    return make("one", paths, 1e9, 0o600), make("other", paths[::-1], 1.7e9, 0o664)


def packed(tmp_path, *trees):
    with OciLayout(tmp_path / "layout").writing() as layout:
        return [tree.pack(layout) for tree in trees]


def test_layer__of_the_same_files_another_day__same_bytes(files, tmp_path):
    trees = []
    for folder in files:
        tree = Tree()
        tree.copy_all("/opt/x", folder)
        trees.append(tree)
    one, other = packed(tmp_path, *trees)
    assert one == other


def test_layer__what_is_in_it__no_times_no_users_no_compiled_modules(files, tmp_path):
    folder, _ = files
    (folder / "b" / "__pycache__").mkdir()
    (folder / "b" / "__pycache__" / "c.cpython-311.pyc").write_bytes(b"x")
    (folder / "a.link").symlink_to("a.py")
    tree = Tree()
    tree.copy_all("/opt/x", folder, but=("b/d",))
    tree.folder("/scratch", mode=0o1777)
    tree.link("/opt/python", "/usr/bin/python")
    tree.folder("/var/lib/x", mode=0o700, owner=10001)
    (layer,) = packed(tmp_path, tree)
    data = OciLayout(tmp_path / "layout").blob(layer, most=1 << 20)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = {member.name: member for member in tar}
    assert [name for name, member in members.items() if member.isfile()] == [
        "opt/x/a.link",
        "opt/x/a.py",
        "opt/x/b/c.py",
    ]
    assert list(members) == sorted(members)
    assert {(member.mtime, member.uname, member.gname) for member in members.values()} == {(0, "", "")}
    assert {member.uid for name, member in members.items() if name != "var/lib/x"} == {0}
    assert (members["var/lib/x"].uid, members["var/lib/x"].mode) == (10001, 0o700)
    assert stat.S_IMODE(members["scratch"].mode) == 0o1777
    assert members["opt/python"].linkname == "/usr/bin/python"


@pytest.mark.parametrize("path", ["relative", "/a/../../etc/passwd", "/.."])
def test_layer__path_that_leads_out__refused(path):
    with pytest.raises(ValueError, match="no place"):
        Tree().write(path, "")


def test_image__for_a_machine_nobody_builds_for__refused_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(TestbedError, match="riscv64"):
        image.build("relay", tmp_path / "layout")
    assert not (tmp_path / "layout").exists()
