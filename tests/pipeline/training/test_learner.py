"""What a training step is made of: averages of weights, precision, optimisers and schedules."""

import math
import sys

import pytest
import torch
import torch.distributed as dist
from torch.optim import swa_utils

import arcore
from arcore.primitives.products import has_fast_bfloat16
from pipeline.core.errors import UserError
from pipeline.data.batches import Batch
from pipeline.experiments.schema import OptimizerConfig, ScheduleConfig, TrainerConfig
from pipeline.training import learner, optimization
from pipeline.training.collectives import Workers
from pipeline.training.training_records import TrainingJob
from tests.support.waits import META, NoWaitingCopies

CPU = torch.device("cpu")


def make_model() -> arcore.AutoregressiveModel:
    event = arcore.events.Binary((5,))
    return arcore.create_model("made", event, hidden=[6], num_masks=4, order_agnostic=True)


def test_averages_are_those_of_torch() -> None:
    model = make_model().train()
    model.register_buffer("seen", torch.zeros(2))
    ours = learner.AveragedModel(model, 0.75)
    theirs = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.75))
    for step in range(4):
        model.set_step(0, step)  # which replaces the masks
        with torch.no_grad():
            model.seen += 1
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update(model)
        theirs.update_parameters(model)
        wanted = theirs.module.state_dict(keep_vars=True)
        for name, average in ours.module.state_dict(keep_vars=True).items():
            assert torch.equal(average, wanted[name]), name
    assert ours.module.seen.tolist() == [4, 4]
    scored = [average.module.eval()(torch.ones(1, 5)) for average in (ours, theirs)]
    assert torch.equal(*scored)


def test_an_update_does_not_wait() -> None:
    model = make_model().to(META)
    average = learner.AveragedModel(model, 0.75)
    with NoWaitingCopies():
        average.update(model)
        average.update(model)


def test_a_processor_is_asked_for_bfloat16_and_unknown_hardware_has_none() -> None:
    assert not learner.has_bfloat16(torch.device("meta"))
    assert learner.has_bfloat16(CPU) == has_fast_bfloat16()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_gradients_are_exchanged_in_bfloat16_where_asked() -> None:
    class Two(Workers):
        """Of which one has no part in the mean."""

        run_on_all_ranks = staticmethod(lambda work: work())

    def gradients(**options: bool) -> list[torch.Tensor]:
        job = TrainingJob(
            config_hash="",
            event=arcore.events.Binary((5,)),
            model={"name": "made", "hidden": [6]},
            trainer=TrainerConfig(**options),
            shards="",
        )
        one = learner.Learner(job, Two(0, 2, CPU))
        one.wrap(0)
        one._add_gradients(batch, 0)
        return [weight.grad for weight in one.model.parameters()]

    batch = Batch(torch.eye(5)[:3], None, None, 3)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        exact, compressed = gradients(), gradients(compress_gradients=True)
    finally:
        dist.destroy_process_group()
    rounded = [gradient.bfloat16().float() for gradient in exact]
    assert all(map(torch.equal, compressed, rounded)) and not all(map(torch.equal, rounded, exact))


@pytest.mark.parametrize("others", [0.0, 1.0])
def test_one_worker_without_decides_for_all(monkeypatch, others: float) -> None:
    class Two(Workers):
        def minimum(self, values: torch.Tensor) -> list[float]:
            return [min(float(value), others) for value in values]

    monkeypatch.setattr(learner, "has_bfloat16", lambda device: True)
    assert learner.precision_of_steps("auto", Two(0, 2, CPU)) == (
        "bfloat16" if others else "float32"
    )
    for asked in ("float32", "bfloat16", "float64"):
        assert learner.precision_of_steps(asked, Workers(0, 1, CPU)) == asked


SCHEDULES = ("constant", "linear", "cosine", "inverse_time", "exponential")


def factors(steps: int, **schedule) -> list[float]:
    config = ScheduleConfig(**schedule)
    return [optimization.schedule_factor(config, step, steps) for step in range(steps)]


@pytest.mark.parametrize(
    ("made", "config", "options"),
    [
        ("Adam", {"betas": (0.5, 0.6)}, {"betas": (0.5, 0.6), "eps": 1e-8}),
        ("AdamW", {"weight_decay": 0.3}, {"weight_decay": 0.3}),
        ("SGD", {"momentum": 0.9}, {"momentum": 0.9}),
        ("RMSprop", {"momentum": 0.9, "eps": 0.1}, {"momentum": 0.9, "eps": 0.1}),
        ("Adagrad", {"eps": 1e-6}, {"eps": 1e-6, "weight_decay": 0.0}),
        ("Adadelta", {}, {"eps": 1e-6, "rho": 0.9}),
    ],
)
def test_every_optimizer_has_its_options_and_steps_downhill(
    monkeypatch: pytest.MonkeyPatch, made, config, options
) -> None:
    """Without torch's compiler, whose import takes longer than a short training."""
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    asked = OptimizerConfig(name=made.lower(), learning_rate=0.01, **config)
    optimizer = optimization.make_optimizer([weight], asked)
    assert type(optimizer).__name__ == made
    expected = options | {"lr": 0.01}
    assert {key: optimizer.defaults[key] for key in expected} == expected
    (weight**2).sum().backward()
    before = weight.detach().clone()
    optimizer.step()
    assert (weight.detach().abs() < before.abs()).all()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        (OptimizerConfig, {"name": "adam", "momentum": 0.9}, "momentum: expected 0 for adam, got"),
        (OptimizerConfig, {"name": "sgd", "eps": 0.1}, "eps: expected null for sgd, got 0.1"),
        (OptimizerConfig, {"name": "sgd", "betas": (0.5, 0.9)}, "betas: expected the default for"),
        (ScheduleConfig, {"decay": 0.1}, "decay: expected 0 for cosine, got 0.1"),
        (ScheduleConfig, {"name": "constant", "final_factor": 0.1}, "final_factor: expected 0 for"),
        (ScheduleConfig, {"name": "inverse_time", "final_factor": 1.0}, "final_factor: expected 0"),
    ],
)
def test_options_that_would_be_ignored_are_refused(kind, config, message: str) -> None:
    with pytest.raises(UserError, match=f"^trainer.(optimizer|schedule).{message}"):
        kind(**config)


def test_schedules_by_hand() -> None:
    assert factors(3, name="constant") == [1, 1, 1]
    assert factors(4, name="linear") == [1, 0.75, 0.5, 0.25]
    assert factors(4, name="linear", final_factor=0.5) == [1, 0.875, 0.75, 0.625]
    # cos(0), cos(60 deg), cos(120 deg), so (1 + 1)/2, (1 + 0.5)/2, (1 - 0.5)/2
    assert factors(3, name="cosine") == pytest.approx([1, 0.75, 0.25])
    assert factors(3, name="inverse_time", decay=1.0) == pytest.approx([1, 1 / 2, 1 / 3])
    halves = factors(4, name="exponential", decay=math.log(2), warmup_steps=1)
    assert halves == pytest.approx([1, 1, 1 / 2, 1 / 4])
    assert factors(6, name="linear", warmup_steps=2) == [0.5, 1, 1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_warmup_longer_than_the_run_only_rises(name: str) -> None:
    assert factors(4, name=name, warmup_steps=8) == [1 / 8, 2 / 8, 3 / 8, 4 / 8]
