from __future__ import annotations

import asyncio
import json
import stat

from worker_world import MAX_AGE, hours

from quietfleet.chain.deployment import save_deployment
from quietfleet.chain.types import Configuration, Kind
from quietfleet.clock import SystemClock
from quietfleet.crypto import PrivateKey
from quietfleet.settings import ChainSection, Settings, WorkerSection
from quietfleet.storage import AuditLog
from quietfleet.testbed.anvil import Anvil
from quietfleet.testbed.contracts import compile_contracts, deploy
from quietfleet.workers._host import rules_of
from quietfleet.workers._state import State
from quietfleet.workers.relay import Relay


def fails(*_args):
    raise ZeroDivisionError


async def test_guarded__handler_fails__all_it_did_is_undone_and_counted(sensor):
    before = AuditLog(sensor.runtime.database).head()

    def step():
        sensor.runtime.note("half", done=True)
        sensor.agent._state.set("half", 1)
        fails()

    await sensor.runtime.guarded(step)
    assert sensor.metric("steps_failed") == 1
    assert AuditLog(sensor.runtime.database).head() == before
    assert State(sensor.runtime.database).get("half") is None


async def test_guarded__handler_fails__session_goes_on_with_the_keys_on_disk(fleet, sensor, processor, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr(processor.agent, "on_event", fails)
        sensor.measure(hours(3, 0.0))
        await fleet.pass_time(3)
        assert processor.metric("steps_failed") > 0
        assert processor.journal("readings") == []
    await fleet.pass_time(24)
    assert [entry["rows"] for entry in sensor.journal("recommendation")] == [3]
    assert len(sensor.journal("session-open")) == 1


async def test_guarded__beat_fails_after_a_question_was_put__it_is_put_again(fleet, sensor, monkeypatch):
    send = sensor.agent._send

    def put_and_fail(*arguments):
        send(*arguments)
        fails()

    with monkeypatch.context() as broken:
        broken.setattr(sensor.agent, "_send", put_and_fail)
        sensor.measure(hours(3, 0.0))
        await sensor.beat()
        assert sensor.metric("steps_failed") == 1
    await fleet.pass_time(4)
    assert sum(entry["rows"] for entry in sensor.journal("recommendation")) == 3


async def test_guarded__beat_fails_as_the_epoch_key_is_asked_for__asked_again(fleet, monkeypatch):
    late = await fleet.add("late", Kind.PROCESSOR)
    with monkeypatch.context() as broken:
        broken.setattr(late.runtime.messenger, "request", fails)
        await fleet.until(lambda: late.metric("steps_failed") > 0)
    assert not late.runtime.membership.complete
    await fleet.until(lambda: late.runtime.membership.complete, within=8)


async def test_registry__newest_block_too_old__says_no_to_everything(fleet, sensor, processor):
    registry = processor.runtime.registry
    assert registry.usable(sensor.id)
    assert registry.can_cooperate(sensor.id, processor.id)
    assert registry.speaks_for(sensor.id, sensor.id)
    assert not registry.speaks_for(sensor.id, processor.id)
    fleet.clock.advance(MAX_AGE + 1)
    assert registry.stale
    assert not registry.usable(sensor.id)
    assert not registry.can_cooperate(sensor.id, processor.id)
    assert registry.has_key(sensor.id, sensor.id)
    assert not registry.speaks_for(sensor.id, sensor.id)


async def test_stale_chain__nothing_is_sent_and_nothing_is_taken(fleet, sensor, processor):
    fleet.chain_runs = False
    await fleet.pass_time(MAX_AGE + 10, step=5)
    assert sensor.runtime.registry.stale
    assert processor.runtime.registry.stale
    sensor.measure(hours(2, 0.0))
    fleet.wire.clear()
    await fleet.pass_time(10)
    assert {sender.name for sender, _ in fleet.wire} == {"oracle"}, "which announces its public card"
    assert processor.journal("readings") == []
    fleet.chain_runs = True
    await fleet.pass_time(10)
    assert {sender.name for sender, _ in fleet.wire} == {"oracle", "processor", "sensor"}


async def test_stale_chain__one_side_alone__what_still_comes_in_is_ignored_and_counted(fleet, sensor, processor):
    processor.runtime.registry._max_age = -1.0
    sensor.measure(hours(2, 0.0))
    await fleet.pass_time(4)
    assert processor.journal("readings") == []
    assert processor.metric("messages_ignored", reason="not allowed") > 0
    processor.runtime.registry._max_age = MAX_AGE
    await fleet.pass_time(10)
    assert sum(entry["rows"] for entry in sensor.journal("recommendation")) == 2


async def test_stale_chain__call_comes_in__not_answered(world):
    oracle = await world.add("oracle", Kind.ORACLE)
    processor = await world.add("processor", Kind.PROCESSOR)
    await world.rotate()
    oracle.runtime.registry._max_age = -1.0
    await world.pass_time(8)
    assert not processor.in_session_with(oracle)
    assert oracle.runtime.messenger.table.sessions == {}
    oracle.runtime.registry._max_age = MAX_AGE
    await world.until(lambda: processor.runtime.membership.complete)


async def test_switched_off_while_down__session_is_gone_at_the_start(fleet, sensor, processor):
    processor.crash()
    await fleet.switch(sensor, active=False)
    processor.start()
    await fleet.catch_up(processor)
    assert processor.runtime.messenger.table.with_peer(sensor.id) == []
    assert processor.journal("severed")[-1]["peer"] == sensor.id
    processor.restart()
    assert processor.runtime.messenger.table.with_peer(sensor.id) == []


async def test_start__replica_already_says_no__sessions_end_before_anything_is_heard(fleet, sensor, processor):
    state = processor.runtime.replica.worker(sensor.id)
    effects, processor.runtime.on_changes = processor.runtime.on_changes, lambda _changes: None
    await fleet.switch(sensor, active=False)
    processor.runtime.on_changes = effects
    assert processor.runtime.messenger.table.with_peer(sensor.id) != []
    processor.restart()
    assert processor.runtime.messenger.table.with_peer(sensor.id) == []
    assert processor.journal("severed")[-1]["reason"] == "switched off on chain while we were down"
    assert state.usable


async def test_severed_peer__goes_on_sending__ignored_counted_and_unanswered(fleet, sensor, processor):
    sensor.runtime.registry.can_cooperate = lambda *_: True
    sensor.runtime.registry.usable = lambda _: True
    sensor.runtime.on_changes = lambda _changes: None
    await fleet.switch(sensor, active=False)
    sensor.measure(hours(2, 0.0))
    await fleet.pass_time(6)
    assert processor.metric("envelopes_from_severed") > 0
    assert processor.metric("messages_ignored", reason="severed") == processor.metric("envelopes_from_severed")
    assert processor.journal("readings") == []
    assert sensor.journal("recommendation") == []


async def test_status__written__private_and_whole(fleet, processor):
    processor.runtime._write_status(running=True)
    path = processor.runtime.folder / "status.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    status = json.loads(path.read_text())
    assert status["running"] is True
    assert status["id"] == processor.id
    assert {session["purpose"] for session in status["sessions"]} == {"oracle", "deal"}
    assert "deal:" not in path.read_text(), "a deal's id is between its parties"


async def test_database__after_all_that__whole_and_private(fleet, processor):
    assert processor.rows("PRAGMA integrity_check") == [("ok",)]
    assert AuditLog(processor.runtime.database).verify() > 0
    assert stat.S_IMODE((processor.runtime.folder / "worker.db").stat().st_mode) == 0o600


def configuration(version, **values):
    given = {"active_from": 100, "grace": 10, "min_pow": 0.5, "max_ttl": 60, "max_size": 1000, **values}
    return Configuration(
        version, *given.values(), "", "", epoch_key_commitment=b"", oracle_card_digest=b"", gateway_card_digest=b""
    )


def test_rules__no_configuration_yet__the_node_keeps_its_own():
    assert rules_of(None, None) is None


def test_rules__configuration_changes__the_old_one_is_tolerated_through_the_grace():
    rules = rules_of(configuration(2), configuration(1, min_pow=0.1, max_ttl=90, max_size=2000))
    assert (rules.min_pow, rules.max_ttl, rules.max_size) == (0.5, 60, 1000)
    assert (rules.previous.min_pow, rules.previous.max_ttl, rules.previous.max_size) == (0.1, 90, 2000)
    assert rules.previous_until == 110.0


async def test_publish__configuration__envelopes_meet_it(fleet, sensor):
    fleet.wire.clear()
    sensor.measure(hours(2, 0.0))
    await fleet.pass_time(2)
    assert fleet.wire
    for _, envelope in fleet.wire:
        assert 0 < envelope.ttl <= sensor.runtime.settings.network.ttl
        assert envelope.sent <= fleet.clock.now()


async def test_follow__two_endpoints_and_a_bell__reads_the_chain_they_agree_on(request, tmp_path):
    with Anvil() as anvil:
        owner = anvil.keys()[0]
        artifacts = compile_contracts(request.config.cache.mkdir("contracts"))
        place = await deploy(anvil.url, anvil.chain_id, artifacts, owner)
        save_deployment(tmp_path / "deployment.json", place)
        chain = ChainSection("deployment.json", rpc=anvil.url, second=anvil.url, ws=anvil.ws_url, poll=0.1)
        settings = Settings(WorkerSection("relay"), chain, folder=str(tmp_path))
        relay = Relay(settings, PrivateKey.generate(), SystemClock())
        following = asyncio.create_task(relay._follow())
        async with asyncio.timeout(20):
            while relay.replica.head is None:  # noqa: ASYNC110 - the relay is watched from outside
                await asyncio.sleep(0.05)
        following.cancel()
        assert relay.replica.head.number >= place.first_block
        relay.database.close()
