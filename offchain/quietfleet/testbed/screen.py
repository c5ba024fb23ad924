"""What a demonstration shows: its steps, the fleet, and what just happened; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

FEED = 12
MARKS = {"waiting": ("·", "dim"), "done": ("✓", "green"), "failed": ("✗", "red")}


class Screen:
    """A live view of steps, workers and events."""

    def __init__(self, console: Console, steps: list[str]) -> None:
        self._console = console
        self._steps = dict.fromkeys(steps, "waiting")
        self._feed: deque[Text] = deque(maxlen=FEED)
        self._workers: list[dict[str, Any]] = []
        self._begun = time.monotonic()
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()

    def step(self, name: str, state: str) -> None:
        """Mark a step as running, done or failed."""
        self._steps[name] = state
        if not self._console.is_terminal:
            self._console.print(f"{self._elapsed()} {name}: {state}")
        self.draw()

    def tell(self, who: str, what: str) -> None:
        """Show one event."""
        line = Text.assemble((self._elapsed(), "dim"), " ", (f"{who:<12}", "cyan"), " ", what)
        self._feed.append(line)
        if not self._console.is_terminal:
            self._console.print(line)

    def show(self, workers: list[dict[str, Any]]) -> None:
        """Show the fleet's present state."""
        self._workers = workers
        self.draw()

    def draw(self) -> None:
        """Redraw a terminal."""
        if self._console.is_terminal:
            self._live.update(self.picture(), refresh=True)

    def picture(self) -> Group:
        """What a terminal shows at this moment."""
        feed = Panel(Group(*self._feed), title="what happens", title_align="left", border_style="dim")
        return Group(self._step_lines(), self._fleet(), feed)

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._begun:6.1f} s"

    def _step_lines(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        for name, state in self._steps.items():
            mark, style = MARKS.get(state, ("", "bold"))
            grid.add_row(Spinner("dots") if state == "running" else Text(mark, style), Text(name, style))
        return grid

    def _fleet(self) -> Table:
        table = Table("worker", "links", "block", "configuration", "sessions", "model", "state", border_style="dim")
        for worker in self._workers:
            table.add_row(
                *(
                    str(worker.get(column, ""))
                    for column in ("name", "links", "block", "configuration", "sessions", "model", "state")
                )
            )
        return table
