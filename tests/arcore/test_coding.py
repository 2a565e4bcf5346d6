"""Coding is lossless, as short as -log2 p, and refuses whatever it could not decode."""

import dataclasses
import math
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import arcore
from arcore import bitstream, coded_batches, coding, entropy
from arcore.coding import compress, decompress
from arcore.events import Binary, Gray, Levels, Real
from tests.arcore.cases import FEWEST, FIRST, cases_where
from tests.support.cases import Case, randomize

NET = {"width": 4, "gate_width": 3, "skip_width": 12, "cycle": 3, "num_blocks": 2}
HEADER_BYTES = 140
FUZZED = 1200


def small_model(**hyperparameters: object) -> arcore.AutoregressiveModel:
    event = Levels(5, (2, 3))
    torch.manual_seed(0)
    return randomize(arcore.create_model("nade", event, hidden=4, **hyperparameters)).eval()


def some_levels(model: arcore.AutoregressiveModel, count: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(model.event.num_levels, (count, *model.event.shape), generator=generator)


@cases_where(lambda case: case in FEWEST and case.discrete and case.kind.exact)
def test_every_exact_model_goes_round_in_minus_log2_p(case: Case) -> None:
    """With a last batch of another size, all conditions, in half precision and portably too.

    A table that is wrong in the same way on both sides would still go round.
    """
    model, labels = case.build().eval(), case.condition(100)
    x = model.sample(100, labels, torch.Generator().manual_seed(0))
    with torch.no_grad():
        ideal = -model.log_prob(x, labels).sum().item() / math.log(2) / 8
    data = compress(model, x, labels, batch=60, verify=False)
    assert ideal - 8 < sum(map(len, bitstream.split(data)[1])) < ideal * 1.005 + 12
    assert torch.equal(decompress(model, data, labels), x)
    if case is FIRST[case.model]:
        half, x, labels = model.bfloat16(), case.values(5), case.condition(5)
        data = compress(half, x, labels, verify=False)
        assert torch.equal(decompress(half, data, labels), x)
        data = compress(half, x, labels, portable=True, verify=False)
        assert torch.equal(decompress(half, data, labels), x)


def test_a_training_model_is_coded_in_evaluation_and_stays_in_training() -> None:
    event = Binary((6,))
    options = {"hidden": [8], "dropout": 0.5, "num_masks": 3}
    model = randomize(arcore.create_model("made", event, **options)).train()
    model.set_step(0, 1)
    x, mask = torch.randint(2, (4, 6)), model.output.mask.clone()
    data = compress(model, x)
    assert model.training and torch.equal(model.output.mask, mask)
    assert model._step_is_given and model._next_step == 2
    assert not torch.equal(model.member(0).output.mask, mask), "the step's are others"
    assert torch.equal(decompress(model.eval(), data), x)


def test_several_chunks_of_sounds_of_several_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coded_batches, "CHUNK_DIMENSIONS", 20)
    model = arcore.create_model("wavenet", Levels(16, (None,)), **NET, num_classes=3)
    model = randomize(model).eval()
    lengths, given = torch.tensor([10, 3, 1, 10, 7, 2]), torch.tensor([0, 1, 2, 2, 1, 0])
    x = torch.randint(16, (6, 10)).where(torch.arange(10) < lengths[:, None], 0)
    data = compress(model, x, given, lengths=lengths, batch=2)
    assert len(bitstream.split(data)[1]) == 3
    assert torch.equal(decompress(model, data, given), x)


@pytest.mark.parametrize(
    ("name", "event", "options"),
    [("wavenet", Levels(16, (None,)), NET), ("rnn_nade", Levels(3, (None, 5)), {"hidden": 6})],
    ids=["sounds", "chords"],
)
def test_sequences_of_several_lengths(name: str, event: Levels, options: dict[str, Any]) -> None:
    """They cost what a sequence alone costs, whatever is in a row after its end."""
    model = randomize(arcore.create_model(name, event, **options)).eval()
    lengths = torch.tensor([40, 39, 17, 40, 1, 2])
    x = torch.randint(event.num_levels, (6, 40, *event.shape[1:]))
    data = compress(model, x, lengths=lengths, batch=4)
    decoded = decompress(model, data)
    found = coding.lengths_of(data)
    assert found is not None and torch.equal(found, lengths)
    for row, same, length in zip(x, decoded, lengths.tolist(), strict=True):
        assert torch.equal(row[:length], same[:length]) and not same[length:].any()
    ideal = sum(
        -model.of_length(n).log_prob(row[None, :n]).item()
        for row, n in zip(x, lengths.tolist(), strict=True)
    )
    assert len(data) < ideal / math.log(2) / 8 * 1.001 + HEADER_BYTES
    x[2, 17:] = 1
    assert compress(model, x, lengths=lengths, batch=4, verify=False) == data
    assert coding.lengths_of(compress(model, x[:1], verify=False)) is None


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([5, 0]), r"lengths: expected 2 integers in \[1, 5\], got '0 to 5'"),
        (torch.tensor([5, 6]), r"lengths: expected 2 integers in \[1, 5\], got '5 to 6'"),
        (torch.tensor([5]), "lengths: expected 2 integers"),
        (torch.tensor([5.0, 5.0]), "lengths: expected 2 integers"),
        ([5, 5], "lengths: expected 2 integers"),
        (torch.tensor([True, True]), "lengths: expected 2 integers"),
        (torch.tensor([5, 5]).to("meta"), "lengths: expected a dense tensor"),
        (torch.tensor([5, 5]).to_sparse(), "lengths: expected a dense tensor"),
    ],
)
def test_bad_lengths(lengths: object, message: str) -> None:
    model = arcore.create_model("wavenet", Levels(16, (None,)), **NET)
    with pytest.raises(ValueError, match=message):
        compress(model, torch.zeros(2, 5), lengths=lengths)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lengths: expected None for an event of one length"):
        compress(small_model(), torch.zeros(2, 2, 3), lengths=torch.tensor([2, 2]))


@pytest.mark.parametrize("lengths", [(5,), (5, 0), (5, 6), (5, 1 << 65)])
def test_lengths_that_cannot_be_are_damage(lengths: tuple[int, ...]) -> None:
    model = arcore.create_model("wavenet", Levels(16, (None,)), **NET)
    data = compress(model, torch.zeros(2, 5), lengths=torch.tensor([5, 4]), verify=False)
    header, codes = bitstream.split(data)
    changed = bitstream.join(dataclasses.replace(header, lengths=lengths), codes)
    with pytest.raises(ValueError, match=r"data: lengths: expected 2 in \[1, 5\], got"):
        coding.lengths_of(changed)
    with pytest.raises(ValueError, match="model: expected"):
        decompress(model, changed)


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_makes_no_difference(threads: int) -> None:
    """Of loops that torch cuts for several threads, above 32,768 values, too."""
    model = randomize(arcore.create_model("nade", Levels(2, (150,)), hidden=507)).eval()
    x = torch.randint(2, (100, 150), generator=torch.Generator().manual_seed(0))
    data, before = compress(model, x, verify=False), torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(decompress(model, data), x)
        assert compress(model, x, verify=False) == data
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_modes_of_products_make_no_difference() -> None:
    """Which hardware that has TF32 or bfloat16 would follow; whoever decodes may not set them."""
    model = arcore.create_model("made", Levels(2, (5,)), hidden=[4]).eval()
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.benchmark = True
    try:
        with entropy.same_numbers(model):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.benchmark and not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.benchmark and torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.benchmark = False


def test_autocast_makes_no_difference() -> None:
    model = randomize(arcore.create_model("gated_pixelcnn", Levels(5, (1, 4, 4)), width=4)).eval()
    x = torch.randint(5, (3, 1, 4, 4))
    data = compress(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert compress(model, x) == data


def damaged(data: bytes, other: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(data))
    end = chance.randrange(place, len(data)) + 1
    return chance.choice(
        [
            lambda: (
                data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
            ),
            lambda: data[:place] + chance.randbytes(end - place) + data[end:],
            lambda: data[:place],
            lambda: data[:place] + data[end:],
            lambda: data[:end] + data[place:],
            lambda: data[:place] + other[place:],
            lambda: data + chance.randbytes(1 + chance.randrange(8)),
        ]
    )()


def test_no_damaged_stream_decodes_to_other_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coded_batches, "CHUNK_DIMENSIONS", 30)
    model = small_model()
    x = some_levels(model, 20)
    data, other = compress(model, x, batch=5), compress(model, x.flip(0), batch=5)
    chance, tried = random.Random(0), 0
    while tried < FUZZED:
        bad = damaged(data, other, chance)
        if bad in (data, other):
            continue
        tried += 1
        with pytest.raises(ValueError, match=r"^data: "):
            decompress(model, bad)


def test_levels_are_checked_where_no_checksum_of_bytes_helps() -> None:
    """Streams whose CRCs are made to fit: what they decode to has checksums too."""
    model = small_model()
    x = some_levels(model, 20)
    header, codes = bitstream.split(compress(model, x))
    chance = random.Random(0)
    for _ in range(100):
        code = bytearray(codes[0])
        code[chance.randrange(len(code))] ^= 1 << chance.randrange(8)
        chunk = bitstream.Chunk(len(code), coding.zlib.crc32(code), header.chunks[0].levels_crc)
        forged = bitstream.join(bitstream.dataclasses.replace(header, chunks=(chunk,)), [code])
        with pytest.raises(ValueError, match="data: expected chunk 0 to decode to what was"):
            decompress(model, forged)


def test_probabilities_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a unit in the last place, as on other hardware: by the probe, or by what is decoded."""
    model = small_model()
    x = some_levels(model, 50)
    data = compress(model, x)
    table = coding.table_of

    def perturbed(*arguments: object) -> object:
        found = table(*arguments)
        return found * (1 + 2**-40 * torch.arange(found.shape[-1], dtype=torch.float64))

    monkeypatch.setattr(coding, "table_of", perturbed)
    with pytest.raises(ValueError, match="probabilities of encoding"):
        decompress(model, data)


def test_encoding_is_verified_by_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probabilities that change after both probes are found out by what is decoded."""
    model = small_model()
    table, calls = coding.table_of, []

    def late(*arguments: object) -> object:
        calls.append(0)
        found = table(*arguments)
        return found.flip(-1) if len(calls) > 3 * len(model.schedule) else found

    monkeypatch.setattr(coding, "table_of", late)
    with pytest.raises(ValueError, match="expected chunk 0 to decode to what was encoded"):
        compress(model, some_levels(model))


def test_nan_never_reaches_the_coder() -> None:
    model = small_model()
    x = some_levels(model)
    next(model.parameters()).data.fill_(torch.nan)
    with pytest.raises(ValueError, match="model: expected finite probabilities, got 'NaN'"):
        compress(model, x)


def ensemble() -> arcore.AutoregressiveModel:
    return arcore.Ensemble([small_model(), small_model(ordering="reverse")])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (ensemble, "model: expected a model with a schedule"),
        (lambda: arcore.create_model("pixelvae", Binary((1, 4, 4))), "model: expected an exact"),
        (lambda: arcore.create_model("rnade", Real((3,))), "model: expected an event of levels"),
        (
            lambda: arcore.create_model("video_pixel_network", Gray((2, 1, 2, 2))),
            "model: expected an event of levels",
        ),
        (lambda: "made", "model: expected a model, got 'str'"),
    ],
)
def test_models_that_cannot_code(
    make: Callable[[], arcore.AutoregressiveModel], message: str
) -> None:
    model = make()
    with pytest.raises(ValueError, match=f"^{message}"):
        compress(model, torch.zeros(2, 2, 3))
    with pytest.raises(ValueError, match=f"^{message}"):
        decompress(model, b"")


def test_bad_arguments_of_compress() -> None:
    model = small_model()
    x = some_levels(model)
    for bad, message in (
        ({"x": x[:0]}, "x: expected a row at least"),
        ({"x": x[:, :1]}, "x: expected shape"),
        ({"x": x + 1}, "x: expected levels in"),
        ({"batch": 0}, "batch: expected an integer >= 1"),
        ({"condition": torch.zeros(7).long()}, "condition: expected None"),
    ):
        with pytest.raises(ValueError, match=message):
            compress(model, **{"x": x, **bad})


def test_another_model_event_condition_or_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model(num_classes=3)
    x, classes = some_levels(model), torch.arange(7) % 3
    data = compress(model, x, classes)
    assert torch.equal(decompress(model, data, classes), x)
    with pytest.raises(ValueError, match="condition: expected that of encoding"):
        decompress(model, data, classes.flip(0))
    with pytest.raises(ValueError, match="condition: expected int64 class labels"):
        decompress(model, data)
    with pytest.raises(ValueError, match="data: dtype: expected float64, as here, got 'float32'"):
        decompress(small_model(num_classes=3).double(), data, classes)
    other = small_model(num_classes=3)
    next(other.parameters()).data.view(-1)[0] += 2**-20
    with pytest.raises(ValueError, match="model: expected the model that encoded"):
        decompress(other, data, classes)
    with pytest.raises(ValueError, match="model: expected Levels.*as coded, got Levels"):
        decompress(arcore.create_model("nade", Levels(5, (3, 2)), hidden=4), data, classes)
    with pytest.raises(ValueError, match="model: expected the model that encoded"):
        decompress(arcore.create_model("nade", Levels(5, (2, 3)), hidden=4), data)
    for index, name in enumerate(("dtype", "device", "torch", "constriction")):
        runtime = list(coding._runtime(model))
        runtime[index] = "other"
        with monkeypatch.context() as patch:
            patch.setattr(coding, "_runtime", lambda _, found=tuple(runtime): found)
            with pytest.raises(ValueError, match=f"data: {name}: expected other, as here, got"):
                decompress(model, data, classes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "data: expected coded events"),
        (b"ARC", "data: expected coded events"),
        (b"PNG....", "data: expected coded events"),
        (b"ARCL", "data: truncated or damaged"),
        (b"ARCL\x01", "data: expected format 2, got 1"),
        ("ARCL", "data: expected bytes, got 'str'"),
    ],
)
def test_what_is_no_coded_data(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decompress(small_model(), data)


def test_a_header_of_more_than_there_is_costs_nothing() -> None:
    model, x = small_model(), torch.zeros(2, *small_model().event.shape)
    header, codes = bitstream.split(compress(model, x))
    for count, batch, message in (
        (2, 1 << 33, "a sound header"),
        (1 << 27, 1, "chunks"),
        (1 << 45, 1 << 45, "batch: expected at most 65,536 rows side by side"),
        (1 << 27, 1 << 27, "batch: expected at most 65,536 rows side by side"),
    ):
        crafted = bitstream.dataclasses.replace(header, count=count, batch=batch)
        with pytest.raises(ValueError, match=f"data: .*{message}"):
            decompress(model, bitstream.join(crafted, codes))


def test_a_row_of_more_steps_than_are_coded_costs_nothing() -> None:
    model = arcore.create_model("wavenet", Levels(16, (None,)), **NET)
    header, codes = bitstream.split(compress(model, torch.zeros(1, 5)))
    for steps in (1 << 40, 1 << 24):
        crafted = bitstream.dataclasses.replace(header, extents=(steps,))
        with pytest.raises(ValueError, match="^data: extents: expected at most 2,097,152 steps"):
            decompress(model, bitstream.join(crafted, codes))
    with pytest.raises(ValueError, match="^x: expected at most 2,097,152 steps"):
        compress(model, torch.zeros(1, (1 << 21) + 1))
    many = {"count": 1 << 16, "batch": 1 << 16, "lengths": (1,) * (1 << 16)}
    crafted = bitstream.dataclasses.replace(header, extents=(1 << 21,), **many)
    with pytest.raises(ValueError, match="^data: batch: expected at most 65,536 rows side by sid"):
        decompress(model, bitstream.join(crafted, codes))


def test_a_batch_of_more_than_memory_holds_is_refused_before_it_is_coded() -> None:
    model = arcore.create_model("wavenet", Levels(1024, (None,)), **NET)
    x = torch.zeros(2, 1 << 19, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"^batch: expected .*, got '2, of 1,073,741,824'"):
        compress(model, x, batch=2)
    x = torch.zeros(3, (1 << 19) + 1, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"^x: expected rows of at most 536,870,912 prob"):
        compress(model, x)
    with pytest.raises(ValueError, match=r"^batch: expected .*, got '2, of 536,871,936'"):
        compress(model, x, lengths=torch.tensor([1 << 19, 1, 1]), batch=2)


def test_a_header_is_read_as_it_was_written() -> None:
    header = bitstream.Header(
        model=bytes(range(32)),
        num_levels=256,
        extents=(3, 32, 32),
        count=10_000,
        batch=21,
        runtime=("float32", "cpu", "2.13.0+cpu", "0.5.0"),
        condition=b"c" * 8,
        probe=b"p" * 8,
        levels=b"l" * 8,
        chunks=(bitstream.Chunk(3, coding.zlib.crc32(b"abc"), 5),),
    )
    data = bitstream.join(header, [b"abc"])
    assert bitstream.split(data) == (header, [b"abc"])
    assert len(data) < HEADER_BYTES and coding.zlib.crc32(data) == 1460225966
    of_lengths = bitstream.dataclasses.replace(header, lengths=(900, 880, 1, 64, 128))
    longer = bitstream.join(of_lengths, [b"abc"])
    assert bitstream.split(longer) == (of_lengths, [b"abc"])
    assert len(longer) == len(data) + 8


def test_golden_bytes() -> None:
    """Uniform bits cost one bit each: 64 of them are two words, and one of the coder's state."""
    model = arcore.create_model("nade", Binary((32,)), hidden=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    x = torch.tensor([[1, 0] * 16, [1] * 32])
    (code,) = bitstream.split(compress(model, x))[1]
    assert code == bytes.fromhex("000080bbbbbbbbdddddd5d00")  # files stay readable
    assert torch.equal(decompress(model, compress(model, x)), x)


def test_constriction_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    model = small_model()
    with pytest.raises(ValueError, match=r"coding: expected numpy and constriction \(pip install"):
        compress(model, some_levels(model))
