"""Puts a worker together: the runtime, and the agent its kind names."""

from __future__ import annotations

from quietfleet.clock import Clock
from quietfleet.crypto import PrivateKey
from quietfleet.crypto.keystore import load_keystore
from quietfleet.errors import SettingsError
from quietfleet.settings import Settings
from quietfleet.workers._runtime import Agent, Runtime


def make_worker(kind: str, settings: Settings, identity: PrivateKey, clock: Clock, passphrase: str) -> Runtime:
    """Build a worker of `kind`; each kind loads only the libraries it needs."""
    runtime = make_runtime(kind, settings)(settings, identity, clock, passphrase)
    runtime.agent = make_agent(kind, runtime, passphrase)
    return runtime


def make_runtime(kind: str, settings: Settings) -> type[Runtime]:
    """Tell what runtime a worker has: an oracle may be one of several replicas."""
    if kind == "oracle" and settings.oracle.store:
        from quietfleet.workers._replicated import ReplicatedRuntime  # noqa: PLC0415

        return ReplicatedRuntime
    return Runtime


def make_agent(kind: str, runtime: Runtime, passphrase: str) -> Agent:
    """Build the agent of `kind` on a runtime."""
    if kind == "oracle":
        from quietfleet.workers.oracle import Oracle  # noqa: PLC0415

        name = runtime.settings.oracle.rotator
        if runtime.settings.oracle.rotate_on_disable and not name:
            raise SettingsError("[oracle] rotate_on_disable needs rotator: the keystore of an account that may rotate")
        return Oracle(runtime, load_keystore(runtime.settings.path(name), passphrase) if name else None)
    if kind == "gateway":
        if runtime.settings.network.listen:
            raise SettingsError("[network] listen is for relays: a gateway is reached through messages alone")
        from quietfleet.workers.gateway import Gateway  # noqa: PLC0415

        publisher = load_keystore(runtime.settings.path(runtime.settings.gateway.publisher), passphrase)
        return Gateway(runtime, publisher)
    if kind == "processor":
        from quietfleet.workers.processor import Processor  # noqa: PLC0415

        return Processor(runtime)
    from quietfleet.workers.sensor import Sensor  # noqa: PLC0415

    return Sensor(runtime)
