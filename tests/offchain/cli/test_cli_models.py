"""`quietfleet models …`: what an operator sees and moves, also while the gateway has its database open."""

from __future__ import annotations

import json
import os
import time

import pytest

from quietfleet.chain._journal import Located
from quietfleet.chain.channel import Terms
from quietfleet.chain.events import ReleaseApproved, ReleaseProposed, WaveOpened
from quietfleet.chain.replica import Batch, Replica
from quietfleet.chain.types import Head
from quietfleet.crypto import keccak256
from quietfleet.pipeline.project import shipped
from quietfleet.pipeline.registry import Stage
from quietfleet.pipeline.run import run_pipeline
from quietfleet.settings import load_settings
from quietfleet.storage import AuditLog, Database, EncryptedObjects, FolderShelf
from quietfleet.testbed.weather import load_weather
from quietfleet.workers._handout import Shelved
from quietfleet.workers._models import open_registry
from quietfleet.workers._personal import Given
from quietfleet.workers._state import State

WHY = ("--why", "a third better in frost")
BOTH = ("--who", "anna", "--approved-by", "ben", *WHY)


class Gateway:
    """The gateway's side: it has the database open while commands run."""

    def __init__(self, folder, secret):
        self.secret = secret
        self.database = Database(folder / "state" / "worker.db")
        self.audit = AuditLog(self.database)
        settings = load_settings(folder / "worker.toml", {})
        self.registry = open_registry(settings, self.database, secret, self.audit.append)


@pytest.fixture
def gateway(worker, tmp_path):
    opened = Gateway(tmp_path, worker.to_bytes())
    for number in (1, 2):
        manifest = json.dumps({"metrics": {"rmse": number / 2}, "dataset": {"id": "d" * 64}}).encode()
        opened.registry.register("weather", manifest, b"a%d" % number, at=number, run="0123456789abcdef")
    yield opened
    opened.database.close()


@pytest.fixture
def told(run):
    """Runs a command that must work, and reads its JSON."""

    def told(*words, **more):
        result = run("models", *words, "--json", **more)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)

    return told


def test_list__beside_the_gateway__every_version_with_its_stage(gateway, told, run):
    gateway.registry.promote("weather", 1, Stage.STAGING, who="gateway", at=3.0, why="trained")
    found = told("list", passphrase=None)
    assert [(one["version"], one["stage"], one["run"]) for one in found] == [
        (1, "staging", "0123456789abcdef"),
        (2, "none", "0123456789abcdef"),
    ]
    assert run("models", "list", "weather").stdout.startswith("weather 1  staging")
    assert "nothing" not in run("models", "list").stdout


def test_list__no_such_name__says_so(gateway, refused):
    assert "oceans" in refused("models", "list", "oceans")


def test_promote__two_persons__in_production_and_on_record(gateway, told, run):
    told("promote", "weather", "1", "--to", "production", *BOTH)
    moved = told("promote", "weather", "2", "--to", "production", *BOTH)
    assert (moved["stage"], moved["aliases"]) == ("production", ["production"])
    assert gateway.registry.resolve("weather", "production") == 2
    assert gateway.registry.genuine(gateway.registry.history()[-1])
    shown = told("show", "weather", passphrase=None)
    assert (shown["version"], shown["metrics"], shown["bytes"]) == (2, {"rmse": 1.0}, {"default": 2})
    assert len(shown["on_chain"]) == 66
    lines = run("models", "history", "weather").stdout.splitlines()
    assert "production → 2  by anna, approved by ben: a third better in frost" in lines[-1]
    recorded = [entry.detail for entry in gateway.audit.entries(kind="model-moved")]
    assert recorded == [move | {"run": "0123456789abcdef"} for move in told("history")]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("promote", "weather", "2", "--to", "production", "--who", "anna", *WHY), "Production takes two"),
        (("promote", "weather", "9", "--to", "staging", *WHY), "weather version 9"),
        (("rollback", "weather", *BOTH), "no other version"),
        (("alias", "weather", "champion", "2", *WHY), "release another"),
        (("alias", "weather", "production", "2", *WHY), "promoting"),
        (("show", "weather", "best"), "no best"),
        (("archive", "weather", "2", "--why", "0x" + "ab" * 20), "names a worker"),
    ],
)
def test_move__what_the_registry_does_not_take__one_sentence_and_no_change(gateway, refused, words, sentence):
    assert sentence in refused("models", *words)
    assert gateway.registry.history() == []


@pytest.mark.parametrize("option", ["--who", "--approved-by"])
@pytest.mark.parametrize("name", ["gateway", " Chain "])
def test_move__in_the_gateways_or_the_chains_name__is_refused(gateway, run, option, name):
    result = run("models", "promote", "weather", "2", "--to", "production", *BOTH, option, name)
    assert (result.exit_code, "no person" in result.stderr) == (2, True)
    assert gateway.registry.history() == []


def test_move__without_the_gateways_passphrase__is_refused(gateway, refused):
    assert "QUIETFLEET_PASSPHRASE" in refused("models", "archive", "weather", "2", *WHY, passphrase=None)
    assert "key file" in refused("models", "archive", "weather", "2", *WHY, passphrase="guessed")
    assert gateway.registry.history() == []


def test_rollback__a_bad_version_in_production__the_one_before_is_back(gateway, told):
    for number in ("1", "2"):
        told("promote", "weather", number, "--to", "production", *BOTH)
    assert told("rollback", "weather", *BOTH)["version"] == 1
    stages = {one["version"]: one["stage"] for one in told("list", "weather")}
    assert stages == {1: "production", 2: "archived"}
    assert gateway.registry.resolve("weather", "production") == 1


def test_alias__set_and_removed__is_followed(gateway, told, run):
    told("alias", "weather", "best", "2", *WHY)
    assert told("show", "weather", "best")["version"] == 2
    assert told("alias", "weather", "best", "--remove", *WHY)["version"] is None
    assert gateway.registry.aliases("weather") == {}
    assert run("models", "alias", "weather", "best", *WHY).exit_code == 2


def test_show__the_manifest_alone__to_the_byte(gateway, run):
    assert (
        run("models", "show", "weather", "1", "--manifest").stdout_bytes == gateway.registry.get("weather", 1).manifest
    )


def test_verify__all_as_it_was__counts_and_collects_what_a_crash_left(gateway, told):
    stray = gateway.registry.objects.put(b"left behind")
    assert told("verify", passphrase=None)["stray"] == [stray]
    found = told("verify", "--collect")
    assert (found["versions"], found["stray"], found["faults"], found["tags"]) == (2, [stray], [], True)
    assert told("verify")["stray"] == []


def test_verify__an_artefact_is_damaged__named_with_exit_code_4(gateway, run, tmp_path):
    name = gateway.registry.entry("weather", 2).artifacts["default"]
    (tmp_path / "state" / "objects" / name[:2] / name[2:]).write_bytes(b"mud")
    result = run("models", "verify", "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["faults"] == [
        {"name": "weather", "version": 2, "fault": f"artefact default is damaged, {name}"}
    ]
    assert "weather 2: artefact default is damaged" in result.stderr
    assert "no longer match" in run("models", "show", "weather", "2").stderr


def test_verify__the_audit_log_was_cut__is_the_same_exit_code(gateway, run):
    gateway.database.execute("DROP TRIGGER audit_no_update")
    gateway.database.execute("UPDATE audit SET detail = '{}' WHERE sequence = 1")
    assert run("models", "verify").exit_code == 4


def test_models__gateway_never_ran__says_so(worker, refused):
    for words in (("list",), ("verify",), ("archive", "weather", "1", *WHY)):
        assert "never ran" in refused("models", *words)


def test_models__of_another_kind_of_worker__makes_no_registry_there(worker, refused, tmp_path):
    with Database(tmp_path / "state" / "worker.db") as database:
        for words in (("list",), ("archive", "weather", "1", *WHY), ("verify", "--collect")):
            assert "start the gateway once" in refused("models", *words)
        assert database.execute("SELECT count(*) FROM schema").fetchone() == (0,)


# in and out


@pytest.fixture(scope="module")
def candidate():
    """A model that was really trained, on a fortnight of three stations."""
    rows = [(station, *row) for station, kept in load_weather().items() for row in kept[: 14 * 24]]
    return run_pipeline(rows, shipped("forecast"), seed=1, now=time.time())


def test_import__what_a_run_wrote__registered_exported_and_taken_elsewhere(gateway, told, run, tmp_path, candidate):
    folder = tmp_path / "run" / "model"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(candidate.manifest)
    (folder / "model.onnx").write_bytes(candidate.artifact)
    taken = told("import", "weather", folder, "--who", "anna", *WHY)
    assert (taken["version"], taken["stage"], taken["dataset"]) == (3, "none", candidate.report["dataset"])
    *_, entry = gateway.audit.entries(kind="model-registered")
    assert (entry.detail["who"], entry.detail["why"]) == ("anna", "a third better in frost")
    told("export", "weather", "3", "--folder", tmp_path / "out", passphrase=None)
    assert told("import", "elsewhere", tmp_path / "out", *WHY)["manifest"] == taken["manifest"]
    assert told("import", "weather", tmp_path / "out", *WHY)["version"] == 3
    told("export", "weather", "3", "--mlflow", tmp_path / "mlflow", passphrase=None)
    assert (tmp_path / "mlflow" / "model.onnx").read_bytes() == candidate.artifact
    assert candidate.report["manifest_hash"] in run("models", "show", "weather", "3").stdout
    assert told("verify")["faults"] == []


def test_import__a_model_that_devices_would_refuse__is_not_registered(gateway, refused, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    assert "manifest.json" in refused("models", "import", "weather", "model", *WHY)
    (folder / "manifest.json").write_text(json.dumps({"models": {"personal": {"../../porch": {}}}}))
    (folder / "model.onnx").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert "no device's pseudonym" in refused("models", "import", "weather", "model", *WHY)
    (folder / "manifest.json").write_text("{}")
    assert "failed verification" in refused("models", "import", "weather", "model", *WHY)
    (folder / "model.onnx").write_bytes(bytes(9 << 20))
    assert "more than" in refused("models", "import", "weather", "model", *WHY)
    assert len(gateway.registry.versions()) == 2


def test_export__no_form_or_both__is_asked_for(gateway, run):
    assert run("models", "export", "weather", "1").exit_code == 2
    assert run("models", "export", "weather", "1", "--folder", "a", "--mlflow", "b").exit_code == 2


def test_export__folder_is_in_use__is_left_alone(gateway, refused, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("dear")
    assert "not empty" in refused("models", "export", "weather", "1", "--folder", "thesis")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.txt"]


def test_export__as_oci_layouts__taken_elsewhere_as_it_was(gateway, told, run, tmp_path, candidate):
    number = gateway.registry.register("weather", candidate.manifest, candidate.artifact, at=3.0)
    out = told("export", "weather", number, "--oci", tmp_path / "out", passphrase=None)
    assert out["image"] == "weather-3"
    assert out == told("export", "weather", number, "--oci", tmp_path / "out", passphrase=None)
    assert out["digest"] in run("models", "export", "weather", number, "--oci", tmp_path / "out").stdout
    taken = told("import", "elsewhere", tmp_path / "out", *WHY)
    assert gateway.registry.get("elsewhere", taken["version"]).manifest == candidate.manifest
    gateway.registry.register("forecast", candidate.manifest, candidate.artifact, at=4.0)
    told("export", "forecast", "1", "--oci", tmp_path / "out")
    assert "say which image" in run("models", "import", "third", tmp_path / "out", *WHY).stderr
    assert told("import", "third", tmp_path / "out", "--image", "forecast-1", *WHY)["version"] == 1


def test_import__from_an_oci_layout_that_was_changed__is_not_registered(gateway, told, refused, tmp_path, candidate):
    gateway.registry.register("weather", candidate.manifest, candidate.artifact, at=3.0)
    told("export", "weather", "3", "--oci", tmp_path / "out")
    for blob in sorted((tmp_path / "out" / "blobs" / "sha256").iterdir()):
        data = blob.read_bytes()
        blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert "nothing of it was taken" in refused("models", "import", "elsewhere", "out", *WHY)
        blob.write_bytes(data)
    assert gateway.registry.versions("elsewhere") == []


# pruning


@pytest.fixture
def many(gateway):
    """Six versions: the fourth was in production before the fifth, which is there."""
    for number in (3, 4, 5, 6):
        gateway.registry.register("weather", b'{"number": %d}' % number, b"a%d" % number, at=number)
    for number in (4, 5):
        gateway.registry.promote("weather", number, Stage.PRODUCTION, who="anna", approved_by="ben", at=9.0, why="x")
    gateway.registry.point("weather", "challenger", 2, who="gateway", at=9.0, why="trained")
    return gateway


def test_prune__old_versions__bytes_go_and_manifest_lineage_and_history_stay(many, told, run):
    assert told("prune", "weather", "--keep", "1", "--dry-run", *WHY)["versions"] == [1, 3]
    assert told("list")[0]["stage"] == "none", "nothing went yet"
    before = len(list(many.registry.objects.names()))
    assert told("prune", "weather", "--keep", "1", "--who", "anna", *WHY)["versions"] == [1, 3]
    found = {one["version"]: one["stage"] for one in told("list")}
    assert found == {1: "pruned", 2: "none", 3: "pruned", 4: "archived", 5: "production", 6: "none"}
    assert len(list(many.registry.objects.names())) == before - 2
    assert told("verify")["faults"] == []
    assert [entry.detail["stage"] for entry in many.audit.entries(kind="model-moved")][-2:] == ["pruned", "pruned"]
    assert [one["who"] for one in told("history")][-2:] == ["anna", "anna"]
    assert told("prune", "weather", "--keep", "1", *WHY)["versions"] == []
    assert "prune" in run("models", "--help").stdout


def test_prune__what_the_chain_has_open__stays(many, told):
    state = State(many.database)
    manifest = keccak256(many.registry.objects.get(many.registry.entry("weather", 3).manifest))
    state.set(f"manifest:{manifest.hex()}", 3)
    terms = Terms(manifest, bytes(32), bytes(32), 0, 2**32, 0, 1)
    channel, owner = keccak256(b"weather"), "0x" + "aa" * 20
    events = (
        ReleaseProposed(channel, 1, terms),
        ReleaseApproved(channel, 1, owner),
        WaveOpened(channel, 1, 1),
    )
    located = tuple(Located(1, index, 5, event) for index, event in enumerate(events))
    Replica(many.database, many.secret).advance(-1, Batch(located, (Head(1, bytes(32), 5),)), 256, lambda _: None)
    assert told("prune", "weather", "--keep", "1", *WHY)["versions"] == [1]


def test_prune__a_pruned_version__is_meant_by_nothing_until_it_is_imported_again(many, told, refused):
    told("prune", "weather", "--keep", "1", *WHY)
    assert "import it again" in refused("models", "promote", "weather", "1", "--to", "staging", *WHY)
    assert "import it again" in refused("models", "alias", "weather", "best", "1", *WHY)
    assert "import it again" in refused("models", "show", "weather", "1")
    many.registry.register("weather", b'{"number": 3}', b"a3", at=10.0)
    assert many.registry.get("weather", 3).artifact == b"a3"
    assert told("show", "weather", "3")["stage"] == "archived"
    assert told("verify")["faults"] == []


def test_prune__models_of_single_devices__go_with_the_version_they_were_made_for(many, told, refused, tmp_path):
    state = State(many.database)
    given = Given(state, many.secret, random=os.urandom)
    for number in (1, 6):
        manifest = keccak256(many.registry.objects.get(many.registry.entry("weather", number).manifest))
        version = many.registry.register("weather.personal", b"own %d" % number, b"own a%d" % number, at=1.0)
        given.keep(manifest, {"0x" + "cc" * 20: keccak256(b"own %d" % number)})
        given.register(keccak256(b"own %d" % number), version)
    assert "go with the version" in refused("models", "prune", "weather.personal", "--keep", "1", *WHY)
    told("prune", "weather", "--keep", "1", *WHY)
    assert [one["stage"] for one in told("list", "weather.personal")] == ["pruned", "none"]


def test_prune__artefact_on_the_shelf__is_taken_from_there(many, told, tmp_path):
    with (tmp_path / "worker.toml").open("a") as file:
        file.write('\n[storage]\nshelf = "shelf"\n')
    shelf = EncryptedObjects(FolderShelf(tmp_path / "shelf"))
    shelved = Shelved(State(many.database), many.secret, random=os.urandom)
    for number in (1, 6):
        shelved.keep(number, shelf.put(b"a%d" % number))
    assert told("prune", "weather", "--keep", "1", *WHY)["left_on_shelf"] == []
    assert shelved.find(1) is None
    assert len([path for path in (tmp_path / "shelf").rglob("*") if path.is_file()]) == 1
    assert shelf.get(shelved.find(6)) == b"a6"


def test_prune__no_such_name__says_so(many, refused):
    assert "oceans" in refused("models", "prune", "oceans", "--keep", "1", *WHY)
