"""A worker in a container: our OCI image unpacked by umoci and run by crun, both without any privilege.

The container has a user of its own, no capability, a root file system that nobody can write, and what its keeper
mounts: settings and secrets to read, a state folder to write. It shares this machine's network, as a fleet of one
machine must.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from quietfleet.errors import TestbedError
from quietfleet.testbed.anvil import program
from quietfleet.testbed.image import SETTINGS, STATE, USER, healthy

PROGRAMS: Final = ("umoci", "crun", "unshare", "nsenter", "setpriv")
SECRETS: Final = "/run/secrets/worker"
NOBODY: Final = 65_534  # who runs containers where the tests run as root: rootless must mean it

_NAME: Final = "worker"
_HYBRID: Final = Path("/sys/fs/cgroup/unified")  # where there are two kinds of control groups, crun wants to see one
_AS_ROOT_OF_ITS_OWN: Final = ("unshare", "--user", "--map-root-user", "--mount")
_ONE_KIND: Final = f'[ ! -d {_HYBRID} ] || mount --bind {_HYBRID} /sys/fs/cgroup; exec "$@"'


def missing() -> str | None:
    """Say why no container can be run here, or nothing."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"{', '.join(absent)} missing; on Debian: apt-get install umoci crun, which tools/containers does"
    tried = _run([*_AS_ROOT_OF_ITS_OWN, "true"])
    return f"no user namespaces here: {tried.stderr.strip()}" if tried.returncode else None


@dataclass(slots=True)
class Box:
    """One container in `folder`, which nothing else is in and the unprivileged user can reach."""

    folder: Path
    mounts: dict[str, tuple[Path, bool]] = field(default_factory=dict)  # where → what, and whether it may be written
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """The worker's state folder, outside."""
        return self.folder / "state"

    def unpack(self, layout: Path, image: str) -> None:
        """Make the container's root file system from an image."""
        self.give(self.folder, 0o755)
        self.state.mkdir()
        self.give(self.state, 0o700)
        self.mounts[STATE] = self.state, True
        done = _run(["umoci", "unpack", "--rootless", "--image", f"{layout}:{image}", str(self._bundle)])
        if done.returncode:
            raise TestbedError(f"umoci: {done.stderr.strip()[-500:]}")

    def put(self, inside: str, data: bytes) -> None:
        """Have the container see a file that is its user's alone, and that it cannot change."""
        kept = self.folder / inside.strip("/").replace("/", "_")
        kept.write_bytes(data)
        self.give(kept, 0o400)
        self.mounts[inside] = kept, False

    def command(self) -> list[str]:
        """Write down how it is to run, and return the command that runs it until it ends."""
        config = json.loads((self._bundle / "config.json").read_bytes())
        self._harden(config)
        (self._bundle / "config.json").write_text(json.dumps(config))
        run = ["run", "--pid-file", str(self._pid), "--bundle", str(self._bundle), _NAME]
        return [*_unprivileged(), *_AS_ROOT_OF_ITS_OWN, "sh", "-c", _ONE_KIND, "sh", *self._crun, *run]

    def healthy(self, *, ready: bool = False) -> bool:
        """Ask the worker by its probe, within the container."""
        if self.pid is None:
            return False
        config = json.loads((self._bundle / "config.json").read_bytes())
        # `crun exec` wants to be root in the container on its way, whom this container does not have
        within = [
            program("nsenter"),
            "--target",
            self._pid.read_text(),
            "--user",
            "--mount",
            "--pid",
            "--preserve-credentials",
        ]
        environment = dict(variable.split("=", 1) for variable in config["process"]["env"])
        return not _run([*within, *healthy(ready=ready)], environment).returncode

    def kill(self) -> None:
        """End the container at once, also one whose keeper is gone."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)

    @property
    def pid(self) -> int | None:
        """The worker's process id out here, while it runs."""
        try:
            pid = int(self._pid.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if SETTINGS.encode() in command.split(b"\0") else None  # the number may be another's by now

    def give(self, path: Path, mode: int) -> None:
        """Make a path the unprivileged user's."""
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
        path.chmod(mode)

    @property
    def _bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def _pid(self) -> Path:
        return self._bundle / "pid"

    @property
    def _crun(self) -> list[str]:
        return [program("crun"), "--root", str(self.folder / "crun"), "--cgroup-manager=disabled"]

    def _harden(self, config: dict[str, Any]) -> None:
        """Take from what umoci proposes all that a worker does not need, as the manifests in deploy/ do."""
        process, linux = config["process"], config["linux"]
        process["terminal"] = False
        process["noNewPrivileges"] = True
        process["capabilities"] = {kind: [] for kind in process["capabilities"]}
        process["env"] += [f"{name}={value}" for name, value in self.environment.items()]
        config["root"]["readonly"] = True
        linux["uidMappings"] = linux["gidMappings"] = [{"containerID": USER, "hostID": 0, "size": 1}]
        kept = [mount for mount in config["mounts"] if mount["destination"] not in {*self.mounts, "/etc/resolv.conf"}]
        config["mounts"] = kept + [_mounted(inside, *what) for inside, what in self.mounts.items()]


def _mounted(inside: str, outside: Path, writable: bool) -> dict[str, Any]:
    options = ["bind", "nosuid", "nodev", "noexec", "rw" if writable else "ro"]
    return {"destination": inside, "type": "bind", "source": str(outside), "options": options}


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    whole = [*_unprivileged(), *command]
    return subprocess.run(whole, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - this machine's programs


def _unprivileged() -> list[str]:
    """What starts a process that must have no privilege."""
    if os.geteuid() != 0:
        return []
    return [program("setpriv"), "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
