"""Where a process spends its processor time: exclusive thread time of the functions that make up each part.

What is in none of them is the rest: links, the flood, the event loop.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

REST: Final = "links, flood, loop"
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "mining": ("quietfleet.network.mining:Mining._mine",),
    "session": tuple(
        f"quietfleet.session.messenger:Messenger.{name}"
        for name in (
            "receive",
            "next_transmission",
            "tick",
            "announce",
            "wanted",
            "connect",
            "leave",
            "request",
            "notify",
            "reply",
            "sever",
        )
    ),
    "onion": (
        "quietfleet.network.sending:Sending._emit",
        "quietfleet.network.relaying:Relaying._take",
        "quietfleet.network.relaying:Relaying._release",
    ),
    "matching": tuple(f"quietfleet.dispatch:Dispatcher.{name}" for name in ("handle", "tick", "forget")),
    "deal keys": (
        "quietfleet.dispatch:SeekerMachine.receive",
        "quietfleet.dispatch:SeekerMachine.accept",
        "quietfleet.dispatch:SeekerMachine.severed",
        "quietfleet.dispatch:ProviderMachine.receive",
        "quietfleet.dispatch:ProviderMachine.accept",
        "quietfleet.dispatch:ProviderMachine.tick",
    ),
    "store": (
        "quietfleet.storage:Database.execute",
        "quietfleet.storage:Database._keep",
        "quietfleet.storage:AuditLog.append",
        "quietfleet.session:Vault.put",
        "quietfleet.session:Vault.delete",
    ),
}


class Meter:
    """Sums seconds by part, over all threads; a part called within another counts as itself alone.

    `clock` tells the calling thread's processor time.
    """

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._local = threading.local()

    def watch(self) -> None:
        """Wrap every function that has a part."""
        for part, names in PARTS.items():
            for name in names:
                module, _, path = name.partition(":")
                owner, _, function = path.partition(".")
                found = getattr(import_module(module), owner)
                setattr(found, function, self.metered(part, getattr(found, function)))

    def metered(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            stack = self._stack()
            began = self._clock()
            stack.append(0.0)
            try:
                return function(*arguments, **named)
            finally:
                took = self._clock() - began
                self.seconds[part] += took - stack.pop()
                self.calls[part] += 1
                if stack:
                    stack[-1] += took

        return run

    def _stack(self) -> list[float]:
        """Seconds that the metered calls inside each open one took."""
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        found: list[float] = self._local.stack
        return found
