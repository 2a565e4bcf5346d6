"""The list of systems: names to models."""

from __future__ import annotations

import difflib

from arcore.events import Event
from arcore.hyperparameters import build_hyperparameters
from arcore.model import AutoregressiveModel
from arcore.models.conv_nade import ConvNADE
from arcore.models.deep_nade import DeepNADE
from arcore.models.diagonal_bilstm import DiagonalBiLSTM
from arcore.models.gated_pixelcnn import GatedPixelCNN
from arcore.models.made import MADE
from arcore.models.multiscale_pixelrnn import MultiscalePixelRNN
from arcore.models.nade import NADE
from arcore.models.parallel_multiscale import ParallelMultiscale
from arcore.models.pixelcnn import PixelCNN
from arcore.models.pixelvae import PixelVAE
from arcore.models.rnade import RNADE
from arcore.models.row_lstm import RowLSTM
from arcore.models.video_pixel_baseline import VideoPixelBaseline
from arcore.models.video_pixel_network import VideoPixelNetwork
from arcore.models.wavenet import WaveNet

MODELS: dict[str, type[AutoregressiveModel]] = {
    "nade": NADE,
    "made": MADE,
    "deep_nade": DeepNADE,
    "conv_nade": ConvNADE,
    "pixelcnn": PixelCNN,
    "gated_pixelcnn": GatedPixelCNN,
    "row_lstm": RowLSTM,
    "diagonal_bilstm": DiagonalBiLSTM,
    "multiscale_pixelrnn": MultiscalePixelRNN,
    "parallel_multiscale": ParallelMultiscale,
    "pixelvae": PixelVAE,
    "video_pixel_network": VideoPixelNetwork,
    "video_pixel_baseline": VideoPixelBaseline,
    "rnade": RNADE,
    "wavenet": WaveNet,
}


def list_models() -> list[str]:
    """Return the names that `create_model` knows, sorted.

    Example:
        >>> list_models()[:3]
        ['conv_nade', 'deep_nade', 'diagonal_bilstm']
    """
    return sorted(MODELS)


def create_model(name: str, event: Event, **hyperparameters: object) -> AutoregressiveModel:
    """Create a model with random weights; every hyperparameter has a default.

    Arguments:
        name: one of `list_models()`.
        event: what is modelled, e.g. `arcore.events.Binary((1, 28, 28))`.
        hyperparameters: fields of the model's `Config`.

    Raises:
        ValueError: for an unknown name or hyperparameter (with the nearest one), a value out of
            range, or an event of a kind that the model does not support.

    Example:
        >>> from arcore.events import Binary
        >>> create_model("nade", Binary((3,)), hidden=2).event.size
        3
    """
    if not isinstance(name, str) or name not in MODELS:
        near = difflib.get_close_matches(str(name), MODELS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"name: expected one of {', '.join(list_models())}, got {name!r}{hint}")
    kind = MODELS[name]
    return kind(event, build_hyperparameters(kind.Config, hyperparameters, name))
