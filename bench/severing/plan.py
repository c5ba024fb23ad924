"""What the processes of one measurement have in common: who there is, under which keys, and where the chain is."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.settings import ChainSection, NetworkSection, Settings, WorkerSection

PLAN: Final = "plan.json"

Role = Literal["worker", "device"]


class Plan(msgspec.Struct, frozen=True):
    """One world; `salt` is drawn for it and makes all its keys. A `deaf` worker is a control that severs nobody."""

    folder: str
    rpc: str
    ws: str
    salt: bytes
    workers: int
    devices: int
    deaf: bool = False

    @property
    def epoch_key(self) -> bytes:
        return keccak256(self.salt + b"epoch")

    def key(self, role: Role, number: int) -> PrivateKey:
        return PrivateKey.from_bytes(keccak256(self.salt + f"{role} {number}".encode()))

    def worker_of(self, device: int) -> int:
        """The worker a device is with."""
        return device % self.workers

    def settings(self, number: int) -> Settings:
        """The settings of one worker."""
        chain = ChainSection("deployment.json", rpc=self.rpc, ws=self.ws, max_age=600.0)
        name = f"processor-{number}"
        return Settings(WorkerSection(name, state=name), chain, NetworkSection(stem="off"), folder=self.folder)

    def save(self) -> None:
        (Path(self.folder) / PLAN).write_bytes(msgspec.json.encode(self))

    @classmethod
    def load(cls, folder: str) -> Plan:
        return msgspec.json.decode((Path(folder) / PLAN).read_bytes(), type=cls)
