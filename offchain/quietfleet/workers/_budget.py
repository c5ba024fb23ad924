"""How often an account may be made to pay: bounded for everybody, and tighter for any one who causes it.

What was spent is kept among the worker's rows, which its replicas share: whoever leads next goes on with the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from quietfleet.session import Vault

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime

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


class _Paid(msgspec.Struct, frozen=True, array_like=True):
    at: float
    owner: str


class Purse:
    """What was spent of a budget: once for each version, however often it was tried."""

    def __init__(self, runtime: Runtime, budget: Budget) -> None:
        self.budget = budget
        self._vault = Vault(runtime.rows, "oracle_spent", runtime.identity.to_bytes(), runtime.random, contended=True)

    def spent(self, now: float) -> Spent:
        """Return what still counts, in its order."""
        return self.budget.kept(sorted((paid.at, paid.owner) for _, paid in self._vault.all(_Paid)), now)

    def earliest(self, owner: str | None, now: float) -> float:
        """When the next one may be made, as `Budget.earliest`."""
        return self.budget.earliest(self.spent(now), owner, now)

    def paid(self, version: int) -> bool:
        """Whether a version is paid for already."""
        return self._vault.get(_id(version), _Paid) is not None

    def pay(self, version: int, owner: str, now: float) -> None:
        """Note who caused a version, before anything is sent for it; and forget what does not count any more."""
        if self.paid(version):
            return
        counting = set(self.spent(now))
        for row_id, paid in list(self._vault.all(_Paid)):
            if (paid.at, paid.owner) not in counting:
                self._vault.delete(row_id)
        self._vault.put(_id(version), _Paid(now, owner))


def _id(version: int) -> bytes:
    return version.to_bytes(8, "big")
