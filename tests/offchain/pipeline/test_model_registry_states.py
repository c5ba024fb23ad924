"""The model registry against a plain model: registered, promoted, archived, rolled back, killed and opened again."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from quietfleet.errors import RegistryError
from quietfleet.pipeline.registry import PRODUCTION, Registry, Stage
from quietfleet.pipeline.registry_check import check, orphans
from quietfleet.storage import AuditLog, Database, ObjectStore

KEY = bytes(32)
NAMES = st.sampled_from(["forecast", "sensor"])
NUMBERS = st.integers(1, 4)
ALIASES = st.sampled_from(["champion", "challenger", "best"])
PEOPLE = st.sampled_from(["anna", "ben", ""])


class Killed(Exception):
    """The process is gone in the middle of a step."""


class RegistryMachine(RuleBasedStateMachine):
    models = Bundle("models")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.bodies, self.versions, self.stages, self.aliases, self.moves = 0, {}, {}, {}, 0
        self._open()

    @rule()
    def open_again(self):
        """The process begins anew: what it knew by heart is gone."""
        self.database.close()
        self._open()

    def _open(self):
        self.database = Database(self.folder / "gateway.db")
        self.audit = AuditLog(self.database)
        objects = ObjectStore(self.folder / "objects")
        self.registry = Registry(self.database, objects, record=self.audit.append, key=KEY)

    @rule(name=NAMES, personal=st.booleans(), target=models)
    def register(self, name, personal):
        self.bodies += 1
        manifest, artifacts = b"m%d" % self.bodies, {"default": b"a%d" % (self.bodies % 3)}
        if personal:
            artifacts["leaf"] = b"own"
        number = self.registry.register(name, manifest, artifacts, at=1.0)
        assert number == sum(1 for one, _ in self.versions if one == name) + 1
        self.versions[name, number] = manifest, artifacts
        return name, number, manifest, artifacts

    @rule(model=models)
    def register_again(self, model):
        name, number, manifest, artifacts = model
        assert self.registry.register(name, manifest, artifacts, at=2.0) == number
        if self.stages.get((name, number)) is Stage.PRUNED:
            self.stages[name, number] = Stage.ARCHIVED
            self.moves += 1

    @rule(name=NAMES, promoted=st.booleans())
    def killed_while_registering(self, name, promoted):
        """A kill takes the step around it along; its objects may stay until they are collected."""
        with suppress(Killed), self.database.transaction():
            number = self.registry.register(name, b"lost", b"lost", at=1.0)
            if promoted:
                self.registry.promote(name, number, Stage.STAGING, who="anna", at=1.0, why="x")
            raise Killed
        self.open_again()

    @rule(name=NAMES, number=NUMBERS, alias=ALIASES, remove=st.booleans())
    def point(self, name, number, alias, remove):
        number = None if remove else number
        known = (name, alias) in self.aliases if remove else self._whole(name, number)
        self._tried(known, lambda: self.registry.point(name, alias, number, who="anna", at=1.0, why="x"), 1)
        if known and remove:
            del self.aliases[name, alias]
        elif known:
            self.aliases[name, alias] = number

    @rule(name=NAMES, number=NUMBERS, stage=st.sampled_from([Stage.STAGING, Stage.PRODUCTION]), approved=PEOPLE)
    def promote(self, name, number, stage, approved):
        production, before = stage is Stage.PRODUCTION, self.aliases.get((name, PRODUCTION))
        fine = self._whole(name, number) and self.stages.get((name, number)) != stage
        fine = fine and (approved == "ben" or not production)
        said = {"who": "anna", "at": 1.0, "why": "x", "approved_by": approved}
        lines = 2 + (before is not None) if production else 1 + (before == number)
        self._tried(fine, lambda: self.registry.promote(name, number, stage, **said), lines)
        if not fine:
            return
        if production:
            if before is not None:
                self.stages[name, before] = Stage.ARCHIVED
            self.aliases[name, PRODUCTION] = number
        elif before == number:
            del self.aliases[name, PRODUCTION]
        self.stages[name, number] = stage

    @rule(name=NAMES, number=NUMBERS)
    def archive(self, name, number):
        used = number in {self.aliases.get((name, "champion")), self.aliases.get((name, PRODUCTION))}
        fine = self._whole(name, number) and not used and self.stages.get((name, number)) != Stage.ARCHIVED
        self._tried(fine, lambda: self.registry.archive(name, number, who="anna", at=1.0, why="x"), 1)
        if fine:
            self.stages[name, number] = Stage.ARCHIVED

    @rule(name=NAMES, number=NUMBERS)
    def withdraw(self, name, number):
        fine = (name, number) in self.versions
        meant = [key for key, one in self.aliases.items() if key[0] == name and one == number]
        lines = len(meant) + (self.stages.get((name, number)) not in {Stage.ARCHIVED, Stage.PRUNED})
        self._tried(fine, lambda: self.registry.withdraw(name, number, who="gateway", at=1.0, why="x"), lines)
        if fine and self.stages.get((name, number)) is not Stage.PRUNED:
            self.stages[name, number] = Stage.ARCHIVED
            for key in meant:
                del self.aliases[key]

    @rule(name=NAMES, number=NUMBERS)
    def prune(self, name, number):
        meant = any(key[0] == name and one == number for key, one in self.aliases.items())
        used = self.stages.get((name, number)) in {Stage.STAGING, Stage.PRODUCTION}
        fine = self._whole(name, number) and not meant and not used
        self._tried(fine, lambda: self.registry.prune(name, number, who="anna", at=1.0, why="x"), 1)
        if fine:
            self.stages[name, number] = Stage.PRUNED

    @rule()
    def collect(self):
        self.registry.collect()
        assert orphans(self.registry) == []

    def _tried(self, fine, move, lines):
        try:
            move()
        except RegistryError:
            assert not fine
        else:
            assert fine
            self.moves += lines

    @invariant()
    def all_is_as_the_model_has_it(self):
        found = {(one.name, one.version): one for one in self.registry.versions()}
        assert found.keys() == self.versions.keys()
        for key, one in found.items():
            if self._whole(*key):
                kept = self.registry.get(*key)
                assert (kept.manifest, dict(kept.artifacts)) == self.versions[key]
            assert one.stage is self.stages.get(key, Stage.NONE)
        aliases = {(name, alias): number for name in ("forecast", "sensor") for alias, number in self._meant(name)}
        assert aliases == self.aliases
        assert len(self.registry.history()) == self.moves

    @invariant()
    def what_is_in_production_is_what_the_alias_means(self):
        staged = {key for key, stage in self.stages.items() if stage is Stage.PRODUCTION}
        assert staged == {(name, number) for (name, alias), number in self.aliases.items() if alias == PRODUCTION}

    @invariant()
    def the_audit_log_has_it_all(self):
        self.audit.verify()
        assert check(self.registry, self.audit) == []

    def _whole(self, name, number):
        return (name, number) in self.versions and self.stages.get((name, number)) is not Stage.PRUNED

    def _meant(self, name):
        return self.registry.aliases(name).items()

    def teardown(self):
        self.database.close()
        shutil.rmtree(self.folder)


RegistryMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, derandomize=True, database=None
)
test_registry__any_moves_and_kills__as_the_model_has_it = RegistryMachine.TestCase
