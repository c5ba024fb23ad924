from __future__ import annotations

import re

import pytest

from quietfleet.clock import ManualClock
from quietfleet.errors import SettingsError
from quietfleet.settings import Settings, load_settings, passphrase, store_password

WORKER = '[worker]\nname = "porch"\n[chain]\ndeployment = "31337.json"\n'


@pytest.fixture
def write(tmp_path):
    """Writes a settings file and returns its path."""

    def write(text):
        path = tmp_path / "worker.toml"
        path.write_text(text)
        return path

    return write


def sentence(caught):
    """The error as the operator reads it: one line that begins with what to do."""
    text = str(caught.value)
    assert text.startswith("The settings cannot be used: correct the file or variable named here. (")
    assert "\n" not in text
    return text


def test_load__only_what_must_be_said__the_rest_has_defaults(write, tmp_path):
    settings = load_settings(write(WORKER), {})
    assert settings.worker.name == "porch"
    assert settings.chain.rpc == "http://127.0.0.1:8545"
    assert settings.network.peers == []
    assert settings.path("state") == (tmp_path / "state").resolve()


def test_load__relative_and_absolute_paths__resolve_beside_the_file(write, tmp_path):
    settings = load_settings(write(WORKER), {})
    assert settings.path(settings.chain.deployment) == (tmp_path / "31337.json").resolve()
    assert str(settings.path("/etc/quietfleet/key.json")) == "/etc/quietfleet/key.json"


def test_load__file_names_a_folder_of_its_own__refused_or_ignored_never_followed(write, tmp_path):
    settings = load_settings(write(f'folder = "/etc"\n{WORKER}'), {})
    assert settings.path("state") == (tmp_path / "state").resolve()


@pytest.mark.parametrize(
    ("variable", "text", "read"),
    [
        ("QUIETFLEET_CHAIN_RPC", "http://10.0.0.1:1", lambda s: s.chain.rpc == "http://10.0.0.1:1"),
        ("QUIETFLEET_CHAIN_MAX_AGE", "2.5", lambda s: s.chain.max_age == 2.5),
        ("QUIETFLEET_CHAIN_CONFIRMATIONS", "3", lambda s: s.chain.confirmations == 3),
        ("QUIETFLEET_WORKER_NAME", "attic", lambda s: s.worker.name == "attic"),
        ("QUIETFLEET_NETWORK_PEERS", "a:1,b:2", lambda s: s.network.peers == ["a:1", "b:2"]),
        ("QUIETFLEET_CHAIN_FALLBACKS", "http://a,http://b", lambda s: s.chain.fallbacks == ["http://a", "http://b"]),
        ("QUIETFLEET_KEYS_ROTATE_EVERY", "86400", lambda s: s.keys.rotate_every == 86_400),
        ("QUIETFLEET_DATA_SPEED", "86400", lambda s: s.data.speed == 86_400),
        ("QUIETFLEET_PROCESSOR_CAPACITY", "2", lambda s: s.processor.capacity == 2),
        ("QUIETFLEET_GATEWAY_SEED", "7", lambda s: s.gateway.seed == 7),
    ],
)
def test_load__environment_names_a_value__it_wins(write, variable, text, read):
    path = write(WORKER + '[network]\npeers = ["z:9"]\n')
    assert not read(load_settings(path, {}))
    assert read(load_settings(path, {variable: text}))


def test_load__environment_completes_a_file__accepted(write):
    settings = load_settings(write('[worker]\nname = "porch"\n'), {"QUIETFLEET_CHAIN_DEPLOYMENT": "d.json"})
    assert settings.chain.deployment == "d.json"


def test_load__passphrase_variable__is_no_setting(write):
    load_settings(write(WORKER), {"QUIETFLEET_PASSPHRASE": "secret", "QUIETFLEET_UNRELATED": "1"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[worker", "table declaration"),
        ("", "worker"),
        ('[worker]\nname = "porch"\n', "chain"),
        ('[worker]\nname = "porch"\n[chain]\n', "deployment"),
        (WORKER + "[sensors]\n", "sensors"),
        (WORKER + "[network]\npeer = []\n", "peer"),
        (WORKER + "rpc = 8545\n", "$.chain.rpc"),
        (WORKER + 'poll = "often"\n', "$.chain.poll"),
        (WORKER + "poll = 0\n", "$.chain.poll"),
        (WORKER + "max_age = -1\n", "$.chain.max_age"),
        (WORKER + "max_age = nan\n", "$.chain.max_age"),
        (WORKER + "confirmations = -1\n", "$.chain.confirmations"),
        (WORKER + "confirmations = 1.5\n", "$.chain.confirmations"),
        (WORKER + '[network]\npeers = "a:1"\n', "$.network.peers"),
        (WORKER + "[network]\nttl = 0\n", "$.network.ttl"),
        (WORKER + "[keys]\nrotate_every = -1\n", "$.keys.rotate_every"),
        (WORKER + "[keys]\nrotate_every = nan\n", "$.keys.rotate_every"),
        (WORKER + "[data]\nspeed = 0.0\n", "$.data.speed"),
        (WORKER + "[data]\nspeed = nan\n", "$.data.speed"),
        (WORKER + "[data]\nepoch = -1\n", "$.data.epoch"),
        (WORKER + "[sensor]\nsend_every = -2\n", "$.sensor.send_every"),
        (WORKER + '[sensor]\ncapability = ""\n', "$.sensor.capability"),
        (WORKER + "[processor]\ncapacity = 0\n", "$.processor.capacity"),
        (WORKER + "[processor]\nmonitor_every = 0\n", "$.processor.monitor_every"),
        (WORKER + '[gateway]\nseed = "x"\n', "$.gateway.seed"),
        ('worker = "porch"\n[chain]\ndeployment = "d"\n', "$.worker"),
    ],
)
def test_load__bad_input__one_sentence_names_it(write, text, says):
    path = write(text)
    with pytest.raises(SettingsError) as caught:
        load_settings(path, {})
    assert says in sentence(caught)
    assert str(path) in sentence(caught)


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("QUIETFLEET_CHAIN_POLL", "soon", "$.chain.poll"),
        ("QUIETFLEET_CHAIN_MAX_AGE", "nan", "$.chain.max_age"),
        ("QUIETFLEET_NETWORK_TTL", "-1", "$.network.ttl"),
        ("QUIETFLEET_WORKER_NAME", "", "$.worker.name"),
    ],
)
def test_load__bad_variable__one_sentence_names_it(write, variable, text, says):
    with pytest.raises(SettingsError) as caught:
        load_settings(write(WORKER), {variable: text})
    assert says in sentence(caught)


def test_load__variable_for_a_section_that_is_no_table__the_file_is_blamed(write):
    with pytest.raises(SettingsError) as caught:
        load_settings(write('chain = 1\n[worker]\nname = "p"\n'), {"QUIETFLEET_CHAIN_RPC": "http://x"})
    assert "$.chain" in sentence(caught)


@pytest.mark.parametrize("what", ["missing", "a folder", "no text"])
def test_load__no_file_to_read__says_so(tmp_path, what):
    path = tmp_path / "worker.toml"
    if what == "a folder":
        path.mkdir()
    if what == "no text":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError) as caught:
        load_settings(path, {})
    assert str(path) in sentence(caught)


def test_settings__values__cannot_be_changed(write):
    settings = load_settings(write(WORKER), {})
    with pytest.raises(AttributeError):
        settings.chain.rpc = "http://elsewhere"
    assert isinstance(settings, Settings)


def test_passphrase__in_the_environment__taken_as_it_is(tmp_path):
    file = tmp_path / "phrase"
    file.write_text("from the file")
    both = {"QUIETFLEET_PASSPHRASE": " spaced ", "QUIETFLEET_PASSPHRASE_FILE": str(file)}
    assert passphrase(both) == " spaced "


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_passphrase__in_a_file__the_line_end_is_not_part_of_it(tmp_path, ending):
    file = tmp_path / "phrase"
    file.write_bytes(b"open sesame " + ending.encode())
    assert passphrase({"QUIETFLEET_PASSPHRASE_FILE": str(file)}) == "open sesame "


@pytest.mark.parametrize(
    "environment", [{}, {"QUIETFLEET_PASSPHRASE": ""}, {"QUIETFLEET_PASSPHRASE": "", "QUIETFLEET_PASSPHRASE_FILE": ""}]
)
def test_passphrase__nowhere__names_both_variables(environment):
    with pytest.raises(SettingsError) as caught:
        passphrase(environment)
    assert re.search("QUIETFLEET_PASSPHRASE or QUIETFLEET_PASSPHRASE_FILE", sentence(caught))


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_passphrase__file_without_a_phrase__names_the_variable(tmp_path, content):
    file = tmp_path / "phrase"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        passphrase({"QUIETFLEET_PASSPHRASE_FILE": str(file)})
    assert "QUIETFLEET_PASSPHRASE_FILE" in sentence(caught)


def test_data_clock__nothing_replayed__is_the_real_one(write):
    real = ManualClock(5.0)
    assert load_settings(write(WORKER), {}).data_clock(real) is real


def test_data_clock__recording__starts_at_its_epoch_and_runs_at_its_speed(write):
    settings = load_settings(write(WORKER + '[data]\nstart = "2013-03-20"\nepoch = 100.0\nspeed = 60.0\n'), {})
    real = ManualClock(90.0)
    clock = settings.data_clock(real)
    assert clock.now() == 1_363_737_600.0, "it stands still before"
    real.advance(12.0)
    assert clock.now() == 1_363_737_600.0 + 2 * 60


def test_data_clock__start_is_no_date__says_so(write):
    with pytest.raises(SettingsError) as caught:
        load_settings(write(WORKER + '[data]\nstart = "spring"\n'), {}).data_clock(ManualClock())
    assert "[data] start" in sentence(caught)


def test_store_password__in_the_environment_or_in_a_file__that_one(tmp_path):
    (tmp_path / "word").write_text("from a file\n")
    assert store_password({}) is None
    assert store_password({"QUIETFLEET_REDIS_PASSWORD": "said"}) == "said"
    assert store_password({"QUIETFLEET_REDIS_PASSWORD_FILE": str(tmp_path / "word")}) == "from a file"


@pytest.mark.parametrize("content", [None, ""])
def test_store_password__file_missing_or_empty__says_which_variable(tmp_path, content):
    if content is not None:
        (tmp_path / "word").write_text(content)
    with pytest.raises(SettingsError, match="QUIETFLEET_REDIS_PASSWORD_FILE"):
        store_password({"QUIETFLEET_REDIS_PASSWORD_FILE": str(tmp_path / "word")})


FAN = '[[sensor.actuators]]\nname = "fan"\nfile = "fan"\nlow = 0\nhigh = 10\nsafe = 0\n'


def test_actuators__as_a_table__read(write):
    (fan,) = load_settings(write(WORKER + FAN), {}).sensor.actuators
    assert (fan.name, fan.high, fan.safe, fan.step) == ("fan", 10.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (FAN + FAN, "two have the same name"),
        (FAN.replace("safe = 0", "safe = 11"), "low <= safe <= high does not hold"),
        (FAN.replace('file = "fan"', 'file = ""'), "name its file, or the channel that feels it"),
        (FAN.replace("high = 10", "high = nan"), "Expected"),
        (FAN + "speed = 3\n", "unknown field `speed`"),
    ],
    ids=["twice", "unsafe", "nothing to move", "no number", "unknown"],
)
def test_actuators__that_cannot_be__one_sentence_says_why(write, given, said):
    with pytest.raises(SettingsError) as caught:
        load_settings(write(WORKER + given), {})
    assert said in sentence(caught)


CO2 = "[data.channels.co2]\nlow = 300\nhigh = 5000\nresolution = 1\n"


def test_channels__of_ones_own__read(write):
    co2 = load_settings(write(WORKER + CO2), {}).data.channels["co2"]
    assert (co2.low, co2.high, co2.stuck_after, co2.step) == (300.0, 5000.0, 12, 0.0)


@pytest.mark.parametrize("given", [CO2.replace("5000", "200"), CO2.replace("resolution = 1", "resolution = 0")])
def test_channels__that_cannot_be__one_sentence_says_why(write, given):
    with pytest.raises(SettingsError):
        load_settings(write(WORKER + given), {})
