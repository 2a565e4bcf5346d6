"""Kernels of a decoder's step, and what is left of them where steps are recorded.

A recording is played without CUDA: operations are kept with the tensors that they read and wrote,
and done again on those, as a CUDA graph does.
"""

from collections.abc import Callable
from itertools import chain, repeat
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

import arcore
from arcore.events import Binary, Event, Levels
from arcore.primitives import captured_steps as captured

SOUND, IMAGE = Levels(8, (40,)), Binary((1, 5, 5))
LOCAL = {"num_blocks": 2, "cycle": 3, "num_classes": 2, "local_classes": 3, "local_strides": [8]}


class Kernels(TorchDispatchMode):
    """Keeps the operations that launch a kernel: all that compute more than views or types."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, dict[str, Any], Tensor]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        aliases = [returned.alias_info for returned in function._schema.returns]
        views = any(alias is not None and not alias.is_write for alias in aliases)
        if not views and not any(what in str(function) for what in ("empty", "promote_types")):
            self.done.append((function, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        """Do again what was done, on the same tensors; others do not count it."""
        with _disable_current_modes():
            for function, args, kwargs, found in self.done:
                again = function(*args, **kwargs)
                if isinstance(found, Tensor) and again is not found:
                    found.copy_(again)


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> list[Kernels]:
    recordings: list[Kernels] = []

    def record(step: captured.Step) -> tuple[Callable[[], None], Tensor]:
        with Kernels() as kernels:
            output = step()
        recordings.append(kernels)
        replays = chain([lambda: None], repeat(kernels.replay))  # the first one is done by now
        return lambda: next(replays)(), output

    monkeypatch.setattr(captured, "_can_record", lambda device: True)
    monkeypatch.setattr(captured, "_record", record)
    return recordings


@pytest.mark.parametrize(
    ("name", "event", "given", "recorded"),
    [
        ("wavenet", SOUND, {"num_blocks": 2, "cycle": 3}, 1),
        ("wavenet", SOUND, {"cycle": 7, "head": "logistic_mixture", "inputs": "scaled"}, 1),
        ("wavenet", SOUND, LOCAL, 1),
        ("wavenet", SOUND, {"kernel": 3, "cycle": 3}, 0),
        ("pixelcnn", IMAGE, {}, 5),
        ("gated_pixelcnn", IMAGE, {"ordering": "s_curve"}, 5),
        ("gated_pixelcnn", IMAGE, {}, 5),
        ("gated_pixelcnn", Levels(3, (2, 4, 5)), {"width": 6, "num_classes": 2}, 5),
        ("video_pixel_network", Levels(3, (2, 2, 4, 5)), {"num_classes": 2}, 8),
        ("row_lstm", Levels(3, (2, 4, 5)), {"num_classes": 2}, 4),
        ("diagonal_bilstm", IMAGE, {}, 4),
        ("diagonal_bilstm", IMAGE, {"condition_shape": (1, 5, 5)}, 4),
        ("made", Levels(4, (6,)), {"hidden": [9, 8], "ordering": "random"}, 1),
        ("made", Binary((6,)), {"hidden": [20], "direct": False, "num_classes": 2}, 1),
    ],
)  # fmt: skip
def test_recorded_steps_draw_the_same(
    name: str, event: Event, given: dict[str, Any], recorded: int, recording: list[Kernels]
) -> None:
    torch.manual_seed(0)
    model = arcore.create_model(name, event, **given)
    for weight in model.parameters():  # so that draws depend on what came before
        weight.data.normal_()
    condition = None
    if "local_classes" in given:
        condition = torch.tensor([[0, 1, 2, 0, 1, 2], [1, 0, 0, 2, 2, 1]])
    elif "condition_shape" in given:
        condition = torch.randn(2, *given["condition_shape"])
    elif "num_classes" in given:
        condition = torch.tensor([0, 1])

    def draw() -> Tensor:
        return model.sample(2, condition, torch.Generator().manual_seed(0))

    plain = draw()
    assert not recording
    with captured.captured_steps():
        torch.testing.assert_close(draw(), plain, rtol=0, atol=0)
    assert len(recording) == recorded


@pytest.mark.parametrize(
    ("name", "event", "given", "most", "launched"),
    [
        ("wavenet", SOUND, {"num_blocks": 3, "cycle": 10}, 169, 13),
        ("gated_pixelcnn", Binary((1, 8, 8)), {"num_layers": 10}, 82, 13),
        ("pixelcnn", Binary((1, 8, 8)), {"num_blocks": 15}, 108, 13),
        ("video_pixel_network", Binary((3, 1, 8, 8)), {}, 73, 14),
        ("diagonal_bilstm", Binary((1, 8, 8)), {}, 61, 13),
        ("made", Binary((1, 8, 8)), {}, 25, 7),
    ],
)
@torch.no_grad()
def test_a_step_takes_few_kernels(
    name: str, event: Event, given: dict[str, Any], most: int, launched: int,
    recording: list[Kernels],
) -> None:  # fmt: skip
    """Where steps are recorded, what the host launches is counted too, the recording once."""

    def count() -> int:
        decoder = model.decoder(4)
        for _ in range(9):  # the first row of an image, and its first column
            decoder.push(decoder.draw(None))
        with Kernels() as kernels:
            decoder.push(decoder.draw(None))
        return len(kernels.done)

    model = arcore.create_model(name, event, **given).eval()
    assert count() <= most
    with captured.captured_steps():
        assert count() + 1 <= launched
    assert recording
