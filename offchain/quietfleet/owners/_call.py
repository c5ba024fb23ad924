"""A call to a contract, as people and programs are told of it; and how many workers go into one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

_Item = TypeVar("_Item")

MAX_BATCH: Final = 400
"""The most items the contract takes in one call."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was made or rehearsed: `gas` used or estimated, `transaction` only if it was made; value in wei."""

    contract: str
    function: str
    arguments: dict[str, Any]
    sender: str
    at_hand: bool
    value: int
    gas: int | None
    data: str
    transaction: str = ""
    block: int = 0

    def __str__(self) -> str:
        sender = self.sender if self.at_hand else f"{self.sender}, whose account is not at hand"
        lines = [f"{self.function} of {self.contract} by {sender}"]
        lines += [f"    {name} = {value}" for name, value in self.arguments.items()]
        lines += [f"    value {self.value} wei"] * (self.value > 0)
        gas = "gas cannot be estimated yet" if self.gas is None else f"about {self.gas} gas"
        how = f"{self.gas} gas, block {self.block}, {self.transaction}" if self.transaction else gas
        return "\n".join([*lines, f"    {how}"])


def by_owner(items: Iterable[_Item], owner_of: Callable[[_Item], str]) -> dict[str, list[_Item]]:
    """Group by owner, in the order of first sight."""
    groups: dict[str, list[_Item]] = {}
    for item in items:
        groups.setdefault(owner_of(item), []).append(item)
    return groups


def batches(items: Sequence[_Item], most: int = MAX_BATCH) -> Iterator[Sequence[_Item]]:
    """Cut into as many as one call takes."""
    return (items[start : start + most] for start in range(0, len(items), most))
