"""Cases of the models of clips, of WaveNet and of RNN-NADE."""

from arcore.events import Binary, Levels
from tests.support.cases import row
from tests.support.events import CLIP, COLOURS, CUBE, NINE, RGB

NETWORK = {"encoder_blocks": 1, "recurrent_width": 4, "decoder_blocks": 1}
VIDEO_BASE = {**NETWORK, "width": 4, "head_width": 12}
VIDEO = {**VIDEO_BASE, "first_kernel": 5}
MIXTURE = {"head": "logistic_mixture"}

VIDEO_PIXEL_BASELINE = [
    row("video_pixel_baseline-one-bit", Binary((1,)), **VIDEO_BASE),
    row("video_pixel_baseline-classes", Binary((3, 1, 2, 1)), **VIDEO_BASE, num_classes=2),
    row("video_pixel_baseline-frames", CLIP, **VIDEO_BASE, condition_sequence=(3, 2)),
    row(
        "video_pixel_baseline-vector", CLIP, **VIDEO_BASE, condition_size=3, dilations=[2], kernel=5
    ),
    row("video_pixel_baseline-one-hot", Levels(3, (3, 1, 1, 2)), **VIDEO_BASE, inputs="one_hot"),
    row("video_pixel_baseline-colours", Levels(2, (3, 3, 1, 1)), **VIDEO_BASE),
]
VIDEO_PIXEL_NETWORK = [
    row("video_pixel_network-image", NINE, **VIDEO),
    row("video_pixel_network-one-bit", Binary((1,)), **VIDEO),
    row("video_pixel_network-rgb", RGB, **NETWORK, first_kernel=5, width=6, head_width=24,
        num_classes=2),
    row("video_pixel_network-clip", CLIP, recurrent_width=4, width=4, head_width=12,
        first_kernel=5, encoder_blocks=2, decoder_blocks=2, kernel=5),
    row("video_pixel_network-dilated", CLIP, **VIDEO, dilations=[2], condition_size=3),
    row("video_pixel_network-frames", CLIP, **VIDEO, condition_sequence=(3, 2)),
    row("video_pixel_network-colours", COLOURS, **NETWORK, first_kernel=5, width=8, head_width=24),
    row("video_pixel_network-mixture", CUBE, **VIDEO, **MIXTURE, num_mixtures=3, num_classes=2),
    row("video_pixel_network-one-hot", Levels(3, (2, 2)), **VIDEO, inputs="one_hot"),
    row("video_pixel_network-tiny-frames", Levels(2, (2, 3, 1, 1)), tiny=True, **VIDEO,
        condition_sequence=(2, 2)),
]  # fmt: skip

CHANNELS = {"width": 4, "gate_width": 3, "skip_width": 12}
NET = {**CHANNELS, "cycle": 3, "num_blocks": 2}
SHORT = {**CHANNELS, "cycle": 2, "num_blocks": 2}
WAVENET = [
    row("wavenet-defaults", Binary((5,))),
    row("wavenet-scaled", NINE, **NET, inputs="scaled"),
    row("wavenet-one-bit", Binary((1,)), **CHANNELS, num_blocks=1, cycle=1),
    row("wavenet-kernel-4", Binary((12,)), **SHORT, kernel=4),
    row("wavenet-short-sight", Binary((12,)), full=False, **SHORT),  # sees 8 samples
    row("wavenet-classes", Levels(5, (4,)), **NET, num_classes=3),
    row("wavenet-vector", CUBE, **NET, kernel=3, condition_size=3),
    row("wavenet-mixture", CUBE, **NET, **MIXTURE, num_mixtures=3, num_classes=2),
    row("wavenet-symbols", Levels(4, (7,)), **NET, local_classes=3, local_strides=[2],
        local_width=5),
    row("wavenet-symbols-classes", Binary((11,)), **NET, num_classes=2, local_classes=3,
        local_strides=[2, 2], kernel=3),
    row("wavenet-symbols-repeat", Levels(3, (5,)), **NET, local_classes=2, local_strides=[5],
        upsampling="repeat", num_classes=2),
    row("wavenet-features-mixture", Levels(5, (6,)), **NET, local_size=2, local_strides=[4],
        **MIXTURE),
    row("wavenet-tiny-features", Levels(4, (4,)), tiny=True, **NET, local_size=2,
        local_strides=[2], **MIXTURE),
]  # fmt: skip

STEPS = {"hidden": 8, "recurrent": 6}
RNN_NADE = [
    row("rnn_nade-chords", Binary((3, 4)), **STEPS),
    row("rnn_nade-one-bit", Binary((1,)), tiny=True),
    row("rnn_nade-one-step", Levels(3, (3,)), tiny=True, **STEPS, num_classes=2),
    row("rnn_nade-one-voice", Levels(4, (5, 1)), tiny=True, **STEPS),
    row(
        "rnn_nade-voices",
        Levels(4, (3, 2)),
        **STEPS,
        inputs="one_hot",
        activation="relu",
        num_classes=2,
    ),
    row("rnn_nade-image", NINE, **STEPS, ordering="random", block=2),
    row("rnn_nade-vector", CUBE, **STEPS, condition_size=3, ordering="reverse"),
    row("rnn_nade-tiny", Levels(3, (2, 2)), tiny=True, hidden=2, recurrent=2, num_classes=2),
]

CASES = [*VIDEO_PIXEL_BASELINE, *VIDEO_PIXEL_NETWORK, *WAVENET, *RNN_NADE]
