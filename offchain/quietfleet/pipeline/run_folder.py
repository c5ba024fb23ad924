"""What a run of the pipeline keeps, so that it can be stopped anywhere and go on: each fit's score, then the model.

Files are written beside their place and moved there whole, so that a full disk leaves what was there before.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from quietfleet.errors import DataRejected, ProjectError
from quietfleet.pipeline.archive import pack_model
from quietfleet.pipeline.choices import Personal
from quietfleet.pipeline.ingest import Dataset
from quietfleet.pipeline.lineage import SaltKeeper, Trace, trace
from quietfleet.pipeline.names import holds_more
from quietfleet.pipeline.package import canonical
from quietfleet.pipeline.project import Project
from quietfleet.pipeline.report import Report, render
from quietfleet.pipeline.run import Candidate
from quietfleet.pipeline.train import Memory
from quietfleet.storage import fault_of

_RUN: Final = "run.json"
_TRACE: Final = "trace.json"
_FITS: Final = "fits"
_PARTS: Final = "parts"
_MODEL: Final = "model"
_FINDINGS: Final = "evaluation.json"
_ARCHIVE: Final = "model.skops"
_PAGE: Final = "report.html"
_PERSONAL: Final = "personal"


def run_id(project: Project, dataset: Dataset, seed: int) -> str:
    """Name a run by all that decides its outcome: the project's code, the data, and the seed."""
    return hashlib.sha256(canonical([project.code, dataset.id, seed])).hexdigest()


class RunFolder(Memory):
    """One run's folder; another run's scores are never taken for this one's."""

    def __init__(
        self,
        path: Path,
        project: Project,
        dataset: Dataset,
        seed: int,
        *,
        random: Callable[[int], bytes],
        keeper: SaltKeeper | None = None,
    ) -> None:
        self.path = path
        self.id = run_id(project, dataset, seed)
        before = _read(path / _RUN)
        if holds_more(path) and before is None:
            raise ProjectError(f"{path} holds something else than a run: name another folder")
        if before is None or before.get("run") != self.id:
            self.clear()
            plain = {"run": self.id, "project": project.name, "code": project.code, "dataset": dataset.id, "seed": seed}
            _write(path / _TRACE, canonical(trace(dataset, random, keeper).to_plain()))
            _write(path / _RUN, canonical({**plain, "lineage": dict(dataset.lineage)}))

    @property
    def finished(self) -> Path | None:
        """The folder with the model, once there is one."""
        return self.path / _MODEL if (self.path / _MODEL).is_dir() else None

    def clear(self) -> None:
        """Forget all of it."""
        for name in (_MODEL, f".{_MODEL}", _FITS, _PARTS):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def recall(self, candidate: Mapping[str, Any], fold: int) -> float | None:
        kept = _read(self.path / _FITS / _name(candidate, fold))
        rmse = kept.get("rmse") if kept and kept.get("run") == self.id else None
        return float(rmse) if isinstance(rmse, int | float) else None

    def keep(self, candidate: Mapping[str, Any], fold: int, rmse: float) -> None:
        _write(self.path / _FITS / _name(candidate, fold), json.dumps({"run": self.id, "rmse": rmse}).encode())

    def recall_part(self, name: str) -> bytes | None:
        try:
            sealed, kept = (self.path / _PARTS / name).read_bytes().split(b"\n", 1)
        except (OSError, ValueError):
            return None
        return kept if sealed == self._mark(kept) else None

    def keep_part(self, name: str, found: bytes) -> None:
        _write(self.path / _PARTS / name, self._mark(found) + b"\n" + found)

    def _mark(self, part: bytes) -> bytes:
        """Of this very run, and whole."""
        return hashlib.sha256(self.id.encode() + part).hexdigest().encode()

    def finish(self, candidate: Candidate) -> Path:
        """Write the model, its manifest and its report, all or nothing."""
        shutil.rmtree(self.path / f".{_MODEL}", ignore_errors=True)
        shutil.rmtree(self.path / _MODEL, ignore_errors=True)
        report = {**candidate.report, "run": self.id}
        for name, data in (
            ("model.onnx", candidate.artifact),
            ("manifest.json", candidate.manifest),
            ("report.json", canonical(report)),
            (_FINDINGS, canonical(candidate.findings.to_plain())),
            (_PAGE, render(candidate.findings).encode()),
        ):
            _write(self.path / f".{_MODEL}" / name, data)
        archive = pack_model(candidate.model)
        if archive is not None:
            _write(self.path / f".{_MODEL}" / _ARCHIVE, archive)
        if candidate.personal is not None:
            _write_personal(self.path / f".{_MODEL}", candidate.personal)
        (self.path / f".{_MODEL}").rename(self.path / _MODEL)
        return self.path / _MODEL


def read_trace(path: Path) -> Trace:
    """Read a run's trace; `DataRejected` when there is none."""
    plain = _read(path / _TRACE)
    if plain is None:
        raise DataRejected(f"{path} holds no run whose rows could be found again")
    return Trace.from_plain(plain)


def write_page(path: Path) -> Path:
    """Make a finished run's page again from its JSON; `DataRejected` when there is none."""
    try:
        data = (path / _MODEL / _FINDINGS).read_bytes()
    except OSError as error:
        raise DataRejected(f"{path} holds no finished run to report on") from error
    page = path / _MODEL / _PAGE
    _write(page, render(Report.from_json(data)).encode())
    return page


def _write_personal(folder: Path, personal: Personal) -> None:
    """Write every device's choice, and each model of a device's own once, by its hash."""
    files = {device: hashlib.sha256(artifact).hexdigest() for device, artifact in personal.models.items()}
    for name, artifact in {files[device]: artifact for device, artifact in personal.models.items()}.items():
        _write(folder / _PERSONAL / f"{name}.onnx", artifact)
    _write(folder / f"{_PERSONAL}.json", canonical({**personal.to_plain(), "models": files}))


def _write(path: Path, data: bytes) -> None:
    made = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with made.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    except OSError as error:
        made.unlink(missing_ok=True)
        raise (fault_of(error) or error) from error


def _name(candidate: Mapping[str, Any], fold: int) -> str:
    return f"{hashlib.sha256(repr(sorted(candidate.items())).encode()).hexdigest()[:24]}-{fold}.json"


def _read(path: Path) -> dict[str, Any] | None:
    """Return what a file says; None when there is none or it was cut off."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
