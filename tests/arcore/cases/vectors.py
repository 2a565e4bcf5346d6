"""Cases of NADE, RNADE, MADE and the orderless models."""

from arcore.events import Binary, Levels, Real
from tests.support.cases import row
from tests.support.events import ATOMS, CUBE, NINE, REALS, RGB, TABLE, UNEVEN

NADE = [
    row("nade-raster", NINE, hidden=8, ordering="raster"),
    row("nade-one-bit", Binary((1,))),
    row("nade-one-level", Levels(3, (1,))),
    row("nade-uneven-blocks", Binary((12,)), hidden=8, block=5),
    row("nade-relu", NINE, hidden=8, activation="relu", block=1),
    row("nade-one-hot", CUBE, hidden=8, inputs="one_hot", ordering="random", block=3),
    row(
        "nade-classes", Levels(5, (3,)), hidden=4, num_classes=3, ordering="random", ordering_seed=7
    ),
    row("nade-one-hidden", Levels(2, (5,)), hidden=1, ordering="reverse"),
    row("nade-uneven", UNEVEN, hidden=8, ordering="reverse"),
    row("nade-uneven-one-hot", UNEVEN, hidden=8, inputs="one_hot", condition_size=2),
    row("nade-atoms", ATOMS, hidden=8),
    row("nade-table", TABLE, hidden=8, ordering="random", num_classes=2),
]

DENSITY = {"hidden": 6, "components": 3}
RNADE = [
    row("rnade-raster", REALS, **DENSITY, ordering="raster"),
    row("rnade-one-real", Real((1,))),
    row("rnade-plane", Real((2,)), hidden=4, components=1, min_log_scale=-1.0),
    row("rnade-laplace-classes", Real((2,)), **DENSITY, component="laplace", num_classes=3),
    row("rnade-uneven-blocks", Real((12,)), **DENSITY, block=5),
    row("rnade-laplace", Real((7,)), **DENSITY, block=1, component="laplace"),
    row(
        "rnade-classes",
        REALS,
        **DENSITY,
        num_classes=2,
        block=4,
        ordering="random",
        ordering_seed=7,
    ),
    row("rnade-sigma-preconditioner", REALS, **DENSITY, sigma_preconditioner=True, block=4),
    row("rnade-bins", Real((2, 2), bin_width=0.25), hidden=8, mean_range=(-1.0, 2.0)),
    row("rnade-plane-vector", Real((2,)), **DENSITY, condition_size=2),
]

AGNOSTIC = {"order_agnostic": True}
MADE = [
    row("made-raster", NINE, hidden=[24], ordering="raster"),
    row("made-one-bit", Binary((1,))),
    row("made-one-level", Levels(3, (1,)), hidden=[4, 4], num_classes=2),
    row("made-one-bit-any-mask", Binary((1,)), num_masks=0, **AGNOSTIC, direct=False),
    row("made-wide", Binary((6,)), hidden=[520, 520]),  # wide enough for groups of rows
    row("made-three-layers", NINE, hidden=[24, 16, 24], activation="sigmoid", direct=False),
    row("made-conditioning", NINE, hidden=[16], conditioning_weights=True, ordering="random"),
    row("made-one-hot", CUBE, hidden=[24, 24], inputs="one_hot", ordering="column"),
    row("made-classes", Levels(5, (3,)), hidden=[6], num_classes=3, inputs="one_hot"),
    row("made-narrow", CUBE, full=False, hidden=[1, 1], direct=False, activation="tanh"),
    row("made-masks", NINE, mask=3, hidden=[12], num_masks=4),
    row("made-orders", NINE, mask=2, hidden=[12, 12], num_masks=3, **AGNOSTIC),
    row("made-orders-classes", CUBE, mask=4, hidden=[16], num_masks=5, **AGNOSTIC,
        connectivity_agnostic=False, inputs="one_hot", num_classes=2),
    row("made-any-mask", NINE, mask=1000, hidden=[12, 12], num_masks=0, **AGNOSTIC,
        conditioning_weights=True, ordering="spiral"),
    row("made-uneven-one-hot", UNEVEN, hidden=[12, 12], inputs="one_hot", condition_size=2),
    row("made-atoms", ATOMS, hidden=[24], inputs="one_hot"),
    row("made-table", TABLE, hidden=[24]),
    row("made-table-orders", TABLE, hidden=[24], mask=1, num_masks=3, **AGNOSTIC, inputs="one_hot",
        num_classes=2),
]  # fmt: skip

DEEP_NADE = [
    row("deep_nade-raster", NINE, hidden=[12], ordering="raster"),
    row("deep_nade-one-bit", Binary((1,))),
    row("deep_nade-one-level", Levels(3, (1,)), hidden=[4, 4], num_classes=2),
    row("deep_nade-three-layers", Binary((7,)), hidden=[12, 12, 12], activation="tanh"),
    row("deep_nade-no-mask-inputs", NINE, hidden=[12], mask_inputs=False, ordering="spiral"),
    row("deep_nade-one-hot", CUBE, hidden=[16, 16], inputs="one_hot", num_classes=3),
    row("deep_nade-orders", NINE, mask=3, hidden=[12, 12], num_orderings=4),
    row("deep_nade-any-order", CUBE, mask=1000, hidden=[16], activation="tanh", ordering="snake"),
    row("deep_nade-uneven-one-hot", UNEVEN, hidden=[12], inputs="one_hot", condition_size=2),
    row("deep_nade-atoms", ATOMS, hidden=[12], inputs="one_hot"),
    row("deep_nade-table", TABLE, hidden=[12], mask=2),
]

NADE_K = [
    row("nade_k-one-bit", Binary((1,))),
    row("nade_k-orders", NINE, mask=3, hidden=[12, 12], steps=3, num_orderings=4),
    row(
        "nade_k-annealed",
        Binary((7,)),
        hidden=[12],
        mask_inputs=False,
        activation="tanh",
        annealing_steps=2,
    ),
    row("nade_k-classes", Levels(3, (2, 3)), hidden=[12], steps=2, num_classes=2),
    row("nade_k-one-hot", CUBE, hidden=[16], steps=2, inputs="one_hot", ordering="snake"),
    row("nade_k-uneven", UNEVEN, hidden=[12], steps=2, condition_size=2),
    row("nade_k-uneven-one-hot", UNEVEN, hidden=[12], steps=2, inputs="one_hot"),
]

SMALL = {"channels": [6, 6], "kernels": [3, 2]}
CONV_NADE = [
    row("conv_nade-orders", NINE, mask=2, channels=[6, 4], kernels=[2, 2], hidden=[12, 8],
        num_orderings=3),
    row("conv_nade-wide-kernel", NINE, channels=[8], kernels=[8], hidden=[], ordering="column"),
    row("conv_nade-one-bit", Binary((1,)), **SMALL, hidden=[4]),
    row("conv_nade-vector", Binary((7,)), **SMALL, hidden=[8], activation="tanh"),
    row("conv_nade-classes", Levels(3, (2, 3)), **SMALL, hidden=[8], num_classes=2),
    row("conv_nade-one-hot", CUBE, **SMALL, hidden=[8], inputs="one_hot", mask_inputs=False),
    row("conv_nade-rgb", RGB, channels=[6], kernels=[2], hidden=[], num_classes=2),
    row("conv_nade-clip", Binary((2, 1, 2, 2)), **SMALL, hidden=[8]),
    row("conv_nade-uneven-one-hot", UNEVEN, **SMALL, hidden=[4], inputs="one_hot",
        condition_size=2),
]  # fmt: skip

EIGHT_WIDE = {"width": 8, "num_heads": 2}
ANY_ORDER_TRANSFORMER = [
    row("any_order_transformer-orders", NINE, mask=2, **EIGHT_WIDE, num_orderings=3),
    row("any_order_transformer-fixed", NINE, **EIGHT_WIDE, num_layers=1, training_orders="fixed"),
    row("any_order_transformer-one-bit", Binary((1,))),
    row("any_order_transformer-patches", Binary((1, 2, 4)), **EIGHT_WIDE, patch=2, num_classes=2),
    row("any_order_transformer-cube", CUBE, **EIGHT_WIDE, training_orders="given_first"),
    row("any_order_transformer-rgb-patches", Levels(2, (2, 2, 2)), **EIGHT_WIDE, patch=2, mask=3,
        ordering="snake"),
    row("any_order_transformer-uneven", UNEVEN, **EIGHT_WIDE, condition_size=2),
    row("any_order_transformer-atoms", ATOMS, **EIGHT_WIDE),
    row("any_order_transformer-table", TABLE, **EIGHT_WIDE, mask=2, num_classes=2),
]  # fmt: skip

CASES = [*NADE, *RNADE, *MADE, *DEEP_NADE, *NADE_K, *CONV_NADE, *ANY_ORDER_TRANSFORMER]
