"""The training loop in one process, and two workers against one."""

import contextlib
import itertools
import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from safetensors.torch import load_file, save_file

from pipeline.cluster import connection
from pipeline.core import stage_code
from pipeline.core.errors import SiteError, UserError
from pipeline.experiments.schema import ClusterConfig
from pipeline.training import checkpoints, learner
from pipeline.training import worker as worker_loop
from pipeline.training.collectives import Workers
from pipeline.training.learner import Learner
from pipeline.training.training_records import Stopped
from tests.support.refusals import raising
from tests.support.workers import Worker


@pytest.fixture
def worker(make_worker):
    return make_worker()


@pytest.fixture
def trained(make_worker):
    def train(model=None, *, resume=(), stop_at=None, **trainer) -> Worker:
        worker = make_worker()
        worker.resume, worker.stop_at = list(resume), stop_at
        worker.train(model, **trainer)
        return worker

    return train


def norm(weights) -> float:
    return math.sqrt(sum(float((value**2).sum()) for value in weights.values()))


MODEL = {"num_masks": 3, "dropout": 0.1}
ELABORATE = {
    "ema_decay": 0.5,
    "optimizer": {"name": "adamw", "weight_decay": 0.1},
    "schedule": {"warmup_steps": 5},
}
PIXELVAE = {"name": "pixelvae", "encoder": [4], "width": 4, "num_layers": 1, "latent_size": 2}
WEIGHTS = ("last", "best", "averaged")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, few_digits) -> Worker:
    """A training of 4 epochs of 6 steps, of several masks, with dropout and an average."""
    whole = Worker(tmp_path_factory.mktemp("checkpoints"), few_digits)
    whole.train(MODEL, **ELABORATE)
    return whole


def require_same_end(whole: Worker, resumed: Worker, names=("last", "best")) -> None:
    for name in names:
        last = str(whole.progress.epoch)
        ends = [each.folder / last / f"{name}.safetensors" for each in (whole, resumed)]
        assert ends[0].read_bytes() == ends[1].read_bytes()
    histories = [each.progress.history for each in (whole, resumed)]
    for before, after in zip(*histories, strict=True):
        assert replace(before, seconds=0.0) == replace(after, seconds=0.0)


def test_another_seed_is_another_training(undisturbed, trained) -> None:
    other = trained(MODEL, **ELABORATE, seed=1)
    assert norm(undisturbed.weights(4)) != norm(other.weights(4))


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_resumed_training_ends_with_the_same_bytes(undisturbed, trained, epoch: int) -> None:
    resumed = trained(MODEL, **ELABORATE, resume=[undisturbed.folder / str(epoch)])
    assert [report.epoch for report in resumed.reports] == list(range(epoch + 1, 5))
    require_same_end(undisturbed, resumed, WEIGHTS)


@pytest.mark.parametrize("step", [1, 8, 21])
def test_a_training_that_is_asked_to_stop_goes_on_with_the_same_bytes(
    undisturbed, trained, step
) -> None:
    stopped = trained(MODEL, **ELABORATE, stop_at=step)
    assert stopped.outcome == Stopped(step, step // 6 + 1)
    assert [report.epoch for report in stopped.reports] == [*range(1, step // 6 + 1)]
    resumed = trained(MODEL, **ELABORATE, resume=[stopped.folder / "midway"])
    require_same_end(undisturbed, resumed, WEIGHTS)


def test_a_notice_of_preemption_saves_once(undisturbed, trained, worker, monkeypatch) -> None:
    """Within the epoch, and the training goes on until its node is gone; no step is lost twice."""
    monkeypatch.setattr(worker_loop, "CHECK_EVERY", 4)
    worker.preempted_at = 7

    def stop_requested() -> bool:
        assert worker.worker.progress.step < 11, "gone"
        return False

    worker.stop_requested = stop_requested
    with pytest.raises(AssertionError, match="gone"):
        worker.train(MODEL, **ELABORATE)
    assert worker.store.names() == ["checkpoint_000002", "checkpoint_000001"]
    worker._copy("midway")
    resumed = trained(MODEL, **ELABORATE, resume=[worker.folder / "midway"])
    assert json.loads((worker.folder / "midway/state.json").read_text())["progress"]["step"] == 8
    require_same_end(undisturbed, resumed, WEIGHTS)


def test_a_number_of_steps_ends_a_training_within_an_epoch(trained) -> None:
    """In parts, of which the last one has fewer rows, and with another schedule than 24 steps."""
    limited = {**ELABORATE, "max_steps": 15, "accumulate": 3, "checkpoint_activations": True}
    whole = trained(MODEL, **limited)
    assert whole.progress.step == 15 and whole.reports[-1].learning_rate < 1e-4
    assert [report.step for report in whole.reports] == [6, 12, 15]
    for stop in (8, 13):
        stopped = trained(MODEL, **limited, stop_at=stop)
        resumed = trained(MODEL, **limited, resume=[stopped.folder / "midway"])
        require_same_end(whole, resumed, WEIGHTS)


@pytest.mark.parametrize("model", [{"num_masks": 3}, PIXELVAE])
def test_accumulated_gradients_are_those_of_the_whole_batch(trained, model) -> None:
    options = {"precision": "float64", "max_epochs": 1, "clip_norm": 1.0}
    whole, parts = (trained(model, **options, accumulate=count) for count in (1, 3))
    for name, value in whole.weights(1).items():
        torch.testing.assert_close(parts.weights(1)[name], value, rtol=1e-9, atol=1e-9)
    (one,), (other,) = whole.progress.history, parts.progress.history
    assert one.train_nats == pytest.approx(other.train_nats, rel=1e-12)


def test_dropout_is_on_in_every_epoch(trained) -> None:
    """Without an average it is the trained model itself that validation has in evaluation."""
    model = {"dropout": 0.4}
    whole = trained(model)
    resumed = trained(model, resume=[whole.folder / "2"])
    require_same_end(whole, resumed)
    dropped = [row.train_nats for row in whole.progress.history]
    plain = trained()
    assert all(a > b.train_nats for a, b in zip(dropped, plain.progress.history, strict=True))


def test_asked_to_stop_at_the_end_of_an_epoch_it_saves_that(trained) -> None:
    """Several workers agree only there, where an epoch has no more steps than between exchanges."""
    worker = trained(checkpoint_every=4, stop_at=6)
    assert worker.outcome == Stopped(6, 2)
    assert [report.epoch for report in worker.reports] == [1]
    assert (worker.folder / "1/state.json").exists()


def test_long_epochs_have_checkpoints_inside(make_worker) -> None:
    worker = make_worker()
    worker.checkpoint_seconds = 0.0
    worker.train(max_epochs=1)
    newest = worker.store.names()[0]
    assert newest == "checkpoint_000006", "five inside the epoch of six steps, one after it"


def make_weights_infinite(newest: Path) -> None:
    best = load_file(newest / "best.safetensors")
    infinite = {name: torch.full_like(value, math.inf) for name, value in best.items()}
    save_file(infinite, newest / "best.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        lambda newest: os.truncate(newest / "optimizer.safetensors", 100),
        lambda newest: (newest / "last.safetensors").unlink(),
        lambda newest: (newest / "state.json").write_text(""),
        make_weights_infinite,
    ],
    ids=["truncated", "removed", "empty", "infinite"],
)
def test_a_damaged_newest_checkpoint_falls_back(undisturbed, make_worker, capsys, damage) -> None:
    again = make_worker()
    newest = Path(shutil.copytree(undisturbed.folder / "3", again.folder / "damaged"))
    damage(newest)
    again.resume = [newest, undisturbed.folder / "2"]
    again.train(MODEL, **ELABORATE)
    said = capsys.readouterr().out
    assert "trying the checkpoint before it" in said and "resumes after epoch 2" in said
    require_same_end(undisturbed, again, WEIGHTS)


def test_the_average_follows_the_weights(worker) -> None:
    """After every step: average <- decay * average + (1 - decay) * weights, from the first on."""
    with recorded_steps() as steps:
        worker.train(ema_decay=0.75, max_epochs=2, validate_every=2, checkpoint_every=2)
    averaged = worker.weights(2, "averaged")
    require_average(averaged, steps[0], steps[1:])
    assert norm(averaged) != norm(worker.weights(2))
    for name, value in worker.weights(2, "best").items():
        assert torch.equal(value, averaged[name]), "the average is what is validated and kept"


def require_average(averaged, expected, steps) -> None:
    for weights in steps:
        expected = {k: 0.75 * expected[k] + 0.25 * weights[k] for k in expected}
    for name, value in expected.items():
        torch.testing.assert_close(averaged[name], value, rtol=1e-5, atol=1e-6)


@contextlib.contextmanager
def recorded_steps():
    steps: list[checkpoints.Weights] = []
    original = Learner.step

    def step(self, *arguments):
        loss = original(self, *arguments)
        steps.append(checkpoints.weights_of(self.model))
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", step)
        yield steps


def test_clipping_bounds_a_step(worker) -> None:
    """With plain SGD at rate 1 the weights move by the clipped gradient."""
    with recorded_steps() as steps:
        worker.train(
            clip_norm=0.01,
            optimizer={"name": "sgd", "learning_rate": 1.0},
            schedule={"name": "constant"},
            max_epochs=1,
        )
    for before, after in itertools.pairwise(steps):
        moved = {name: after[name] - before[name] for name in before}
        assert norm(moved) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("precision", "kept", "tolerance"),
    [("bfloat16", torch.float32, 5e-3), ("float64", torch.float64, 1e-4)],
)
def test_another_precision_learns_as_much(trained, precision, kept, tolerance) -> None:
    exact = trained()
    other = trained(precision=precision)
    assert {value.dtype for value in other.weights(4).values()} == {kept}
    assert norm(other.weights(4)) != norm(exact.weights(4))
    assert other.progress.best_nats == pytest.approx(exact.progress.best_nats, rel=tolerance)


@pytest.mark.parametrize("native", [False, True])
def test_a_resumed_training_keeps_the_precision_that_auto_was(
    trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], native: bool
) -> None:
    """On a host of other hardware; the weights are those of an undisturbed training."""
    monkeypatch.setattr(learner, "has_bfloat16", lambda device: native)
    whole = trained(precision="auto")
    monkeypatch.setattr(learner, "has_bfloat16", lambda device: not native)
    capsys.readouterr()
    resumed = trained(precision="auto", resume=[whole.folder / "2"])
    outcome = resumed.outcome
    here, other = ("bfloat16", "float32") if native else ("float32", "bfloat16")
    assert outcome.progress.precision == here
    assert f"precision: {here}, as before; auto would be {other} here" in capsys.readouterr().out
    for name, value in whole.weights(4).items():
        assert torch.equal(value, resumed.weights(4)[name])


NEEDS_GXX = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")


@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, NEEDS_GXX])]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_compiled_training_is_the_same_training(
    trained, make_worker, monkeypatch, backend: str
) -> None:
    """Traced and differentiated by the compiler; what its code generator makes is a slow test."""
    plain = trained(max_epochs=2)
    compiled, compiler, calls = make_worker(), torch.compile, []

    def compile_call(call, **options):
        calls.append(call)
        return compiler(call, backend=backend, **options)

    monkeypatch.setattr(torch, "compile", compile_call)
    compiled.train(max_epochs=2, compile=True)
    assert len(calls) == 1
    assert compiled.progress.best_nats == pytest.approx(plain.progress.best_nats, rel=1e-4)
    found, wanted = compiled.weights(2), plain.weights(2)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)


def test_early_stopping_keeps_the_best(worker) -> None:
    """Overfits 96 random rows: the validation turns, and so many validations later it ends."""
    worker.train(
        {"hidden": [256]},
        max_epochs=200,
        patience=3,
        validate_every=2,
        optimizer={"learning_rate": 0.02},
    )
    progress = worker.progress
    assert progress.stopped and progress.epoch < 200
    assert progress.epoch == progress.best_epoch + 2 * 3
    scored = {row.epoch: row.valid_nats for row in progress.history}
    assert scored[1] is None and scored[2] is not None
    assert progress.best_nats == min(nats for nats in scored.values() if nats is not None)
    best, last = worker.weights(progress.epoch, "best"), worker.weights(progress.epoch)
    assert norm(best) != norm(last)
    at_best = worker.weights(progress.best_epoch)
    assert all(torch.equal(best[name], at_best[name]) for name in best)


def test_checkpoints_come_every_so_many_epochs_and_at_the_end(worker) -> None:
    worker.train(max_epochs=5, checkpoint_every=2)
    assert sorted(path.name for path in worker.folder.iterdir()) == ["2", "4", "5"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "the training loss is not finite at step "),
        # One step an epoch: the loss is still that of the initial weights.
        (
            {"max_epochs": 1, "batch_size": 96},
            "the validation loss is not finite at step 1 (epoch 1)",
        ),
    ],
)
def test_a_loss_that_is_not_finite_names_its_step(worker, options, named: str) -> None:
    exploding = {"name": "sgd", "learning_rate": 1e38}
    returned = worker.train(optimizer=exploding, schedule={"name": "constant"}, **options)
    assert named in returned.reason and "trainer.optimizer.learning_rate" in returned.reason
    assert worker.reports == []


@pytest.mark.parametrize(
    ("shuffle_rows", "stop_at", "left"), [(30, 8, 18), (30, 3, 24), (96, 8, 16)]
)
def test_rows_shared_out_among_other_workers_are_gone_through_anew(
    trained, capsys, shuffle_rows: int, stop_at: int, left: int
) -> None:
    """Of a streamed split, since each rank goes through a part of its own; six steps an epoch."""
    plan = {"shuffle_rows": shuffle_rows, "ema_decay": 0.75}
    stopped = trained(**plan, stop_at=stop_at)
    state = stopped.folder / "midway/state.json"
    assert json.loads(state.read_text())["progress"]["world"] == 1
    state.write_text(state.read_text().replace('"world": 1', '"world": 2'))
    average = load_file(stopped.folder / "midway/averaged.safetensors")
    with recorded_steps() as steps:
        resumed = trained(**plan, resume=[stopped.folder / "midway"])
    assert len(steps) == left, "from the step where its epoch began, or from where it stopped"
    said = capsys.readouterr().out
    anew = "warning: 2 workers had shared out its rows; begins the epoch again" in said
    assert anew == (shuffle_rows < 96)
    assert resumed.progress.step == 24 and resumed.progress.world == 1
    require_average(resumed.weights(4, "averaged"), average, steps)


def test_the_best_weights_of_a_checkpoint_are_no_view_of_its_file(trained) -> None:
    """Which is removed while the training goes on: on NFS its folder could not be."""
    whole = trained(max_epochs=1)
    path = whole.folder / "1" / "best.safetensors"
    _, best = checkpoints.load(path.parent, whole.worker.job, whole.worker.learner)
    before = {name: weight.clone() for name, weight in best.items()}
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert before and all(torch.equal(best[name], weight) for name, weight in before.items())


@pytest.mark.parametrize(
    ("change", "hidden", "message"),
    [
        (lambda state: state.replace("i" * 64, "j" * 64), 8, "one of another (jjjjjjjj)"),
        (lambda state: state[:40], 8, "damaged checkpoint"),
        (lambda state: state.replace('"epoch"', '"epochs"'), 8, "damaged checkpoint"),
        (lambda state: state, 9, ": shape of "),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    trained, make_worker, change, hidden, message
) -> None:
    whole = trained({"hidden": [8]}, max_epochs=1)
    state = whole.folder / "1" / "state.json"
    state.write_text(change(state.read_text()))
    again = make_worker()
    again.resume = [whole.folder / "1"]
    with pytest.raises(UserError, match="^no checkpoint is whole") as caught:
        again.train({"hidden": [hidden]}, max_epochs=1)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_checkpoint_of_other_code_is_refused_where_both_are_known(
    trained, make_worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = trained(max_epochs=1)
    state = written.folder / "1" / "state.json"
    content = json.loads(state.read_text())
    assert content["code_sha256"] is None, "the job of these tests says none"
    again = make_worker()
    again.resume = [written.folder / "1"]
    state.write_text(json.dumps(content | {"code_sha256": "a" * 64}))
    again.train(max_epochs=1)
    again.code_sha256 = "b" * 64
    newer = content["progress"] | {"of_newer_code": 1}  # which this one could not read
    state.write_text(json.dumps(content | {"code_sha256": "a" * 64, "progress": newer}))
    monkeypatch.setattr(stage_code, "code_sha256", lambda stage, model: "b" * 64)
    with pytest.raises(
        UserError,
        match=r"^.*_000001: expected .* code \(bbbbbbbb\), got .*aaaaaaaa.*or remove /.* to begin",
    ) as caught:
        again.train(max_epochs=1)
    assert f"remove {again.place} to" in str(caught.value), "stages.folds has no --fresh"
    state.write_text(json.dumps(content | {"code_sha256": "b" * 64}))
    again.train(max_epochs=1)


def test_a_worker_of_other_code_than_the_drivers_is_refused(make_worker) -> None:
    worker = make_worker()
    worker.code_sha256 = "b" * 64
    with pytest.raises(UserError, match="expected the code of the driver .bbbbbbbbbbbb., got oth"):
        worker.train(max_epochs=1)


def test_what_fails_on_one_worker_fails_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, bool] | None] = []

    def gather(every: list[object], mine: object) -> None:
        every[:] = [mine, *told]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    three = Workers(0, 3, torch.device("cpu"))
    missing = raising(FileNotFoundError(2, "No such file", "shard"))
    told[:] = [None, None]
    assert three.run_on_all_ranks(lambda: 5) == 5
    with pytest.raises(SiteError, match="No such file.*shard"):
        three.run_on_all_ranks(missing)
    told[:] = [None, ("storage: away", True)]
    with pytest.raises(SiteError, match="^storage: away$"):
        three.run_on_all_ranks(lambda: 5)
    told[:] = [None, ("rows: expected some", False)]
    with pytest.raises(UserError, match="^rows: expected some$") as raised:
        three.run_on_all_ranks(lambda: 5)
    assert not isinstance(raised.value, SiteError)
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError):
        Workers(0, 1, torch.device("cpu")).run_on_all_ranks(missing)


@pytest.mark.parametrize(
    ("nodes", "asked", "cpus", "lacking"),
    [
        ([(2, 0)], {}, 2, None),
        ([(2, 0), (2, 0)], {}, 2, None),
        ([(8, 0), (8, 0)], {"num_workers": 3}, 4, None),
        ([(8, 0), (2, 0)], {"num_workers": 2}, 4, None),
        ([(64, 0), (4, 1), (4, 1)], {"num_workers": 2, "use_gpu": True}, 4, None),
        ([(2, 0)], {"num_workers": 4, "min_workers": 2, "cpus_per_worker": 1}, 1, None),
        ([(2, 0)], {"num_workers": 3}, 1, "3 workers of 1 CPUs, got room for 2"),
        ([(2, 0)], {"use_gpu": True}, 1, "1 workers of 1 CPUs and a GPU, got room for 0"),
        ([(2, 0)] * 3, {"cpus_per_worker": 3}, 3, "1 workers of 3 CPUs, got room for 0"),
    ],
)
def test_a_cluster_that_does_not_hold_all_is_not_waited_for(
    monkeypatch, nodes, asked, cpus: int, lacking: str | None
) -> None:
    described = [{"Alive": True, "Resources": {"CPU": c, "GPU": g}} for c, g in nodes]
    gone = {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 9.0}}
    monkeypatch.setattr(ray, "nodes", lambda: [*described, gone])
    monkeypatch.delenv("ARCORE_AUTOSCALING", raising=False)
    config = ClusterConfig(**asked)
    assert connection.cpus_per_worker(config) == cpus
    if lacking is None:
        connection.require_resources(config)
    else:
        with pytest.raises(UserError, match=f"cluster: expected nodes that hold {lacking}"):
            connection.require_resources(config)
    monkeypatch.setenv("ARCORE_AUTOSCALING", "1")
    connection.require_resources(config)


def test_a_ray_that_does_not_start_is_one_line(monkeypatch) -> None:
    monkeypatch.setattr(ray, "init", raising(Exception("The current node\ntimed out")))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in os.environ.items():
        monkeypatch.setenv(name, value)  # so that what `connected` sets is taken back
    with (
        pytest.raises(UserError, match="^Ray did not start: The current node timed out$"),
        connection.connected(),
    ):
        pass


def test_gloo_and_nccl_take_the_interface_of_rays_address(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.cluster import network_interface

    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    for name in names:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setattr(network_interface.ray.util, "get_node_ip_address", lambda: "127.0.0.1")
    network_interface.choose_interface()
    loopback = os.environ[names[0]]
    assert os.environ[names[1]] == f"={loopback}" and loopback.startswith("lo")
    monkeypatch.setenv(names[1], "eth7")
    network_interface.choose_interface()
    assert os.environ[names[1]] == "eth7"


def test_a_worker_alone_has_no_process_group() -> None:
    from pipeline.cluster.network_interface import ByAddress

    config = ByAddress()
    config.backend_cls().on_start([None], config)
    assert not torch.distributed.is_initialized()
