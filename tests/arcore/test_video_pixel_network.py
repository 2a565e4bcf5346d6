"""Video Pixel Networks and their baseline: units, frames, gray targets, the order in detail."""

import copy
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.testing import assert_close

import arcore
from arcore.events import Binary, Gray, Levels, after_frames
from arcore.families.video import ClipModel
from arcore.layers.clip_layers import ConvLSTM, ResidualMultiplicativeBlock
from arcore.units import nats_to, to_nats
from tests.arcore.cases.sequences import VIDEO, VIDEO_BASE
from tests.support.cases import randomize
from tests.support.dependence import influence
from tests.support.events import CLIP
from tests.support.statistics import all_levels

VPN, BASELINE = "video_pixel_network", "video_pixel_baseline"
BOTH = [(VPN, VIDEO), (BASELINE, VIDEO_BASE)]
both = pytest.mark.parametrize(("name", "small"), BOTH, ids=[VPN, BASELINE])
TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def create(name: str, event: Levels, seed: int = 0, **hyperparameters: Any) -> ClipModel:
    model = arcore.create_model(name, event, **hyperparameters)
    assert isinstance(model, ClipModel)
    return randomize(model.double(), seed)  # type: ignore[return-value]


# -- layers


def test_a_dilated_block_reaches_both_dilations_from_the_pixel() -> None:
    block = ResidualMultiplicativeBlock(2, 3, dilation=2)
    x = torch.zeros(1, 4, 11, 11, requires_grad=True)
    block(x)[0, :, 5, 5].sum().backward()
    assert x.grad is not None
    reached = x.grad[0].abs().sum(0).nonzero()
    assert sorted({int(i) for i in reached[:, 0]}) == [1, 3, 5, 7, 9]


def test_conv_lstm_of_one_pixel_is_torchs_lstm() -> None:
    ours, width = ConvLSTM(3, 5, 1).double(), 5
    theirs = torch.nn.LSTM(3, width, batch_first=True).double()

    def reordered(weight: Tensor) -> Tensor:  # ours o, f, i, g; torch's i, f, g, o
        o, f, i, g = weight.flatten(1).split(width) if weight.dim() > 1 else weight.split(width)
        return torch.cat([i, f, g, o])

    with torch.no_grad():
        theirs.weight_ih_l0.copy_(reordered(ours.input_to_state.weight))
        theirs.weight_hh_l0.copy_(reordered(ours.state_to_state.weight))
        theirs.bias_ih_l0.copy_(reordered(ours.input_to_state.bias))
        theirs.bias_hh_l0.zero_()
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    assert_close(ours(x[..., None, None])[..., 0, 0], theirs(x)[0], **TIGHT)


def test_cells_keep_the_precision_of_the_parameters() -> None:
    net, frame = ConvLSTM(3, 5, 3), torch.randn(2, 3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = frame.bfloat16()  # as another convolution would give it
        h, c = net.step(coarse, net.zeros(coarse))
    assert c.dtype == torch.float32
    assert_close(c, net.step(frame, net.zeros(frame))[1], rtol=0.05, atol=0.02)
    assert h.isfinite().all()


# -- order


@pytest.mark.parametrize("blocks", [1, 2])
def test_no_frame_pixel_or_colour_leaks_and_none_is_out_of_sight(blocks: int) -> None:
    event = Levels(3, (3, 3, 2, 3))
    small = {**VIDEO, "width": 6, "head_width": 27, "decoder_blocks": blocks, "encoder_blocks": 2}
    model = create(VPN, event, **small)
    x = torch.randint(3, (32, *event.shape), generator=torch.Generator().manual_seed(0))
    seen = influence(model, x, None)
    assert torch.equal(seen, torch.ones_like(seen).tril(-1)), f"\n{seen.int()}"
    order = torch.cat(model.schedule)
    assert order[:4].tolist() == [0, 6, 12, 1]  # a pixel's colours, then the next pixel
    assert order[18] == 18  # then the next frame


# -- frames that are given


@both
def test_later_frames_given_earlier_ones_are_part_of_the_chain_rule(name: str, small: dict) -> None:
    model = create(name, CLIP, context_frames=2, **small)
    x = all_levels(CLIP)[::37]
    frames = model.frame_log_prob(x)
    assert_close(frames.sum(1), model.log_prob(x), **TIGHT)
    assert_close(model.frame_log_prob(x, first=1), frames[:, 1:], **TIGHT)
    assert_close(model(x), -frames[:, 2], **TIGHT)
    assert_close(model.validation_loss(x), -frames[:, 2], **TIGHT)
    assert model.scored_event == Binary((1, 1, 2, 2)) == after_frames(CLIP, 2)

    given = torch.tensor([1, 0, 0, 1, 1, 1, 0, 1]).view(2, 1, 2, 2).expand(16, -1, -1, -1, -1)
    clips = torch.cat([given, all_levels(Binary((1, 1, 2, 2)))], 1)
    total = model.frame_log_prob(clips, first=2).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-9)


@both
def test_frames_are_encoded_once_each_when_sampling(name: str, small: dict, monkeypatch) -> None:
    event = Binary((5, 1, 3, 3))
    model = create(name, event, **small)
    encoded: list[int] = []
    encode = model._encode
    monkeypatch.setattr(model, "_encode", lambda x, v: encoded.append(len(x)) or encode(x, v))
    drawn = model.sample(3, generator=torch.Generator().manual_seed(0))
    assert encoded == [3] * 4  # nothing comes after the last

    decoded: list[int] = []
    decode = model._frame_decoder
    monkeypatch.setattr(model, "_frame_decoder", lambda c, v: decoded.append(1) or decode(c, v))
    observed = torch.zeros(event.shape, dtype=torch.bool)
    observed[:3] = True
    again = model.impute(drawn, observed, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again[:, :3], drawn[:, :3])
    assert len(decoded) == 2 and encoded == [3] * 8  # given frames are not drawn
    observed[3, 0, 0] = True
    partly = model.impute(drawn, observed, generator=torch.Generator().manual_seed(0))
    assert torch.equal(partly[:, 3, 0, 0], drawn[:, 3, 0, 0])


# -- gray targets


@both
def test_gray_targets_cost_cross_entropy_and_never_less_than_their_entropy(
    name: str, small: dict
) -> None:
    event = Gray((3, 1, 4, 4))
    model = create(name, event, **small)
    x = torch.randint(256, (6, *event.shape), generator=torch.Generator().manual_seed(0))
    logits = model.conditionals(x).logits
    assert logits.shape == x.shape
    cost = binary_cross_entropy_with_logits(logits, x.double() / 255, reduction="none")
    assert_close(-model.log_prob(x), cost.flatten(1).sum(1), **TIGHT)
    assert (-model.log_prob(x) >= event.entropy(x)).all()
    drawn = model.sample(4, generator=torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) <= {0, 255}


@both
def test_gray_frames_are_decoded_as_they_are_scored(name: str, small: dict) -> None:
    """What is pushed and given may be any gray, though what is drawn is black or white."""
    event = Gray((3, 1, 2, 2))
    model = create(name, event, **small)
    x = torch.randint(256, (5, *event.shape), generator=torch.Generator().manual_seed(0))
    logits, decoder = model.conditionals(x).logits.flatten(1), model.decoder(5)
    for block in decoder.blocks:
        assert_close(decoder.next().logits, logits[:, block], **TIGHT)
        decoder.push(x.flatten(1)[:, block])
    seen = influence(model, x, None)
    assert torch.equal(seen, seen.tril(-1)) and seen.any()
    observed = torch.zeros(event.extents, dtype=torch.bool)
    observed[0] = True
    drawn = model.impute(x, observed)
    assert torch.equal(drawn[:, 0], x[:, 0]), "grays stay"
    assert set(drawn[:, 1:].unique().tolist()) <= {0, 255}


@both
def test_networks_of_gray_targets_keep_the_contract(name: str, small: dict, tmp_path: Path) -> None:
    """What the properties ask of every case, which are of levels and reals."""
    event = Gray((3, 1, 2, 2))
    model = create(name, event, **small).eval()
    x = torch.randint(256, (6, *event.shape), generator=torch.Generator().manual_seed(0))
    scores = model.log_prob(x)
    assert_close(torch.cat([model.log_prob(part) for part in x.split(4)]), scores, **TIGHT)
    assert model.log_prob(x[:0]).shape == (0,)
    assert torch.equal(copy.deepcopy(model).log_prob(x), scores)
    arcore.save(model, tmp_path / "model")
    assert torch.equal(arcore.load(tmp_path / "model").log_prob(x), scores)
    with torch.device("meta"):
        empty = arcore.create_model(name, event, **small).double()
    empty = empty.to_empty(device="cpu").eval()
    empty.load_state_dict(model.state_dict())
    assert torch.equal(empty.log_prob(x), scores)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = copy.deepcopy(model).float().log_prob(x)
    assert coarse.dtype == torch.float32
    assert_close(coarse.double(), scores, rtol=0.05, atol=0.05)
    model(x).mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_units_of_clips() -> None:
    event = after_frames(Gray((20, 1, 64, 64)), 10)
    assert nats_to("nats_per_frame", 863.0, event) == pytest.approx(86.3)
    assert nats_to("nats_per_dim", 4096.0, event) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="^unit: expected nats_per_frame for clips"):
        nats_to("nats_per_frame", 1.0, Levels(256, (3, 32, 32)))
    for unit in ("nats", "bits_per_dim", "nats_per_frame", "nats_per_dim"):
        assert to_nats(unit, nats_to(unit, 5.0, event), event) == pytest.approx(5.0)
    with pytest.raises(ValueError, match="unit: expected one of nats, .*, got 'bits'"):
        nats_to("bits", 1.0, event)


# -- size and errors

FULL = {
    "width": 128,
    "encoder_blocks": 8,
    "dilations": [1, 2, 4, 8],
    "recurrent_width": 256,
    "decoder_blocks": 12,
    "head_width": 256,
}


# A step of one clip in bfloat16 had a peak of 10.2 GiB, everything counted, and took 61 s of one
# core; in float32 the backward pass alone keeps 15.1 GiB (counted on the meta device).
FULL_MEMORY = 14 << 30


@pytest.mark.slow
def test_the_papers_size_takes_a_training_step() -> None:
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if free < FULL_MEMORY:
        pytest.skip(f"expected {FULL_MEMORY >> 30} GiB of free memory, found {free >> 30}")
    event = Gray((20, 1, 64, 64))
    model = arcore.create_model(VPN, event, context_frames=10, **FULL)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=3e-4)
    x = torch.randint(256, (1, *event.shape))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x).sum()
    loss.backward()
    optimizer.step()
    assert loss.isfinite() and all(p.isfinite().all() for p in model.parameters())


def test_a_first_frame_out_of_range_is_named() -> None:
    model = create(VPN, CLIP, **VIDEO)
    for bad in (3, True):
        with pytest.raises(ValueError, match=f"first: expected a frame of 0 to 2, got {bad}"):
            model.frame_log_prob(all_levels(CLIP)[:1], first=bad)
    assert math.isfinite(model.log_prob(all_levels(CLIP)[:1]).item())
