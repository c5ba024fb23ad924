"""Models in a process of their own: what they answer, and what they can do to the worker that runs them."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from onnx import TensorProto, helper

from quietfleet.errors import ModelFailed, ModelRejected, NoForecast
from quietfleet.pipeline import inference
from quietfleet.pipeline._forecaster_process import Line, Process
from quietfleet.pipeline.forecaster_wire import HEADER, Done, Load, Run
from quietfleet.pipeline.inference import Apart, Inline
from quietfleet.pipeline.linear_onnx import LinearTemplate

WIDTH = 3
MEMORY = 128 << 20
HOLE = """
import os, socket, sys
from quietfleet.pipeline import sessions
sessions.guard = lambda artifact: None
{more}
from quietfleet.pipeline.forecaster import main
main(*map(int, sys.argv[1:]))
"""
"""The program of the models' process with a hole in the guard, and perhaps with what came through it."""
HOLED = HOLE.format(more="")
CODE = HOLE.format(
    more="""
def reach(self, rows, device):
    reached = 0
    for attempt in (lambda: open("/etc/passwd"), lambda: socket.socket(), lambda: os.pipe(), lambda: os.listdir("/")):
        try:
            attempt()
            reached += 1
        except OSError:
            pass
    keys = "QUIETFLEET_PASSPHRASE" in os.environ
    return sessions.np.array([reached, keys, os.getcwd() != "/"], dtype="f4")[: len(rows)]
sessions.Sessions.run = reach
"""
)


def linear(slope, width=WIDTH):
    return LinearTemplate(width).fill(np.zeros(width), np.ones(width), np.full(width, slope), 0.0)


def graph(*nodes, initializers=()):
    """A model that no guard has seen: `x` [N, 3] in, `y` out."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    made = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], list(initializers)), opset_imports=[helper.make_opsetid("", 17)]
    )
    made.ir_version = 8
    return made.SerializeToString()


def number(name, value):
    return helper.make_tensor(name, TensorProto.INT64, [len(value)] if isinstance(value, list) else [], np.ravel(value))


def counted():
    """Nodes that make `n` [1] of the first number of the first row."""
    return (
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["count"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["count", "one"], ["n"]),
    )


def greedy():
    """It takes as many floats as its largest input says."""
    return graph(
        *counted(),
        helper.make_node("ConstantOfShape", ["n"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("Add", ["sum", "top"], ["y"]),
        initializers=[number("one", [1])],
    )


def endless():
    """It goes round as often as its largest input says."""
    inside = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["goes"]), helper.make_node("Cos", ["before"], ["after"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("goes", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, []),
        ],
    )
    return graph(
        *counted(),
        helper.make_node("Squeeze", ["n"], ["times"]),
        helper.make_node("Loop", ["times", "yes", "top"], ["y"], body=inside),
        initializers=[number("one", [1]), helper.make_tensor("yes", TensorProto.BOOL, [], [True])],
    )


@pytest.fixture
def apart():
    home = Apart(MEMORY, pause=lambda: 0.0)
    yield home
    home.close()


@contextmanager
def holed(program=HOLED, **limits):
    home = Apart(MEMORY, pause=lambda: 0.0, program=("-c", program), **limits)
    try:
        yield home
    finally:
        home.close()


def rows(*values):
    return np.full((len(values), WIDTH), [[value] for value in values], dtype=np.float32)


def revived(home):
    """Wait until the process is up with all of its models again."""
    while home.state() != "up":
        home.tick()
        home._revival.join()
    return home


def gone(pid, within=10.0):
    """Wait for the end of a process that is nobody's child here."""
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([file], [], [], within)[0])
    finally:
        os.close(file)


def test_run__a_model_and_those_of_devices__say_the_same_as_in_this_process(apart):
    asked = np.random.default_rng(1).normal(size=(50, WIDTH)).astype(np.float32)
    there = apart.open(linear(1.0), {"a": linear(2.0)}, WIDTH)
    here = Inline().open(linear(1.0), {"a": linear(2.0)}, WIDTH)
    assert there.personal == here.personal == {"a"}
    for device in (None, "a", "b"):
        assert np.array_equal(there.run(asked, device), here.run(asked, device))
        assert np.array_equal(there.run(asked[::-1][:1], device), here.run(asked[::-1][:1], device))


def test_process__nothing_to_run__is_not_started(apart):
    assert (apart.pid, apart.state(), apart.tick()) == (None, "idle", [])


@pytest.mark.parametrize("artifact", [b"", b"\x08", greedy(), linear(1.0, WIDTH + 1)], ids=len)
def test_open__what_the_guard_or_the_runtime_refuses__leaves_the_others_running(apart, artifact):
    good = apart.open(linear(1.0), {}, WIDTH)
    before = apart.pid
    with pytest.raises(ModelRejected):
        apart.open(artifact, {}, WIDTH)
    assert good.run(rows(2.0), None) == [6.0]
    assert (apart.pid, apart.tick()) == (before, [])


def test_keep__a_model_that_is_not_named__is_forgotten_there_too(apart):
    first, second = (apart.open(linear(slope), {}, WIDTH) for slope in (1.0, 2.0))
    apart.keep([second])
    with pytest.raises(NoForecast):
        first.run(rows(1.0), None)
    assert second.run(rows(1.0), None) == [6.0]
    apart.keep([first, second])
    assert first.run(rows(1.0), None) if revived(apart) else None


def test_run__the_process_was_killed__finds_no_forecast_and_blames_no_model__then_it_is_up_again(apart):
    model = apart.open(linear(1.0), {}, WIDTH)
    os.kill(apart.pid, signal.SIGKILL)
    os.waitid(os.P_PID, apart.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(NoForecast) as caught:
        model.run(rows(1.0), None)
    assert not isinstance(caught.value, ModelFailed)
    assert apart.tick() == ["died"]
    assert revived(apart).tick() == []
    assert model.run(rows(1.0), None) == [3.0]


def test_restore__models_of_before__are_up_soon__and_what_is_none_is_said(apart):
    good, bad = apart.restore(linear(1.0), {}, WIDTH), apart.restore(b"\x08", {}, WIDTH)
    revived(apart)
    assert good.run(rows(1.0), None) == [3.0]
    assert (apart.refused(good), apart.refused(bad)) == ("", bad.refused)
    assert bad.refused


def test_attack__a_model_that_asks_for_gigabytes__gets_no_memory_and_fails_alone():
    with holed() as home:
        good, bad = home.open(linear(1.0), {}, WIDTH), home.open(greedy(), {}, WIDTH)
        assert bad.run(rows(4.0), None) == [4.0]
        with pytest.raises(ModelFailed):
            bad.run(rows(2.0**32), None)
        assert good.run(rows(1.0), None) == [3.0]


def test_attack__a_model_that_never_ends__is_killed_and_the_others_come_back():
    with holed(run_within=0.2) as home:
        good, bad = home.open(linear(1.0), {}, WIDTH), home.open(endless(), {}, WIDTH)
        with pytest.raises(ModelFailed):
            bad.run(rows(2.0**60), None)
        with pytest.raises(NoForecast):
            good.run(rows(1.0), None)
        assert home.tick() == ["took too long to forecast"]
        home.keep([good])
        assert revived(home).pid
        assert good.run(rows(1.0), None) == [3.0]


def test_attack__a_model_that_works_on_and_on__is_ended_well_before_the_time_of_a_busy_machine():
    with holed(run_within=3600.0) as home:
        bad = home.open(endless(), {}, WIDTH)
        with pytest.raises(ModelFailed):
            bad.run(rows(2.0**60), None)
        assert home.tick() == ["took too long to forecast"]


def test_run__a_process_that_gets_no_turn__is_waited_for(apart):
    model = apart.open(linear(1.0), {}, WIDTH)
    os.kill(apart.pid, signal.SIGSTOP)
    waking = threading.Timer(3 * inference.RUN_BRIEFLY, os.kill, (apart.pid, signal.SIGCONT))
    waking.start()
    assert model.run(rows(1.0), None) == [3.0]
    waking.join()


OWN = {"a": linear(2.0), "b": linear(5.0)}
DEVICES = st.sampled_from([None, "a", "b", "nobody's"])
ASKED = st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), DEVICES), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def shared():
    """One process for many examples, and its model."""
    home = Apart(MEMORY, pause=lambda: 0.0)
    yield home.open(linear(1.0), OWN, WIDTH)
    home.close()


@pytest.mark.parametrize("where", ["apart", "inline"])
@given(asked=ASKED)
@settings(max_examples=60, deadline=None)
def test_run_each__any_devices_together__what_each_is_said_alone(shared, where, asked):
    model = shared if where == "apart" else Inline().open(linear(1.0), OWN, WIDTH)
    values, failed = model.run_each(rows(*(value for value, _ in asked)), [device for _, device in asked])
    alone = [model.run(rows(value), device)[0] for value, device in asked]
    assert list(failed) == []
    assert np.allclose(values, alone, rtol=1e-6)


def test_run_each__one_row_that_takes_too_much__fails_alone():
    with holed() as home:
        model = home.open(greedy(), {"a": linear(1.0)}, WIDTH)
        values, failed = model.run_each(rows(4.0, 1.0), [None, "a"])
        assert (list(values), failed) == ([4.0, 3.0], [])
        values, failed = model.run_each(rows(2.0**32, 1.0), [None, "a"])
        assert (values[1], failed) == (3.0, [0])


def test_run_each__the_process_dies_of_it__nobody_is_answered_and_it_comes_back():
    with holed(run_within=0.2) as home:
        model = home.open(linear(1.0), {"a": endless()}, WIDTH)
        with pytest.raises(ModelFailed):
            model.run_each(rows(1.0, 2.0**60), ["b", "a"])
        with pytest.raises(NoForecast):
            model.run_each(rows(1.0, 1.0), ["b", "c"])
        assert home.tick() == ["took too long to forecast"]
        revived(home)
        assert list(model.run_each(rows(1.0, 2.0), ["b", "c"])[0]) == [3.0, 6.0]


def test_attack__an_answer_that_names_rows_nobody_asked_for__is_none():
    lying = HOLE.format(more="sessions.Sessions.run_each = lambda self, rows, devices: (rows[:, 0], [len(rows)])")
    with holed(lying) as home:
        model = home.open(linear(1.0), {}, WIDTH)
        with pytest.raises(ModelFailed):
            model.run_each(rows(1.0, 2.0), ["a", "b"])


def test_attack__a_model_that_is_endless_to_load__is_killed_and_refused():
    stuck = HOLE.format(more="sessions.open_session = lambda artifact, width: sum(0 for _ in iter(int, 1))")
    with holed(stuck, load_within=0.2) as home:
        with pytest.raises(ModelRejected, match="too long"):
            home.open(linear(1.0), {}, WIDTH)
        assert home.tick() == ["took too long to load a model"]


def test_run__while_another_model_is_checked__is_answered():
    second = """
opened = []
def open_session(artifact, width, before=sessions.open_session):
    opened.append(artifact)
    return before(artifact, width) if len(opened) == 1 else sum(0 for _ in iter(int, 1))
sessions.open_session = open_session
"""
    with holed(HOLE.format(more=second), load_within=1.0) as home:
        good = home.open(linear(1.0), {}, WIDTH)
        refused = []
        checked = threading.Thread(target=lambda: refused.append(refusal(home, linear(2.0))))
        checked.start()
        while not home._loading.locked():
            pass
        assert good.run(rows(1.0), None) == [3.0]
        assert refused == []
        checked.join()
        assert "too long" in refused[0]


def refusal(home, artifact):
    with pytest.raises(ModelRejected) as caught:
        home.open(artifact, {}, WIDTH)
    return str(caught.value)


def test_import__of_the_runtime__leaves_its_telemetry_off(tmp_path):
    program = "import sys; from quietfleet.pipeline.sessions import open_sessions\n"
    program += f"open_sessions(bytes.fromhex(sys.argv[1]), {{}}, {WIDTH})"
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program, linear(1.0).hex()], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_attack__a_model_that_crashes_its_process_at_load__is_refused():
    crash = HOLE.format(more="sessions.open_session = lambda artifact, width: os.abort()")
    with holed(crash) as home, pytest.raises(ModelRejected):
        home.open(linear(1.0), {}, WIDTH)


def test_attack__code_in_the_models_process__reaches_no_file_no_socket_and_no_key(monkeypatch):
    monkeypatch.setenv("QUIETFLEET_PASSPHRASE", "correct horse")
    with holed(CODE) as home:
        assert list(home.open(linear(1.0), {}, WIDTH).run(rows(1.0, 1.0, 1.0), None)) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("answer", [b"\xc1", b"\x91\xa5other", b"x" * 100_000], ids=len)
def test_attack__the_process_answers_nonsense__is_heard_no_further(answer):
    ours, theirs = socket.socketpair()
    line = Line(ours)
    theirs.sendall(HEADER.pack(len(answer)) + answer)
    with pytest.raises((OSError, msgspec.MsgspecError)):
        line.ask(Run(1, "", 1, b""), 1.0, 1)
    line.close()
    theirs.close()


def test_parent__is_killed__takes_its_models_process_along():
    program = (
        "import sys; from quietfleet.pipeline.inference import Apart\n"
        f"home = Apart({MEMORY}, lambda: 0.0, program=('-c', {HOLED!r}))\n"
        "model = home.open(bytes.fromhex(sys.argv[1]), {}, 3); print(home.pid, flush=True)\n"
        "import numpy; model.run(numpy.full((1, 3), 2.0**60, 'f4'), None)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, endless().hex()], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    assert gone(pid)


def test_close__while_it_runs__leaves_no_process(apart):
    apart.open(linear(1.0), {}, WIDTH)
    pid = apart.pid
    apart.close()
    assert gone(pid)
    with pytest.raises(NoForecast):
        apart.open(linear(1.0), {}, WIDTH)


def test_process__its_worker_hangs_up__ends():
    process = Process(MEMORY)
    process.models.hear(inference.START_WITHIN, 0)
    assert process.models.ask(Load(1, WIDTH, linear(1.0), {}), inference.LOAD_WITHIN, 0) == Done()
    process.runs.close()
    assert process._process.wait(10.0) == 0
    process.end()


class Living(RuleBasedStateMachine):
    """A process that is killed at any moment, against which models are in use: what runs says what it should."""

    def __init__(self):
        super().__init__()
        self.home = Apart(MEMORY, pause=lambda: 0.0)
        self.models = {}

    @precondition(lambda self: len(self.models) < 3)
    @rule(slope=st.integers(1, 9))
    def open(self, slope):
        model = self.home.open(linear(float(slope)), {}, WIDTH)
        self.models[model] = slope
        self.home.keep(self.models)

    @precondition(lambda self: self.models)
    @rule(data=st.data())
    def drop(self, data):
        del self.models[data.draw(st.sampled_from(list(self.models)))]
        self.home.keep(self.models)

    @precondition(lambda self: self.home.pid)
    @rule()
    def kill(self):
        pid = self.home.pid
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    @precondition(lambda self: self.models)
    @rule()
    def revive(self):
        self.home.tick()
        revived(self.home)
        for model, slope in self.models.items():
            assert model.run(rows(1.0), None) == [3.0 * slope]

    @invariant()
    def forecasts(self):
        for model, slope in self.models.items():
            try:
                assert model.run(rows(1.0), None) == [3.0 * slope]
            except ModelFailed as error:
                raise AssertionError from error
            except NoForecast:
                pass

    def teardown(self):
        self.home.close()


TestLiving = Living.TestCase
TestLiving.settings = settings(max_examples=4, stateful_step_count=8, deadline=None)
