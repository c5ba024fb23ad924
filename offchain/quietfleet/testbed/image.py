"""`tools/image ROLE FOLDER`: a container image of a worker made on this machine, where no base image can be had.

Its root file system is this machine's own Python with the libraries that it needs, the role's locked packages and
this checkout: no shell, no package manager, nothing to log in to. The result is an OCI image layout for this
machine's architecture, laid out and configured as the images of deploy/images are, and the same bytes each time.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import ssl
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from quietfleet import __version__
from quietfleet.errors import QuietfleetError, TestbedError
from quietfleet.storage import OciLayout
from quietfleet.storage._oci_layout import Descriptor, Image
from quietfleet.testbed.anvil import program
from quietfleet.testbed.contracts import ROOT
from quietfleet.testbed.image_layers import Tree

LOCKS: Final = {
    "relay": "worker",
    "sensor": "sensor",
    "processor": "edge",
    "gateway": "gateway",
    "oracle": "replicated",
}
"""Which of requirements/ each role's packages come from."""
USER: Final = 10001
SETTINGS: Final = "/etc/quietfleet/worker.toml"
STATE: Final = "/var/lib/quietfleet"
HOME: Final = "/opt/quietfleet"

_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
_PYTHON: Final = f"python{sys.version_info.major}.{sys.version_info.minor}"
_PACKAGES: Final = f"{HOME}/lib/{_PYTHON}/site-packages"
_UNUSED: Final = (  # of the standard library: its tests, its windows, what builds extensions
    "test",
    "site-packages",
    "dist-packages",
    "idlelib",
    "tkinter",
    "turtledemo",
    "lib2to3",
    "ensurepip",
    "config-*",
    "lib-dynload/_test*",
    "lib-dynload/_tkinter*",
    "LICENSE.txt",
)
_NO_PART: Final = ("bin", "*.dist-info/RECORD", "*.dist-info/REQUESTED", "*.dist-info/uv_cache.json", ".lock")
_LIBRARY: Final = re.compile(r"^\s+(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$", re.MULTILINE)
_AT_ONCE: Final = 200  # files asked for their libraries


@dataclass(frozen=True, slots=True)
class Layer:
    """A stored layer and what made it."""

    blob: Descriptor
    by: str


def healthy(*, ready: bool = False) -> list[str]:
    """Return the command that a container's keeper asks it by."""
    return ["quietfleet", "healthy", *(["--ready"] if ready else []), "--settings", SETTINGS]


def build(role: str, folder: Path) -> str:
    """Write the image of a role into the layout in `folder`, named by the role; return its digest."""
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise TestbedError(f"images are made for {' and '.join(_MACHINES)}, this machine is {platform.machine()}")
    with tempfile.TemporaryDirectory() as folder_of_packages, OciLayout(folder).writing() as layout:
        scratch = Path(folder_of_packages).resolve()
        packages = _packages(LOCKS[role], scratch)
        parts = [
            (_interpreter(packages, scratch), "this machine's Python"),
            (packages, f"requirements/{LOCKS[role]}.txt"),
        ]
        layers = [Layer(tree.pack(layout), by) for tree, by in [*parts, (_program(), "this checkout")]]
        config = layout.put(_CONFIG, _canonical(config_of(role, machine, layers)))
        image = Image(config=config, layers=[layer.blob for layer in layers])
        return layout.name(role, image, platform={"architecture": machine, "os": "linux"}, replace=True).digest


def config_of(role: str, machine: str, layers: list[Layer]) -> dict[str, Any]:
    """What an image says of itself, as the OCI image specification has it."""
    return {
        "architecture": machine,
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "Entrypoint": [f"{HOME}/bin/quietfleet"],
            "Cmd": ["--log-level", "warning", role, "--settings", SETTINGS],
            "Env": [f"PATH={HOME}/bin", "PYTHONDONTWRITEBYTECODE=1", f"SSL_CERT_FILE={_CERTIFICATES}"],
            "Volumes": {STATE: {}, "/tmp": {}},  # noqa: S108 -- in the container
            "WorkingDir": STATE,
            "StopSignal": "SIGTERM",
            "Labels": {
                "org.opencontainers.image.title": f"quietfleet {role}",
                "org.opencontainers.image.version": __version__,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.blob.digest for layer in layers]},
        "history": [{"created_by": layer.by} for layer in layers],
    }


def _interpreter(packages: Tree, scratch: Path) -> Tree:
    """Python under /usr/local, every library that it or the packages load, and what the C library looks for."""
    tree = Tree()
    binary = Path(os.path.realpath(sys.executable))
    tree.copy(f"/usr/local/bin/{_PYTHON}", binary, program=True)
    tree.copy_all(f"/usr/local/lib/{_PYTHON}", Path(sysconfig.get_path("stdlib")), but=_UNUSED)
    compiled = [binary, *tree.sources(_is_library), *packages.sources(_is_library)]
    for path, source in _libraries(compiled, but=scratch).items():
        tree.copy(path, source, program=True)
    tree.copy(_CERTIFICATES, _authorities())
    tree.write("/etc/passwd", f"root:x:0:0::/:/nologin\nquietfleet:x:{USER}:{USER}::{STATE}:/nologin\n")
    tree.write("/etc/group", f"root:x:0:\nquietfleet:x:{USER}:\n")
    tree.write("/etc/nsswitch.conf", "hosts: files dns\n")
    tree.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
    tree.write("/etc/resolv.conf", "")
    for folder in ("/dev", "/proc", "/sys", "/run/secrets", "/etc/quietfleet"):
        tree.folder(folder)
    tree.folder("/tmp", mode=0o1777)  # noqa: S108 -- in the container
    tree.folder(STATE, mode=0o700, owner=USER)
    return tree


def _libraries(compiled: list[Path], *, but: Path) -> dict[str, Path]:
    """Find what the loader would, but for what packages bring along; by the place where it is looked for in an image.

    A library that belongs to this Python alone goes to where the C library is, which every loader searches.
    """
    found: dict[str, Path] = {}
    for at in range(0, len(compiled), _AT_ONCE):
        chunk = [str(path) for path in compiled[at : at + _AT_ONCE]]
        told = subprocess.run([program("ldd"), *chunk], capture_output=True, text=True, check=False)  # noqa: S603 - our own files
        paths = (os.path.normpath(path) for path in _LIBRARY.findall(told.stdout))
        found |= {path: Path(path) for path in paths if not Path(path).is_relative_to(but)}
    system = next((str(path.parent) for path in found.values() if path.name.startswith("libc.so")), None)
    if system is None:
        raise TestbedError("this machine's Python is not linked as an image needs it: no C library found by ldd")
    prefix = Path(sys.base_prefix) / "lib"
    own = {name for name, path in found.items() if prefix != Path("/usr/lib") and prefix in path.parents}
    return {f"{system}/{path.name}" if name in own else name: path for name, path in found.items()}


def _packages(lock: str, scratch: Path) -> Tree:
    """The packages of a lock as it pins them, by hash, from wheels alone: nothing is built, no setup runs."""
    into = scratch / "packages"
    options = ["--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--link-mode", "copy"]
    command = [program("uv"), "pip", "install", "--python", sys.executable, "--target", str(into), *options]
    done = subprocess.run(  # noqa: S603 - our own program and files
        [*command, "-r", str(ROOT / "requirements" / f"{lock}.txt")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise TestbedError(f"the packages of requirements/{lock}.txt cannot be had: {done.stderr.strip()[-500:]}")
    tree = Tree()
    tree.copy_all(_PACKAGES, into, but=_NO_PART)
    return tree


def _program() -> Tree:
    """The package in this checkout, the pipelines it ships, and the command."""
    tree = Tree()
    tree.copy_all(f"{_PACKAGES}/quietfleet", ROOT / "offchain" / "quietfleet")
    about = importlib.metadata.distribution("quietfleet").read_text("METADATA") or ""
    tree.write(f"{_PACKAGES}/quietfleet-{__version__}.dist-info/METADATA", about)
    tree.copy_all(f"{HOME}/share/quietfleet/pipelines", ROOT / "pipelines", but=("[!a-z]*",))
    tree.write(f"{HOME}/pyvenv.cfg", "home = /usr/local/bin\ninclude-system-site-packages = false\n")
    tree.link(f"{HOME}/bin/python", f"/usr/local/bin/{_PYTHON}")
    command = f"#!{HOME}/bin/python -I\nimport sys\n\nfrom quietfleet.cli import main\n\nsys.exit(main())\n"
    tree.write(f"{HOME}/bin/quietfleet", command, program=True)
    return tree


def _authorities() -> Path:
    """The certificates that this machine trusts."""
    paths = ssl.get_default_verify_paths()
    named: Iterable[str | None] = (_CERTIFICATES, paths.cafile, paths.openssl_cafile)
    found = [Path(path) for path in named if path and Path(path).is_file()]
    if not found:
        raise TestbedError("this machine has no certificates of authorities: install ca-certificates")
    return found[0]


def _is_library(path: Path) -> bool:
    return ".so" in path.suffixes


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@click.command()
@click.argument("role", type=click.Choice(sorted(LOCKS)))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def main(role: str, folder: Path) -> None:
    """Write the container image of a ROLE into the OCI layout in FOLDER, and print its digest."""
    try:
        click.echo(build(role, folder))
    except QuietfleetError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
