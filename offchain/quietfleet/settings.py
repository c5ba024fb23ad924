"""Settings of one worker: a TOML file, overridden by environment variables.

`QUIETFLEET_<SECTION>_<KEY>` overrides `key` in `[section]`, for example `QUIETFLEET_CHAIN_RPC`. The keystore's passphrase
comes from `QUIETFLEET_PASSPHRASE` or from the file named by `QUIETFLEET_PASSPHRASE_FILE`, never from the command line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from quietfleet.errors import SettingsError

PREFIX = "QUIETFLEET_"


class WorkerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[worker]`: who this is. Relative paths are taken from the settings file's folder."""

    name: str
    state: str = "state"
    keystore: str = "keystore.json"


class ChainSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[chain]`: which contracts, through which endpoint.

    `max_age` is how old (seconds) the newest block may be before the worker stops trusting what it knows;
    `confirmations` is how deep a grant must lie before it counts.
    """

    deployment: str
    rpc: str = "http://127.0.0.1:8545"
    ws: str = ""
    poll: float = 0.5
    max_age: float = 60.0
    confirmations: int = 0


class NetworkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[network]`: where to listen (relays only) and whom to dial."""

    peers: list[str] = []
    listen: str = ""
    ttl: int = 20


class SensorSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[sensor]`: what is measured and how often it is sent.

    `replay` names a CSV of recorded readings; data time runs `speed` times as fast as real time, starting with
    `data_start` (ISO 8601) at the Unix time `replay_epoch` (0: when the sensor first starts).
    """

    station: str = ""
    site: str = ""
    replay: str = ""
    data_start: str = ""
    replay_epoch: float = 0.0
    speed: float = 3600.0
    send_every: float = 1.0
    capability: str = "forecast"


class ProcessorSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[processor]`: what is offered and how many sensors at most."""

    site: str = ""
    capacity: int = 8
    capability: str = "forecast"
    channel: str = "weather"
    monitor_every: float = 1.0


class GatewaySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[gateway]`: what is trained, from what history, and who pays for its releases on chain."""

    channel: str = "weather"
    history: str = ""
    history_until: str = ""
    publisher: str = "publisher.json"
    seed: int = 2013


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything one worker needs to know before it starts."""

    worker: WorkerSection
    chain: ChainSection
    network: NetworkSection = NetworkSection()
    sensor: SensorSection = SensorSection()
    processor: ProcessorSection = ProcessorSection()
    gateway: GatewaySection = GatewaySection()
    folder: str = "."

    def path(self, relative: str) -> Path:
        """Resolve a path of the settings file."""
        return (Path(self.folder) / relative).resolve()


def load_settings(path: Path, environment: Mapping[str, str]) -> Settings:
    """Read settings from `path`, let the environment override them; raises `SettingsError`."""
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"{path} does not exist") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from error
    document["folder"] = str(path.parent)
    try:
        return msgspec.convert(_overridden(document, environment), type=Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path}: {error}") from error


def passphrase(environment: Mapping[str, str]) -> str:
    """Return the keystore passphrase; raises `SettingsError` when neither variable is set."""
    if f"{PREFIX}PASSPHRASE" in environment:
        return environment[f"{PREFIX}PASSPHRASE"]
    file = environment.get(f"{PREFIX}PASSPHRASE_FILE")
    if file is None:
        raise SettingsError("set QUIETFLEET_PASSPHRASE or QUIETFLEET_PASSPHRASE_FILE to unlock the keystore")
    try:
        return Path(file).read_text().rstrip("\n")
    except OSError as error:
        raise SettingsError(f"QUIETFLEET_PASSPHRASE_FILE: {error}") from error


def _overridden(document: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    for section, kind in Settings.__annotations__.items():
        if section == "folder":
            continue
        for field in msgspec.structs.fields(globals()[kind] if isinstance(kind, str) else kind):
            value = environment.get(f"{PREFIX}{section}_{field.name}".upper())
            if value is not None:
                parsed = value.split(",") if field.name == "peers" else value
                document.setdefault(section, {})[field.name] = parsed
    return document
