"""How often an account may be made to pay: bounded for everybody, and tighter for any one who causes it."""

from __future__ import annotations

from typing import Final

import msgspec

HOUR: Final = 3600.0

Spent = list[tuple[float, str]]  # when (Unix seconds), and the owner who caused it


class Budget(msgspec.Struct, frozen=True):
    """How often: no sooner than `every` seconds after the last, `most` an hour, a quarter of those for one owner.

    So an owner that switches a device off and on again cannot use up the account, nor the hour of all the others.
    """

    every: float
    most: int

    @property
    def share(self) -> int:
        """How many rotations of an hour one owner may cause."""
        return max(1, self.most // 4)

    def earliest(self, spent: Spent, owner: str | None, now: float) -> float:
        """When the next one may be made at the earliest, for an owner or for whoever waits already."""
        mine = [at for at, who in spent if owner is None or who == owner]
        most = self.most if owner is None else self.share
        full = mine[-most] + HOUR if len(mine) >= most else now
        return max(full, spent[-1][0] + self.every) if spent else full

    def kept(self, spent: Spent, now: float) -> Spent:
        """Return what still counts; what lies ahead is dropped too, for the clock was put back."""
        return [one for one in spent if now - HOUR < one[0] <= now]
