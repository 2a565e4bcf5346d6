"""Steps of a decoder recorded as CUDA graphs, which launch all kernels of a step at once.

A network of small layers takes a hundred kernels for a step, and their launches most of its time.
A step can be recorded where its kernels use the same addresses each time it is taken: buffers are
made once, what differs is written into them beforehand, and steps are counted on the device.
"""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Step = Callable[[], Tensor]
_captures = False


@contextmanager
def captured_steps(enabled: bool = True) -> Iterator[None]:
    """Record the steps of decoders made within.

    They are those of MADE, PixelCNN, Gated PixelCNN, PixelRNNs, Video Pixel Network and WaveNet.
    Draws are the same. Elsewhere than on CUDA the same steps are taken without a recording.

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("wavenet", arcore.events.Levels(256, (9,)))
        >>> with captured_steps():
        ...     model.sample(2).shape
        torch.Size([2, 9])
    """
    global _captures
    before, _captures = _captures, enabled
    try:
        yield
    finally:
        _captures = before


class StepRecorder:
    """Takes the steps of one decoder; those with the same key must use the same addresses.

    Arguments:
        device: where the steps' tensors are.
        fits: whether the decoder can do so.

    Attributes:
        asked: whether its steps are to use the same addresses.
    """

    def __init__(self, device: torch.device, fits: bool = True) -> None:
        self.asked = _captures and fits
        self._records = self.asked and _can_record(device)
        self._warm = False  # libraries set themselves up in the first step
        self._recorded: dict[Hashable, tuple[Callable[[], None], Tensor]] = {}

    def __call__(self, key: Hashable, step: Step, repeats: bool = True) -> Tensor:
        """Return what a step gives, which is recorded if it repeats."""
        if not (self._records and self._warm and repeats):
            self._warm = True
            return step()
        if key not in self._recorded:
            self._recorded[key] = _record(step)
        replay, output = self._recorded[key]
        replay()
        return output.clone()


def _can_record(device: torch.device) -> bool:
    return device.type == "cuda" and not torch.is_autocast_enabled("cuda")


def _record(step: Step) -> tuple[Callable[[], None], Tensor]:
    """Record a step, which is not taken; return what takes it, and where its result will be."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = step()
    return graph.replay, output
