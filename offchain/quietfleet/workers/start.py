"""Puts a worker together: the runtime, and the agent its kind names."""

from __future__ import annotations

from quietfleet.clock import Clock
from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import load_keystore
from quietfleet.settings import Settings
from quietfleet.workers._runtime import Agent, Runtime


def make_worker(kind: str, settings: Settings, identity: PrivateKey, clock: Clock, passphrase: str) -> Runtime:
    """Build a worker of `kind`; each kind loads only the libraries it needs."""
    runtime = Runtime(settings, identity, clock, passphrase)
    runtime.agent = make_agent(kind, runtime, passphrase)
    return runtime


def make_agent(kind: str, runtime: Runtime, passphrase: str) -> Agent:
    """Build the agent of `kind` on a runtime."""
    if kind == "oracle":
        from quietfleet.workers.oracle import Oracle  # noqa: PLC0415

        name = runtime.settings.oracle.rotator
        return Oracle(runtime, load_keystore(runtime.settings.path(name), passphrase) if name else None)
    if kind == "gateway":
        from quietfleet.workers.gateway import Gateway  # noqa: PLC0415

        publisher = load_keystore(runtime.settings.path(runtime.settings.gateway.publisher), passphrase)
        return Gateway(runtime, publisher)
    if kind == "processor":
        from quietfleet.workers.processor import Processor  # noqa: PLC0415

        return Processor(runtime)
    from quietfleet.workers.sensor import Sensor  # noqa: PLC0415

    return Sensor(runtime)
