import pytest

from quietfleet.errors import ObjectCorrupt, RegistryError
from quietfleet.pipeline.registry import AliasChange, Registry
from quietfleet.storage import Database, ObjectStore


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "gateway.db") as opened:
        yield opened


@pytest.fixture
def registry(tmp_path, database):
    return Registry(database, ObjectStore(tmp_path / "objects"))


def test_register__new_models__count_up_per_name(registry):
    assert registry.register("forecast", b"m1", b"a1", at=1.0) == 1
    assert registry.register("forecast", b"m2", b"a2", at=2.0) == 2
    assert registry.register("other", b"m1", b"a1", at=3.0) == 1


def test_register__same_manifest_again__keeps_its_version(registry):
    registry.register("forecast", b"m1", b"a1", at=1.0)
    assert registry.register("forecast", b"m1", b"a1", at=9.0) == 1
    assert registry.get("forecast", 1).at == 1.0


def test_get__by_version__returns_the_bytes(registry):
    registry.register("forecast", b"m1", b"a1", at=1.0)
    model = registry.get("forecast", 1)
    assert (model.manifest, model.artifact, model.version) == (b"m1", b"a1", 1)


@pytest.mark.parametrize("version", [1, 0, -1, "champion"])
def test_get__nothing_there__says_so(registry, version):
    with pytest.raises(RegistryError):
        registry.get("forecast", version)


def test_point__champion_moves__old_one_stays_in_history(registry):
    for number in (1, 2):
        registry.register("forecast", b"m%d" % number, b"a", at=number)
    registry.point("forecast", "champion", 1, who="gateway", at=1.0, why="first")
    registry.point("forecast", "challenger", 2, who="gateway", at=2.0, why="drift")
    registry.point("forecast", "champion", 2, who="owner", at=3.0, why="beats it")
    assert registry.resolve("forecast", "champion") == 2
    assert registry.get("forecast", "champion").manifest == b"m2"
    assert registry.history("forecast") == [
        AliasChange("champion", 1, "gateway", 1.0, "first"),
        AliasChange("challenger", 2, "gateway", 2.0, "drift"),
        AliasChange("champion", 2, "owner", 3.0, "beats it"),
    ]


def test_point__back_to_an_older_version__is_a_new_line(registry):
    for number in (1, 2):
        registry.register("forecast", b"m%d" % number, b"a", at=number)
    for version in (1, 2, 1):
        registry.point("forecast", "champion", version, who="gateway", at=1.0, why="")
    assert registry.resolve("forecast", "champion") == 1
    assert len(registry.history("forecast")) == 3


def test_point__version_or_alias_unknown__changes_nothing(registry):
    registry.register("forecast", b"m1", b"a1", at=1.0)
    with pytest.raises(RegistryError):
        registry.point("forecast", "champion", 2, who="x", at=1.0, why="")
    with pytest.raises(RegistryError):
        registry.point("forecast", "favourite", 1, who="x", at=1.0, why="")
    assert registry.history("forecast") == []


def test_get__object_damaged_on_disk__is_noticed(registry, tmp_path):
    registry.register("forecast", b"m1", b"a1", at=1.0)
    for file in (tmp_path / "objects").rglob("*"):
        if file.is_file():
            file.write_bytes(b"mud")
    with pytest.raises(ObjectCorrupt):
        registry.get("forecast", 1)


def test_open__again__remembers(registry, database, tmp_path):
    registry.register("forecast", b"m1", b"a1", at=1.0)
    assert Registry(database, ObjectStore(tmp_path / "objects")).get("forecast", 1).artifact == b"a1"
