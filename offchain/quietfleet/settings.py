"""Settings of one worker: a TOML file, overridden by environment variables.

`QUIETFLEET_<SECTION>_<KEY>` overrides `key` in `[section]`, for example `QUIETFLEET_CHAIN_RPC`. The keystore's
passphrase comes from `QUIETFLEET_PASSPHRASE` or from the file named by `QUIETFLEET_PASSPHRASE_FILE`, never from the
command line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from quietfleet.clock import Clock, ReplayClock
from quietfleet.errors import SettingsError

PREFIX = "QUIETFLEET_"
RELAYS = "relays"
"""In place of an endpoint's address: relays show the chain."""

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Seconds = Annotated[float, Meta(gt=0)]  # also refuses NaN, under which no block would ever be too old
Address = Annotated[str, Meta(pattern="^0x[0-9a-fA-F]{40}$")]
Count = Annotated[int, Meta(ge=1, le=10_000)]


class WorkerSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[worker]`: who this is. Relative paths are taken from the settings file's folder."""

    name: Name
    state: str = "state"
    keystore: str = "keystore.json"


class ChainSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[chain]`: which contracts, through which endpoint.

    `ws` names a WebSocket that only rings when there is a new block; with a `second` endpoint, both must agree.
    `fallbacks` are tried in their order in place of one that is down, refuses or lags. With `rpc = "relays"` there is
    no endpoint: the chain is followed through `relays`, each `<owner's address>=<enode URL>`, of which those of two
    owners must agree.
    `max_age` is how old (seconds) the newest block may be before the worker stops trusting what it knows;
    `confirmations` is how deep a grant must lie before it counts.
    """

    deployment: str
    rpc: str = "http://127.0.0.1:8545"
    relays: list[str] = []
    ws: str = ""
    second: str = ""
    fallbacks: list[str] = []
    poll: Seconds = 0.5
    max_age: Seconds = 60.0
    confirmations: Annotated[int, Meta(ge=0)] = 0


class NetworkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[network]`: where to listen (relays only), whom to dial, and how envelopes leave.

    `peers` are enode URLs; without any, a worker dials relays that the chain's bootstrap list names. `advertise` is the
    host:port at which others reach a relay, where that is not what it listens on. With `stem = "onion"` a worker's
    envelopes leave through three relays, `cover_rate` small packets a second leave whether or not there is something to
    say, and are held for ten times `hop_delay` seconds on their way; with "off" the worker floods them itself. `miner`
    "vector" works faster where numba is installed, for 100 MB of memory; after `mining_budget` seconds of work an
    envelope is given up. `delegate` is the enode URL of a relay that does the work instead, and so learns what this
    worker sends. With `bloom_bits` below 512 a worker is light: it takes only the share of the flood that lies in a
    bloom of so many bits, and is the easier to tell apart. A relay takes `max_per_address` links from one address, and
    on each that is no registered relay's `link_rate` new envelopes a second and twice as many onion packets. It keeps
    envelopes for back-fill for `archive_hours`, at most `archive_mib` of them.
    """

    peers: list[str] = []
    listen: str = ""
    advertise: str = ""
    ttl: Count = 20
    stem: Literal["onion", "off"] = "onion"
    cover_rate: Seconds = 4.0
    hop_delay: Seconds = 0.1
    miner: Literal["plain", "vector"] = "plain"
    mining_budget: Seconds = 20.0
    delegate: str = ""
    bloom_bits: Annotated[int, Meta(ge=32, le=512)] = 512  # a card with fewer is refused
    max_per_address: Count = 16
    link_rate: Annotated[float, Meta(ge=1, le=10_000)] = 20.0
    archive_hours: Seconds = 24.0
    archive_mib: Count = 256


class KeysSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[keys]`: after how many seconds in use a messaging key is due to be replaced; 0: when its owner says so."""

    rotate_every: Annotated[float, Meta(ge=0)] = 0.0


class ChannelSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[data.channels.<name>]`: what a channel may read, in its own unit, beside the six of the weather.

    Between `low` and `high`, in steps of `resolution`. After `stuck_after` identical readings, of as many hours, it is
    stuck (0: never); with `step`, the most that it changes from one hour to the next, spikes are looked for as well.
    """

    low: Annotated[float, Meta(ge=-1e9, le=1e9)]
    high: Annotated[float, Meta(ge=-1e9, le=1e9)]
    resolution: Annotated[float, Meta(gt=0, le=1e9)]
    stuck_after: Annotated[int, Meta(ge=0, le=10_000)] = 12
    step: Annotated[float, Meta(ge=0, le=1e9)] = 0.0

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError("[data.channels]: low has to be below high")


class DataSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[data]`: the clock that readings go by, the same for every worker of a fleet.

    It is real time, unless a recording is replayed: then it shows `start` (ISO 8601, UTC) at the Unix time `epoch` and
    runs `speed` times as fast. Retention, drift windows and what counts as too old or too early go by it. `channels`
    says what channels may read that the defaults do not know: processors and gateway watch those alone.
    """

    start: str = ""
    epoch: Annotated[float, Meta(ge=0)] = 0.0
    speed: Seconds = 1.0
    channels: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=32)], ChannelSection], Meta(max_length=64)
    ] = {}


class CalibrationLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[sensor.calibration.<channel>]`: how far a channel may be corrected, everything before it included.

    The same stands under `[processor.recalibration.limits]`. By `offset` at the reading `around`, both in the
    channel's unit, and by a share `gain` of the reading. A processor takes no peers for a measure that are further than
    `agree` apart, and leaves alone what is less than `least` off; 0 stands for a quarter and a tenth of `offset`.
    """

    offset: Annotated[float, Meta(ge=0, le=1e6)]
    gain: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    around: Annotated[float, Meta(ge=-1e6, le=1e6)] = 0.0
    agree: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    least: Annotated[float, Meta(ge=0, le=1e6)] = 0.0


Channels = Annotated[dict[Annotated[str, Meta(min_length=1, max_length=32)], CalibrationLimits], Meta(max_length=11)]
"""With the five that have limits by default, as many as a reading has fields."""


Channel = Annotated[str, Meta(min_length=1, max_length=32)]
Figure = Annotated[float, Meta(ge=-1e9, le=1e9)]


class ActuatorSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[sensor.actuators]]`: something that this sensor moves, and how far it ever lets itself be told to.

    Between `low` and `high`, by no more than `step` at once (0: any), no sooner than `rest` seconds after the last
    time, and for `hold` seconds at most; whenever nothing is in force it is at `safe`. With `file` it is a file that
    takes a decimal number, `scale` times the value with so many `digits`; without, it is simulated: it moves the
    channel `effect` by `gain` a unit away from `safe`, with a time constant of `lag` seconds of the data's time. What
    `effect` reads before, and `settle` seconds of the data's time after, is reported.
    """

    name: Channel
    low: Figure
    high: Figure
    safe: Figure
    step: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    rest: Annotated[float, Meta(ge=0, le=86_400)] = 60.0
    hold: Annotated[float, Meta(gt=0, le=604_800)] = 3600.0
    unit: Annotated[str, Meta(max_length=16)] = ""
    file: str = ""
    scale: Annotated[float, Meta(gt=0, le=1e9)] = 1.0
    digits: Annotated[int, Meta(ge=0, le=9)] = 3
    effect: Annotated[str, Meta(max_length=32)] = ""
    settle: Annotated[float, Meta(ge=0, le=604_800)] = 600.0
    gain: Annotated[float, Meta(ge=-1e6, le=1e6)] = 0.0
    lag: Seconds = 600.0


class SensorSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[sensor]`: what is measured and how often it is sent; `replay` names a CSV of recorded readings.

    `calibration` says how far each channel may be corrected, where the default limits do not suit, `actuators` what it
    moves. Every `telemetry_every` seconds it tells its processor how it does itself; 0: never.
    """

    site: str = ""
    replay: str = ""
    send_every: Seconds = 1.0
    capability: Name = "forecast"
    calibration: Channels = {}
    telemetry_every: Annotated[float, Meta(ge=0, le=86_400)] = 300.0
    actuators: Annotated[list[ActuatorSection], Meta(max_length=8)] = []

    def __post_init__(self) -> None:
        names = [one.name for one in self.actuators]
        if len(set(names)) < len(names):
            raise ValueError("[[sensor.actuators]]: two have the same name")
        for one in self.actuators:
            if not one.low <= one.safe <= one.high:
                raise ValueError(f"[[sensor.actuators]] {one.name}: low <= safe <= high does not hold")
            if not one.file and not one.effect:
                raise ValueError(f"[[sensor.actuators]] {one.name}: name its file, or the channel that feels it")


class RecalibrationSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[processor.recalibration]`: when sensors are asked to recalibrate beside findings and a hand, and how far.

    `every` is a time such as "7d" or "12h", or the ages at which a device is asked, ["1d", "7d", "30d"], after which
    the last step goes on; "" asks nobody. It is the clock's time, and each device is up to a tenth of it late, so that
    a fleet does not answer at once. With `side_by_side` devices stand at one spot and have to read the same; without,
    each keeps the distance from the others that it had when it came.
    """

    every: str | Annotated[list[str], Meta(min_length=1, max_length=16)] = "7d"
    side_by_side: bool = False
    limits: Channels = {}

    @property
    def ages(self) -> list[float]:
        """The ages in seconds, rising; empty if nobody is asked. Raises `SettingsError`."""
        if not self.every:
            return []
        ages = [_seconds(one) for one in ([self.every] if isinstance(self.every, str) else self.every)]
        if ages != sorted(set(ages)):
            raise SettingsError(f"[processor.recalibration] every: ages must rise: {self.every}")
        return ages


def _seconds(text: str) -> float:
    """Read 30m, 12h, 7d or 2w; `SettingsError`."""
    found = re.fullmatch(r"([1-9]\d{0,5})([mhdw])", text)
    if found is None:
        raise SettingsError(f"[processor.recalibration] every: {text!r} is no time such as 12h, 7d or 2w")
    return int(found[1]) * {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}[found[2]]


class CommandSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[processor.commands]]`: when a forecast has an actuator moved, where to, and for how many seconds.

    All that is said must hold: one of these kinds of `advice`, a forecast `above` or `below` so much, at least so much
    `confidence`; `sensors`: of these ids alone. The first that fits an actuator decides about it. It is said again in
    time as long as it fits; when none fits any more, what was said runs out, and the device goes back by itself.
    """

    actuator: Channel
    value: Figure
    advice: Annotated[list[str], Meta(max_length=16)] = []
    above: Figure | None = None
    below: Figure | None = None
    confidence: Annotated[float, Meta(ge=0, le=1)] = 0.5
    sensors: Annotated[list[Address], Meta(max_length=1000)] = []
    lasts: Annotated[float, Meta(gt=0, le=604_800)] = 600.0


_WEATHER = ("temp", "dewp", "humid", "wind_speed", "precip", "pressure")


class PrivacySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[processor.privacy]`: how much what is told of the devices as a group may tell of any of them.

    With an `epsilon` (a thousandth or more; 0, the default: off) each report to the gateway has noise by so much, and
    reports of any seven days by `budget` in all; then nothing more is told. Errors count up to `rmse_cap`, in the
    target's unit.
    """

    epsilon: Annotated[float, Meta(ge=0, le=20)] = 0.0
    budget: Annotated[float, Meta(gt=0, le=1000)] = 7.0
    rmse_cap: Annotated[float, Meta(gt=0, le=1e6)] = 10.0

    def __post_init__(self) -> None:
        if 0 < self.epsilon < 0.001:  # noqa: PLR2004 - what noise is drawn by
            raise ValueError("[processor.privacy] epsilon: 0.001 at least, or 0 for none")
        if self.epsilon > self.budget:
            raise ValueError("[processor.privacy] budget: less than one report's epsilon, so that nothing is ever told")


class ProcessorSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[processor]`: what is offered and to how many sensors at most; with no `capability`, to static peers alone.

    `rules` is a TOML file that says what is done about what the monitor finds; without it, the rules that come with
    Quietfleet hold. Models run in a "process" of their own, which has `inference_memory` MiB for them, or "inline".
    Every `refit_every` seconds of the data's time each device's head is fitted anew, if its release allows heads; 0
    allows none. `commands` say when forecasts have actuators moved. Of the sensors' fields those in `uploads` go up to
    the gateway, no other.
    """

    site: str = ""
    capacity: Count = 8
    inference: Literal["process", "inline"] = "process"
    inference_memory: Annotated[int, Meta(ge=64, le=65_536)] = 512
    refit_every: Annotated[float, Meta(ge=0)] = 86_400.0
    capability: Annotated[str, Meta(max_length=64)] = "forecast"
    channel: Name = "weather"
    monitor_every: Seconds = 1.0
    rules: str = ""
    recalibration: RecalibrationSection = RecalibrationSection()
    commands: Annotated[list[CommandSection], Meta(max_length=64)] = []
    privacy: PrivacySection = PrivacySection()
    uploads: Annotated[list[Name], Meta(max_length=64)] = msgspec.field(default_factory=lambda: [*_WEATHER])


class GatewaySection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[gateway]`: what is trained, from what history, and who pays for its releases on chain.

    `project` is an engineer's file, or the name of one that comes with this package. With `one_person` whoever moves a
    model to production may approve it alone. Nothing is told of fewer than `k` devices together.
    Every `watch_hours` of the data's time each device is held against the others of its place; 0: never.
    """

    channel: Name = "weather"
    project: str = "forecast"
    history: str = ""
    history_until: str = ""
    publisher: str = "publisher.json"
    seed: int = 2013
    one_person: bool = False
    k: Annotated[int, Meta(ge=1, le=1000)] = 3
    watch_hours: Annotated[float, Meta(ge=0, le=8760)] = 24.0


class PipelineSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[pipeline]`: who fits the models of single devices, where these are not solved all at once.

    So many processes of this machine, or the workers of the Dask scheduler at `dask`, as `tls://10.0.0.5:8786`: they
    see the readings, under pseudonyms, and run what they are sent, so they belong to the gateway's own trusted network.
    """

    jobs: Annotated[int, Meta(ge=1, le=256)] = 1
    dask: Annotated[str, Meta(max_length=256, pattern=r"^((tcp|tls)://[^\s/]+:\d+)?$")] = ""


class RunsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[runs]`: what makes a gateway train beside drift, a hand and new code; 0 switches a trigger off.

    Every `schedule_days`, or once `volume_rows` new readings came: off by default, since a run that nothing asks for
    costs hours of a small machine and mostly ends in "the champion is within its limits". Days are the data's own, as
    all that is about models; `monitor_hours`, after which each processor is asked how its model does, are the clock's,
    because what they cost is messages: a recording that is replayed fast must not multiply them. A run that met a fault
    of the machine is tried `retries` times more.
    """

    schedule_days: Annotated[float, Meta(ge=0, le=3650)] = 0.0
    monitor_hours: Annotated[float, Meta(ge=0, le=8760)] = 24.0
    volume_rows: Annotated[int, Meta(ge=0, lt=2**40)] = 0
    retries: Annotated[int, Meta(ge=0, le=16)] = 3


class DispatchSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[dispatch]`: with whom a sensor or processor works, and who may bring them together.

    With `allow`, only workers whose owner is named there, or which an operator named there has switched on by its
    owner's leave; without, anyone's. `oracles` are asked beside the one of the configuration. With `peers`, workers
    meet each other without any oracle.
    """

    allow: Annotated[list[Address], Meta(max_length=1000)] = []
    oracles: Annotated[list[Address], Meta(max_length=8)] = []
    peers: Annotated[list[Address], Meta(max_length=64)] = []


class RolloutSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[rollout]`: how a gateway brings a release to the fleet; processors go by it as far as the chain names it.

    It goes out in so many `waves`, a few canaries first. The next one opens once a share `success` of the devices in
    open waves has committed it, at most `failure` failed or said nothing for `deadline` seconds, at least `reports`
    (or all) were heard, and `soak` seconds have passed. A device lets the new model make `shadow` forecasts unused and
    turns it down when its error is more than a share `margin` greater; then it tries it for `trial` seconds and goes
    back when the share of lost samples rises by more than `lost`.
    """

    waves: Annotated[int, Meta(ge=1, le=16)] = 1
    success: Annotated[float, Meta(ge=0, le=1)] = 0.8
    failure: Annotated[float, Meta(ge=0, le=1)] = 0.2
    reports: Count = 1
    soak: Annotated[int, Meta(ge=0, lt=2**24)] = 0
    deadline: Annotated[int, Meta(ge=1, lt=2**24)] = 60
    shadow: Annotated[int, Meta(ge=0, le=100_000)] = 0
    margin: Annotated[float, Meta(ge=0, le=1)] = 0.05
    trial: Annotated[int, Meta(ge=0, lt=2**24)] = 0
    lost: Annotated[float, Meta(ge=0, le=1)] = 0.1


class StorageSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[storage]`: `shelf` is a folder that the gateway and its processors share; releases' artefacts are kept there.

    They lie there sealed, and are believed only as far as the chain vouches for them. Without it, or where it fails,
    releases travel in messages.
    """

    shelf: str = ""


class StoreSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[store]`: where a gateway keeps its readings, and for how many days.

    `url` is a folder, `file:///srv/month` or `s3://bucket/folder`; without it, `month` in its state folder. Where the
    bucket is and by which account comes from the environment, as for every S3 client.
    """

    url: str = ""
    retention_days: Annotated[float, Meta(gt=0, le=3650)] = 30.0


class AuditSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[audit]`: how often, in seconds, a gateway anchors its audit log on chain by its publisher's account; 0: never.

    It does so whether or not anything happened, so that nobody can tell from when it does.
    """

    anchor_every: Annotated[float, Meta(ge=0)] = 86_400.0


class OracleSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[oracle]`: `rotator` names the keystore of an account that may rotate; without it the oracle sets nothing.

    With it, the oracle doubles the network's least proof of work when for most of `window` seconds more than `capacity`
    envelopes a second came, and halves it again, down to where it was, after `calm` seconds well below that.

    With `rotate_on_disable` it also ends the present epoch at once, with new keys, when a worker that may know the
    epoch key loses its right to it: no sooner than `rotate_every` seconds after the last time, `rotate_most` an hour.

    `store` is what the replicas of one oracle share: `sqlite:<file>` on one machine, `redis://host:port/0` (`rediss://`
    with TLS) beyond it; its password comes from QUIETFLEET_REDIS_PASSWORD or the file named by
    QUIETFLEET_REDIS_PASSWORD_FILE. Without it the oracle has no replicas, and keeps everything in its own database.
    """

    rotator: str = ""
    store: str = ""
    capacity: Seconds = 200.0
    window: Annotated[float, Meta(ge=10, le=3600)] = 30.0
    calm: Annotated[float, Meta(ge=60, le=86_400)] = 600.0
    rotate_on_disable: bool = False
    rotate_every: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    rotate_most: Annotated[int, Meta(ge=1, le=3600)] = 12


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything one worker needs to know before it starts."""

    worker: WorkerSection
    chain: ChainSection
    network: NetworkSection = NetworkSection()
    keys: KeysSection = KeysSection()
    data: DataSection = DataSection()
    sensor: SensorSection = SensorSection()
    processor: ProcessorSection = ProcessorSection()
    gateway: GatewaySection = GatewaySection()
    pipeline: PipelineSection = PipelineSection()
    runs: RunsSection = RunsSection()
    dispatch: DispatchSection = DispatchSection()
    rollout: RolloutSection = RolloutSection()
    storage: StorageSection = StorageSection()
    store: StoreSection = StoreSection()
    audit: AuditSection = AuditSection()
    oracle: OracleSection = OracleSection()
    folder: str = "."

    def data_clock(self, real: Clock) -> Clock:
        """Return the clock readings go by; raises `SettingsError` when `[data] start` is no date."""
        if not self.data.start:
            return real
        if self.data.epoch <= 0:
            raise SettingsError("[data] start needs an epoch: the Unix time at which that day begins")
        try:
            start = datetime.fromisoformat(self.data.start).replace(tzinfo=UTC).timestamp()
        except ValueError as error:
            raise SettingsError(f"[data] start: {error}") from error
        return ReplayClock(real, start, self.data.epoch, self.data.speed)

    def path(self, relative: str) -> Path:
        """Resolve a path of the settings file."""
        return (Path(self.folder) / relative).resolve()


def load_settings(path: Path, environment: Mapping[str, str]) -> Settings:
    """Read settings from `path`, let the environment override them; raises `SettingsError`."""
    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"{path} does not exist") from error
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from error
    document["folder"] = str(path.parent)
    try:
        return msgspec.convert(_overridden(document, environment), type=Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{path}: {error}") from error


def store_password(environment: Mapping[str, str]) -> str | None:
    """Return the password of the store that replicas share, if there is one; raises `SettingsError`."""
    if word := environment.get(f"{PREFIX}REDIS_PASSWORD"):
        return word
    file = environment.get(f"{PREFIX}REDIS_PASSWORD_FILE")
    return _secret_in(file, f"{PREFIX}REDIS_PASSWORD_FILE") if file else None


def passphrase(environment: Mapping[str, str]) -> str:
    """Return the keystore passphrase; raises `SettingsError` when neither variable brings one."""
    if phrase := environment.get(f"{PREFIX}PASSPHRASE"):
        return phrase
    file = environment.get(f"{PREFIX}PASSPHRASE_FILE")
    if not file:
        raise SettingsError("set QUIETFLEET_PASSPHRASE or QUIETFLEET_PASSPHRASE_FILE to unlock the keystore")
    return _secret_in(file, f"{PREFIX}PASSPHRASE_FILE")


def _secret_in(file: str, variable: str) -> str:
    try:
        secret = Path(file).read_text().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise SettingsError(f"{variable}: {error}") from error
    if not secret:
        raise SettingsError(f"{variable}: {file} is empty")
    return secret


def _overridden(document: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    for section, kind in Settings.__annotations__.items():
        if section == "folder":
            continue
        for field in msgspec.structs.fields(globals()[kind] if isinstance(kind, str) else kind):
            value = environment.get(f"{PREFIX}{section}_{field.name}".upper())
            if value is not None:
                parsed = value.split(",") if field.default_factory is list else value
                _set(document, section, field.name, parsed)
    return document


def _set(document: dict[str, Any], section: str, name: str, value: object) -> None:
    """Override one value; a section that is no table stays as it is, for the validation to name."""
    table = document.setdefault(section, {})
    if isinstance(table, dict):
        table[name] = value
