"""A development chain of one's own: starts anvil on a free port, and leaves nothing running behind."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from eth_account import Account
from eth_account.signers.local import LocalAccount

from quietfleet.errors import TestbedError

MNEMONIC: Final = "test test test test test test test test test test test junk"
"""Anvil's own default: its accounts are known to everybody."""

_READY_WITHIN: Final = 60.0
_STOP_WITHIN: Final = 30.0  # one that is killed has not saved its state
_LOOK: Final = 0.02


class Anvil:
    """One anvil process; `block_time` in seconds, None mines a block a transaction; `state` survives a restart.

    With `fork`, another's URL, it goes on from that chain's newest block with blocks of its own.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        chain_id: int = 31337,
        block_time: float | None = None,
        mnemonic: str = MNEMONIC,
        state: Path | None = None,
        accounts: int = 10,
        log: Path | None = None,
        fork: str | None = None,
    ) -> None:
        self.port = port or free_port()
        self.chain_id = chain_id
        self._mnemonic = mnemonic
        self._count = accounts
        self._options = ["--accounts", str(accounts), "--mnemonic", mnemonic]
        self._options += [] if block_time is None else ["--block-time", str(block_time)]
        self._options += [] if state is None else ["--state", str(state)]
        self._options += [] if fork is None else ["--fork-url", fork]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while it was started and not stopped."""
        return self._process.pid if self._process else None

    @property
    def url(self) -> str:
        """Where JSON-RPC is served over HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        """Where JSON-RPC is served over WebSocket."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def keys(self) -> list[bytes]:
        """Return the private keys of the funded accounts."""
        return [key_of(self._mnemonic, index) for index in range(self._count)]

    def start(self) -> Self:
        """Start the process and return when it answers; TestbedError if it does not come up."""
        command = [program("anvil"), "--port", str(self.port), "--chain-id", str(self.chain_id), "--silent"]
        with (self._log or Path(os.devnull)).open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own program and numbers
                [*command, "--hardfork", "prague", *self._options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._await_answer()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the process and whatever it started; with `state`, it saves that first."""
        process, self._process = self._process, None
        if process is None:
            return
        _signal(process, signal.SIGTERM)
        try:
            process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()

    def request(self, method: str, *parameters: Any) -> Any:
        """Make one JSON-RPC request, development methods such as `anvil_reorg` included."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_READY_WITHIN)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise TestbedError(f"{method}: {answer['error']}")
        return answer["result"]

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks."""
        self.request("anvil_mine", hex(blocks))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + _READY_WITHIN
        while time.monotonic() < deadline:
            if not self.running:
                raise TestbedError(f"anvil ended at once; is port {self.port} taken?")
            try:
                if int(self.request("eth_chainId"), 16) == self.chain_id:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(_LOOK)
        raise TestbedError(f"anvil did not answer within {_READY_WITHIN} s")


def free_port() -> int:
    """Return a TCP port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Tell whether nothing listens on a port of the loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def program(name: str) -> str:
    """Find a program beside this Python, else on the path; TestbedError if it is in neither."""
    beside = Path(sys.prefix) / "bin" / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise TestbedError(f"{name} is not installed: run `make setup`")
    return found


def key_of(mnemonic: str, index: int) -> bytes:
    """Return the private key of account `index` of a mnemonic."""
    Account.enable_unaudited_hdwallet_features()
    account: LocalAccount = Account.from_mnemonic(mnemonic, account_path=f"m/44'/60'/0'/0/{index}")
    return bytes(account.key)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
