"""Cases of the models of images."""

from arcore.events import Binary, Levels, Real
from tests.support.cases import row
from tests.support.events import CUBE, NINE, REALS, RGB, ROW, TALL, WIDE

MIXTURE = {"head": "logistic_mixture"}
MCGSM = {"head": "mcgsm", "num_mixtures": 3}
COLOUR_REALS = Real((2, 2, 2), bin_width=0.25)
SIX, BLOCK = {"width": 6, "num_layers": 2}, {"hidden": 4, "num_blocks": 1}
THREE, CURVE = {"width": 4, "num_layers": 3}, {"ordering": "s_curve"}

# a blind spot is part of PixelCNN: a kernel as wide as the image leaves none
PIXELCNN = [
    row("pixelcnn-wide-kernel", NINE, hidden=4, num_blocks=2, first_kernel=5),
    row("pixelcnn-blind-spot", NINE, full=False, hidden=4, num_blocks=2, first_kernel=3),
    row("pixelcnn-one-bit", Binary((1,)), hidden=1, num_blocks=1),
    row("pixelcnn-vector", Binary((7,)), hidden=8, num_blocks=1, first_kernel=13),
    row("pixelcnn-levels", CUBE, hidden=9, num_blocks=2, head_width=33),
    row("pixelcnn-one-hot", CUBE, **BLOCK, inputs="one_hot", num_classes=2),
    row("pixelcnn-mixture", CUBE, hidden=3, num_blocks=1, **MIXTURE, num_mixtures=3),
    row("pixelcnn-column", NINE, hidden=4, num_blocks=2, first_kernel=5, ordering="column"),
    row("pixelcnn-vector-condition", CUBE, hidden=6, num_blocks=2, first_kernel=5,
        condition_size=3, kernel=5),
    row("pixelcnn-embedded", CUBE, hidden=6, num_blocks=2, first_kernel=5, embedding_width=3),
    row("pixelcnn-map", TALL, hidden=6, num_blocks=2, first_kernel=7,
        condition_shape=(1, 2, 3), condition_width=4),
    row("pixelcnn-prediction", CUBE, **BLOCK, **MIXTURE, linear_prediction=3),
    *(row(f"pixelcnn-s-curve-{n}", NINE, mask=n, hidden=6, num_blocks=1, first_kernel=5, **CURVE,
          num_orderings=8) for n in (1, 3, 7)),
    row("pixelcnn-s-curve-map", TALL, mask=5, hidden=4, num_blocks=1,
        first_kernel=5, condition_shape=(1, 2, 3), condition_width=4, **CURVE, num_orderings=6),
    row("pixelcnn-s-curves-mixture", CUBE, hidden=3, num_blocks=1, **MIXTURE, num_classes=2,
        **CURVE),
    row("pixelcnn-rgb", RGB, hidden=6, num_blocks=1, num_classes=2),
    row("pixelcnn-rgb-random", RGB, hidden=6, num_blocks=1, ordering="random", ordering_seed=3,
        kernel=1),
]  # fmt: skip

GATED_PIXELCNN = [
    *(row(f"gated_pixelcnn-{o}", NINE, **THREE, ordering=o) for o in ("reverse", "spiral")),
    row("gated_pixelcnn-reverse-map", Levels(2, (2, 2, 3)), **SIX, ordering="reverse",
        condition_shape=(1, 2, 3)),
    row("gated_pixelcnn-column-mixture", Levels(2, (2, 2, 3)), **SIX, ordering="column", **MIXTURE,
        linear_prediction=5),
    row("gated_pixelcnn-raster", NINE, **THREE),
    row("gated_pixelcnn-wide", WIDE, width=6, num_layers=4, first_kernel=3, kernel=5),
    row("gated_pixelcnn-another-random", WIDE, **SIX, ordering="random", ordering_seed=5),
    row("gated_pixelcnn-one-bit", Binary((1,)), width=2, num_layers=1),
    row("gated_pixelcnn-classes", Levels(3, (2, 3)), width=4, num_layers=2, num_classes=3),
    row("gated_pixelcnn-one-hot", CUBE, width=5, num_layers=2, inputs="one_hot"),
    row("gated_pixelcnn-embedded", CUBE, width=5, num_layers=2, embedding_width=3),
    row("gated_pixelcnn-vector", CUBE, width=4, num_layers=2, condition_size=3),
    row("gated_pixelcnn-map", CUBE, width=4, num_layers=2, condition_shape=(2, 1, 1),
        condition_width=5),
    row("gated_pixelcnn-mixture", CUBE, width=4, num_layers=2, **MIXTURE, num_mixtures=3,
        linear_prediction=3),
    row("gated_pixelcnn-attention", TALL, width=5, num_layers=4, attention_layers=2,
        attention_width=3, num_classes=2),
    row("gated_pixelcnn-attention-mixture", CUBE, **SIX, **MIXTURE, attention_layers=1,
        ordering="column", linear_prediction=3),
    *(row(f"gated_pixelcnn-s-curve-{n}", NINE, mask=n, **THREE, **CURVE, num_orderings=8)
      for n in (1, 3, 7)),
    row("gated_pixelcnn-s-curve-map", TALL, mask=5, **SIX, **CURVE, num_orderings=6,
        condition_shape=(1, 2, 3)),
    row("gated_pixelcnn-s-curves-mixture", CUBE, **SIX, **MIXTURE, **CURVE, condition_size=3),
    row("gated_pixelcnn-mcgsm", REALS, **THREE, **MCGSM, num_classes=2),
    row("gated_pixelcnn-s-curve-mcgsm", COLOUR_REALS, mask=3, **SIX, **MCGSM, **CURVE,
        num_orderings=4),
    row("gated_pixelcnn-rgb", RGB, width=10, num_layers=2, head_width=25),
    row("gated_pixelcnn-tiny-mixture", Levels(3, (2, 1, 2)), tiny=True, **SIX, **MIXTURE,
        condition_size=3),
]  # fmt: skip

LSTM = {"hidden": 6, "head_width": 16}
EIGHT = {"hidden": 8, "head_width": 16}
COLOURS = {"hidden": 9, "head_width": 36, "num_classes": 2}
GIVEN_MAP = {"condition_shape": (1, 2, 3), "condition_width": 4}
# the Row LSTM's triangle leaves out pixels that a first kernel as wide as the image sees
ROW_LSTM = [
    row("row_lstm-binary", NINE, **LSTM),
    row("row_lstm-triangle", NINE, full=False, **LSTM, first_kernel=3, residual=False, kernel=5),
    row("row_lstm-one-bit", Binary((1,)), hidden=1, num_layers=1, skip=False),
    row("row_lstm-vector", Binary((7,)), **LSTM, first_kernel=13, num_layers=1),
    row("row_lstm-classes", Levels(3, (2, 3)), **LSTM, num_layers=1, num_classes=3),
    row("row_lstm-one-hot", CUBE, hidden=8, head_width=24, inputs="one_hot"),
    row("row_lstm-mixture", CUBE, **LSTM, **MIXTURE, num_mixtures=3, condition_size=3),
    row("row_lstm-mcgsm", COLOUR_REALS, **LSTM, **MCGSM),
    row("row_lstm-rgb", RGB, **COLOURS),
    row("row_lstm-map", TALL, **LSTM, **GIVEN_MAP, kernel=1),
]
DIAGONAL_BILSTM = [
    row("diagonal_bilstm-binary", NINE, **EIGHT, first_kernel=3),
    row("diagonal_bilstm-one-bit", Binary((1,)), hidden=1, num_layers=1, skip=False),
    row("diagonal_bilstm-vector", Binary((7,)), **EIGHT, residual=False),
    row("diagonal_bilstm-wide", WIDE, **LSTM, first_kernel=3, residual=False, skip=False),
    row("diagonal_bilstm-classes", Levels(3, (2, 3)), **LSTM, num_layers=1, num_classes=3),
    row("diagonal_bilstm-one-hot", CUBE, hidden=8, head_width=24, inputs="one_hot"),
    row("diagonal_bilstm-mixture", CUBE, **LSTM, **MIXTURE, num_mixtures=3, condition_size=3),
    row("diagonal_bilstm-rgb", RGB, **COLOURS),
    row("diagonal_bilstm-map", TALL, **EIGHT, **GIVEN_MAP),
]
SPATIAL_LSTM = [
    row("spatial_lstm-reals", REALS, hidden=6, **MCGSM),
    row("spatial_lstm-plane", Real((1, 1, 2)), hidden=2, num_layers=1, head="mcgsm",
        num_mixtures=1),
    row("spatial_lstm-one-real", Real((1,)), **MCGSM, hidden=1, num_layers=1),
    row("spatial_lstm-two-colours", Real((2, 1, 1)), **MCGSM, hidden=2, num_classes=2),
    row("spatial_lstm-bins", COLOUR_REALS, **MCGSM, hidden=6, first_kernel=3,
        linear_prediction=3),
    row("spatial_lstm-three-colours-map", Real((3, 2, 2)), **MCGSM, hidden=6,
        condition_shape=(1, 2, 2), condition_width=4),
    row("spatial_lstm-vector", Real((7,)), **MCGSM, hidden=6, condition_size=3),
    row("spatial_lstm-levels", NINE, hidden=6),
    row("spatial_lstm-one-hot", CUBE, hidden=6, inputs="one_hot", num_classes=2),
    row("spatial_lstm-mixture", CUBE, hidden=6, **MIXTURE, num_mixtures=3, linear_prediction=3),
]  # fmt: skip

BASE = {"base_num_layers": 1, "condition_width": 6}
SCALES = {"hidden": 6, "head_width": 24, "base_hidden": 6, **BASE}
MULTISCALE_PIXELRNN = [
    row("multiscale_pixelrnn-binary", NINE, **SCALES),
    row("multiscale_pixelrnn-row-lstm", NINE, **SCALES, core="row_lstm", kernel=5, residual=False),
    row("multiscale_pixelrnn-factor-3", NINE, **SCALES, factor=3, skip=False),
    row("multiscale_pixelrnn-one-bit", Binary((1,)), base_hidden=1, core="row_lstm"),
    row("multiscale_pixelrnn-one-pixel", Levels(2, (3, 1, 1)), hidden=6, head_width=24,
        base_hidden=9, **BASE),
    row("multiscale_pixelrnn-wide", WIDE, **SCALES, num_layers=1, first_kernel=5),
    row("multiscale_pixelrnn-classes", Levels(3, (2, 3)), **SCALES, num_classes=2),
    row("multiscale_pixelrnn-one-hot", CUBE, **SCALES, inputs="one_hot", condition_size=3),
    row("multiscale_pixelrnn-mixture", CUBE, **SCALES, **MIXTURE, num_mixtures=4, num_classes=2),
    row("multiscale_pixelrnn-rgb", RGB, hidden=9, base_hidden=9, head_width=36, **BASE),
    row("multiscale_pixelrnn-map", TALL, **SCALES, condition_shape=(1, 2, 3)),
]  # fmt: skip

NETWORK = {"base_width": 8, "base_layers": 1, "width": 8, "num_blocks": 1, "head_width": 16}
COARSE = {"base": "pixelcnn", "base_size": 1, **NETWORK}
LARGER = {"base": "pixelcnn", "base_size": 2, **NETWORK}
PATCHES = {"upscaling": "B", "patch_blocks": 1}
PARALLEL_MULTISCALE = [
    row("parallel_multiscale-binary", NINE, **LARGER),
    row("parallel_multiscale-gated-base-classes", Binary((1, 3, 4)),
        **{**LARGER, "base": "gated_pixelcnn", "base_width": 6, "base_layers": 3}, **PATCHES,
        patch_grid=1, num_classes=2),
    row("parallel_multiscale-one-patch", Binary((3, 4)), **LARGER, **PATCHES, patch_grid=1),
    row("parallel_multiscale-one-bit", Binary((1,)), **COARSE),
    row("parallel_multiscale-vector", Binary((7,)), full=False, **LARGER, **PATCHES, patch_grid=2),
    row("parallel_multiscale-one-hot", ROW, **LARGER, inputs="one_hot"),
    row("parallel_multiscale-mixture", ROW, **LARGER, **MIXTURE, num_mixtures=3, num_classes=2),
    row("parallel_multiscale-prediction", CUBE, **COARSE, **MIXTURE, linear_prediction=3),
    row("parallel_multiscale-rgb", RGB, **COARSE, condition_size=3),
    row("parallel_multiscale-map", TALL, full=False, **COARSE, **GIVEN_MAP),
    row("parallel_multiscale-classes", TALL, **COARSE, **PATCHES, patch_grid=1, kernel=5,
        patch_kernel=5, num_classes=2),
    row("parallel_multiscale-wide-mixture", Levels(2, (2, 1, 5)), **LARGER, **PATCHES, patch_grid=1,
        **MIXTURE, linear_prediction=3),
    row("parallel_multiscale-tiny-mixture", Levels(2, (2, 1, 3)), tiny=True, **COARSE, **MIXTURE),
]  # fmt: skip

LATENT = {"latent_size": 2, "width": 4, "num_layers": 2}
VECTOR = {**LATENT, "head_width": 12}
MAPS = {**VECTOR, "condition_width": 4}
MAP_PRIOR = {"num_levels": 2, "latent_channels": 2, "prior_width": 4, "prior_blocks": 1}
TWO = {**MAPS, **MAP_PRIOR}
ONCE, TWICE = [4], [4, 4]  # stages of the encoder
PIXELVAE = [
    row("pixelvae-binary", NINE, **MAPS, encoder=ONCE),
    row("pixelvae-warmup", NINE, **VECTOR, encoder=ONCE, upsample=False, warmup_steps=9),
    row("pixelvae-free-bits", NINE, **TWO, encoder=ONCE, free_nats=[0.5, 1.0], warmup_steps=3,
        top_warmup_steps=9),
    row("pixelvae-two-levels", NINE, **TWO, encoder=ONCE),
    row("pixelvae-one-bit", Binary((1,)), **TWO, encoder=TWICE),
    row("pixelvae-wide", WIDE, **VECTOR, encoder=TWICE, first_kernel=9, kernel=5, upsample=False),
    row("pixelvae-classes", Levels(3, (2, 3)), **MAPS, encoder=ONCE, num_classes=2),
    row("pixelvae-one-hot", CUBE, **VECTOR, encoder=TWICE, num_classes=2, upsample=False,
        inputs="one_hot"),
    row("pixelvae-mixture", CUBE, **LATENT, condition_width=4, encoder=TWICE, **MIXTURE,
        num_mixtures=3, head_width=6),
    row("pixelvae-two-levels-classes", Levels(2, (1, 3, 3)), **TWO, encoder=ONCE, num_classes=2),
    row("pixelvae-tiny-two-levels", RGB, tiny=True, encoder=TWICE,
        **{**TWO, "width": 6, "head_width": 18}),
]  # fmt: skip

CASES = [
    *PIXELCNN, *GATED_PIXELCNN, *ROW_LSTM, *DIAGONAL_BILSTM, *SPATIAL_LSTM,
    *MULTISCALE_PIXELRNN, *PARALLEL_MULTISCALE, *PIXELVAE,
]  # fmt: skip
