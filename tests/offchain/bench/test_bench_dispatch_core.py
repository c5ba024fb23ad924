from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))
from bench.dispatch import core


@pytest.mark.parametrize("journalled", [False, True])
def test_figures__a_small_fleet__every_seek_is_matched(journalled: bool) -> None:
    found = core.figures(10, 2, journalled=journalled)
    assert found.workers == 10
    assert found.matches > found.deals > 0


def test_result__any_machine__a_row_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "WORKERS", (4, 8))
    (table,) = core.result(rounds=1)["tables"]
    assert [row[0] for row in table["rows"]] == [4, 8]
    assert {len(row) for row in table["rows"]} == {len(table["columns"])}
