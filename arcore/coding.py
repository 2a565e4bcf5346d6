"""Lossless coding of levels by an exact model; constriction does the entropy coding.

Both sides must find the very same probabilities: encoder and decoder walk the same incremental path
(`AutoregressiveModel.decoder`) with the same number of rows side by side, in the same precision on
the same kind of device, in one thread of the CPU, and the coded bytes say so. Another kind of
processor may differ, which a digest of probe probabilities tells; `portable=True` codes by
`PortableArithmetic`, which no processor and no version of torch changes.

The coder is ANS. Of bits as sure as in binarised digits it takes 0.005 % more than -log2 p
(a range coder 0.08 %). ANS is a stack: the encoder keeps the probabilities of one batch and codes
them backwards, so that the decoder reads forwards and all rows of a chunk share one stream.
"""

import dataclasses
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata

import torch
from torch import Tensor

from arcore import bitstream, coded_batches
from arcore.bitstream import DIGEST, Chunk, Header
from arcore.decoding import Decoder
from arcore.entropy import (
    bytes_of,
    coder,
    digest_of,
    fingerprint,
    libraries,
    same_numbers,
    table_of,
)
from arcore.events import Event, Gray, Levels
from arcore.model import AutoregressiveModel
from arcore.portable import PortableArithmetic, portable_copy
from arcore.primitives.checks import is_integral, require, require_dense, require_int
from arcore.primitives.progress import Advance, progress_bar

PROBE_BLOCKS = 8
PORTABLE = "portable"
Runtime = tuple[str, str, str, str]
"""dtype, kind of device, versions of torch and constriction"""


def compress(
    model: AutoregressiveModel,
    x: Tensor,
    condition: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    batch: int | None = None,
    portable: bool = False,
    verify: bool = True,
    progress: bool = False,
) -> bytes:
    """Code events losslessly in close to -log2 p(x | condition) bits, and a header.

    Arguments:
        model: with an exact likelihood over levels and a schedule; no ensemble.
        x: (count, *event.shape) levels, any dtype; padded to one length where the event's is open.
        condition: one row per event. It is not coded: `decompress` needs it.
        lengths: for an event of open length, of each row, (count,) integers; None for rows as long
            as x. They are coded too; what follows in a row is not, and is 0 when decoded. A batch
            takes the steps of its longest row: order rows by length.
        batch: rows coded side by side; None for as many as keep a batch's probabilities in 128 MiB,
            at most 256. No batch, nor a row alone, has more than 4 GiB of them.
        portable: so that any processor decodes it, with any version of torch, from weights in
            float32 or float64; on the CPU, slower, for models whose operations are all portable.
        verify: decode, and compare with x. Without it, a model whose conditionals differ from run
            to run is noticed only when it is too late.
        progress: show a bar, which needs tqdm.

    Raises:
        ValueError: for a model, x or condition that cannot be coded, or if verification fails.

    Example:
        >>> import arcore
        >>> model = arcore.create_model("nade", arcore.events.Binary((1, 8, 8)))
        >>> x = model.sample(100, generator=torch.Generator().manual_seed(0))
        >>> torch.equal(decompress(model, compress(model, x)), x)
        True
    """
    check_model(model)
    x, lengths = _padded(model, x, lengths)
    with _numbers(model, portable) as (coder, runtime):
        data = _compress(coder, x, condition, lengths, batch, progress, runtime)
        if verify:
            decoded = _decompress(coder, data, condition, progress, runtime)
            same = torch.equal(decoded, x.to(decoded))
            require(same, "model", "to decode what was encoded", "other levels")
    return data


def decompress(
    model: AutoregressiveModel,
    data: bytes,
    condition: Tensor | None = None,
    *,
    progress: bool = False,
) -> Tensor:
    """Decode what `compress` coded: int64 levels (count, *extents) on the model's device.

    What is returned is what was encoded. `progress` shows a bar, which needs tqdm.

    Raises:
        ValueError: for data that are truncated or damaged, or were coded by another model, event,
            condition, dtype, kind of device or version of torch or constriction, or where the
            model's probabilities come out differently. Of what is portable, dtype, device and
            torch may be others.
    """
    check_model(model)
    portable = bitstream.split(data)[0].runtime[0] == PORTABLE
    with _numbers(model, portable) as (coder, runtime):
        return _decompress(coder, data, condition, progress, runtime).to(model.device)


def lengths_of(data: bytes) -> Tensor | None:
    """Return the lengths of coded rows, (count,) int64, or None; raises as `decompress` does."""
    header = bitstream.split(data)[0]
    if not header.lengths:
        return None
    expected = f"{header.count} in [1, {max(header.extents, default=0)}]"
    require(_lengths_fit(header), "data: lengths", expected, f"{len(header.lengths)} others")
    return torch.tensor(header.lengths)


def _padded(
    model: AutoregressiveModel, x: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Check events and their lengths; return them with zeros after their ends."""
    model.event.check(x)
    require(len(x) > 0, "x", "a row at least", "none")
    coded_batches.check_steps("x", x.shape[1:])
    if lengths is None:
        return x, None
    require(model.event.is_open, "lengths", "None for an event of one length", "some")
    expected = f"{len(x)} integers in [1, {x.shape[1]}]"
    if isinstance(lengths, Tensor):
        require_dense(lengths, "lengths")
    whole = isinstance(lengths, Tensor) and is_integral(lengths)
    require(whole and lengths.shape == (len(x),), "lengths", expected, lengths)
    low, high = int(lengths.min()), int(lengths.max())
    require(1 <= low and high <= x.shape[1], "lengths", expected, f"{low} to {high}")
    lengths = lengths.to(model.device, torch.int64)
    x = x.detach().to(model.device)
    after = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
    return x.masked_fill(after.view(*after.shape, *[1] * (x.ndim - 2)), 0), lengths


def _compress(
    model: AutoregressiveModel,
    x: Tensor,
    condition: Tensor | None,
    lengths: Tensor | None,
    batch: int | None,
    progress: bool,
    runtime: Runtime,
) -> bytes:
    twin = _of_extents(model, tuple(x.shape[1:]))
    assert isinstance(twin.event, Levels)
    size, levels = twin.event.size, twin.event.num_levels
    steps_of = () if lengths is None else tuple(lengths.tolist())
    ends = _ends(steps_of, model.event)
    if batch is None:
        batch = coded_batches.usual(twin.event, ends)
    require_int(batch, "batch", 1)
    batch = min(batch, len(x))
    coded_batches.check(("x", "batch"), batch, twin.event, ends)
    flat = x.detach().flatten(1).to(twin.device, torch.int64)
    condition = _condition(twin, condition, len(x))
    codes, chunks = [], []
    steps = -(-len(x) // batch) * len(twin.schedule)
    with progress_bar(progress, steps, "coding") as advance:
        probe = _probe(twin, batch, condition)
        rows = _Rows(twin, condition, ends, advance)
        for spans in coded_batches.chunks(len(x), batch, size):
            codes.append(_encode(rows, flat, spans))
            crc = zlib.crc32(bytes_of(flat[spans[0].start : spans[-1].stop]))
            chunks.append(Chunk(len(codes[-1]), zlib.crc32(codes[-1]), crc))
    header = Header(
        model=fingerprint(model),
        num_levels=levels,
        extents=tuple(x.shape[1:]),
        count=len(x),
        batch=batch,
        lengths=steps_of,
        runtime=runtime,
        condition=digest_of(condition),
        probe=probe,
        levels=digest_of(flat),
        chunks=tuple(chunks),
    )
    return bitstream.join(header, codes)


def _decompress(
    model: AutoregressiveModel,
    data: bytes,
    condition: Tensor | None,
    progress: bool,
    runtime: Runtime,
) -> Tensor:
    header, codes = bitstream.split(data)
    twin = _check_header(header, model, runtime)
    condition = _condition(twin, condition, header.count)
    _same("condition", "that of encoding", header.condition, digest_of(condition))
    num_chunks = -(-header.count // coded_batches.rows_of_chunk(header.batch, twin.event.size))
    require(num_chunks == len(codes), "data", f"{num_chunks} chunks", len(codes))
    parts = []
    ends = _ends(header.lengths, model.event)
    steps = -(-header.count // header.batch) * len(twin.schedule)
    with progress_bar(progress, steps, "decoding") as advance:
        probe = _probe(twin, header.batch, condition)
        _same("model", "the probabilities of encoding (other hardware?)", header.probe, probe)
        rows = _Rows(twin, condition, ends, advance)
        for index, spans in enumerate(
            coded_batches.chunks(header.count, header.batch, twin.event.size)
        ):
            levels = _decode(rows, codes[index], spans)
            crc = header.chunks[index].levels_crc
            if levels is None or zlib.crc32(bytes_of(levels)) != crc:
                raise ValueError(
                    f"data: expected chunk {index} to decode to what was encoded, got other "
                    "levels: the model's probabilities are not those of encoding"
                )
            parts.append(levels)
    flat = torch.cat(parts)
    _same("data", "the levels that were encoded", header.levels, digest_of(flat))
    return flat.to(model.device).view(header.count, *header.extents)


# -- what is the same on both sides


@contextmanager
def _numbers(
    model: AutoregressiveModel, portable: bool
) -> Iterator[tuple[AutoregressiveModel, Runtime]]:
    """Yield the model that codes and what it runs on, within the arithmetic of both sides."""
    runtime = _runtime(model)
    if not portable:
        with same_numbers(model):
            yield model, runtime
        return
    with same_numbers(twin := portable_copy(model)), PortableArithmetic():
        yield twin, (PORTABLE, "any", "any", runtime[-1])


def check_model(model: AutoregressiveModel) -> None:
    """Raise a ValueError for a bound, an ensemble, or a model over reals or gray targets."""
    fits = isinstance(model, AutoregressiveModel)
    require(fits, "model", "a model", type(model).__name__)
    name = type(model).__name__
    expected = "a model with a schedule (an ensemble's members share none; code by one of them)"
    require(model.generates, "model", expected, name)
    require(model.exact, "model", "an exact likelihood (this one is only bounded)", name)
    discrete = isinstance(model.event, Levels) and not isinstance(model.event, Gray)
    require(discrete, "model", "an event of levels (not reals, nor gray targets)", model.event)


def _of_extents(model: AutoregressiveModel, extents: tuple[int, ...]) -> AutoregressiveModel:
    return model.of_length(extents[0]) if model.event.is_open else model


def _ends(lengths: Sequence[int], event: Event) -> list[int] | None:
    """Return where rows end among their flat dimensions; None where all have one length."""
    return [length * event.size_of_step for length in lengths] or None


def _lengths_fit(header: Header) -> bool:
    """Tell whether each row has a length within the event's."""
    lengths = header.lengths
    whole = len(lengths) == header.count and len(header.extents) > 0
    return whole and 1 <= min(lengths) and max(lengths) <= header.extents[0]


def _check_header(
    header: Header, model: AutoregressiveModel, runtime: Runtime
) -> AutoregressiveModel:
    """Refuse what was coded under other circumstances; return the model for the event's length."""
    assert isinstance(model.event, Levels)
    shape, extents = model.event.shape, header.extents
    fits = len(shape) == len(extents) and all(
        want in (None, got) for want, got in zip(shape, extents, strict=True)
    )
    fits = fits and header.num_levels == model.event.num_levels
    fits = fits and 0 < min(extents)
    if header.lengths:
        fits = fits and model.event.is_open and _lengths_fit(header)
    event = Levels(max(header.num_levels, 2), tuple(max(extent, 1) for extent in extents))
    ends = _ends(header.lengths, event)
    require(fits, "model", f"{event}, as coded", model.event)
    coded_batches.check_steps("data: extents", extents)
    coded_batches.check(("data: extents", "data: batch"), header.batch, event, ends)
    names = ("dtype", "device", "torch", "constriction")
    for name, coded, here in zip(names, header.runtime, runtime, strict=True):
        require(coded == here, f"data: {name}", f"{here}, as here", coded)
    _same("model", "the model that encoded", header.model, fingerprint(model))
    return _of_extents(model, extents)


def _same(name: str, expected: str, coded: bytes, here: bytes) -> None:
    if coded != here:
        raise ValueError(
            f"{name}: expected {expected}, SHA-256 {coded[:4].hex()}..., got {here[:4].hex()}..."
        )


def _runtime(model: AutoregressiveModel) -> Runtime:
    libraries()
    dtype = str(model.dtype).removeprefix("torch.")
    return dtype, model.device.type, str(torch.__version__), metadata.version("constriction")


def _condition(model: AutoregressiveModel, condition: Tensor | None, count: int) -> Tensor | None:
    """Bring a condition to the model's device and dtype, and check it."""
    if isinstance(condition, Tensor):
        require_dense(condition, "condition")
        condition = condition.to(model.device)
    model._check_condition(condition, count)
    real = condition is not None and condition.is_floating_point()
    return condition.to(model.dtype) if real else condition  # type: ignore[union-attr]


# -- the coder


@dataclasses.dataclass(frozen=True)
class _Rows:
    """What both sides walk: a model, its conditions, where rows end, and the bar."""

    model: AutoregressiveModel
    condition: Tensor | None
    ends: list[int] | None
    advance: Advance

    def decoder(self, span: slice) -> Decoder:
        given = None if self.condition is None else self.condition[span]
        return self.model.decoder(span.stop - span.start, given)

    def steps(self, decoder: Decoder, span: slice) -> Iterator[tuple[Tensor, Tensor | slice]]:
        """Yield each block and which of its flat values (rows * block) are coded.

        Blocks of an event of open length follow time: nothing comes after the last row's end.
        """
        ends = None if self.ends is None else torch.tensor(self.ends[span], device="cpu")
        for number, block in enumerate(decoder.blocks):
            coded: Tensor | slice = slice(None)
            if ends is not None:
                coded = (block.cpu() < ends[:, None]).flatten()
                if not coded.any():
                    self.advance(len(decoder.blocks) - number)
                    return
            yield block, coded
            self.advance(1)


def _encode(source: _Rows, flat: Tensor, spans: list[slice]) -> bytes:
    stack, family = coder(None)
    for span in reversed(spans):
        rows, steps = flat[span], []
        decoder = source.decoder(span)
        for block, coded in source.steps(decoder, span):
            levels = rows[:, block]
            table = table_of(decoder.next(), levels)[coded].numpy()
            steps.append((levels.reshape(-1).to("cpu", torch.int32)[coded].numpy(), table))
            decoder.push(levels)
        for symbols, table in reversed(steps):
            stack.encode_reverse(symbols, family, table)
    return bytes(stack.get_compressed().astype("<u4").tobytes())


def _decode(source: _Rows, code: bytes, spans: list[slice]) -> Tensor | None:
    """Decode a chunk, (rows, D); None if its bytes do not end where the levels do."""
    stack, family = coder(code)
    if stack is None:
        return None
    parts, model = [], source.model
    for span in spans:
        count = span.stop - span.start
        decoder = source.decoder(span)
        rows = torch.zeros(count, model.event.size, dtype=torch.int64, device=model.device)
        for block, coded in source.steps(decoder, span):
            table = table_of(decoder.next(), rows[:, block])[coded].numpy()
            symbols = stack.decode(family, table)
            levels = torch.zeros(count * len(block), dtype=torch.int64, device="cpu")
            levels[coded] = torch.from_numpy(symbols).long()
            rows[:, block] = levels.view(count, len(block)).to(model.device)
            decoder.push(rows[:, block])
        parts.append(rows)
    return torch.cat(parts) if stack.is_empty() else None


def _probe(model: AutoregressiveModel, batch: int, condition: Tensor | None) -> bytes:
    """Return a digest of the probabilities of the first blocks of a batch, for levels in turn."""
    assert isinstance(model.event, Levels)
    digest = hashlib.sha256()
    decoder = model.decoder(batch, None if condition is None else condition[:batch])
    for step, block in enumerate(decoder.blocks[:PROBE_BLOCKS]):
        levels = torch.arange(batch * len(block), device=model.device).view(batch, -1)
        levels = (levels * 7 + step) % model.event.num_levels
        digest.update(bytes_of(table_of(decoder.next(), levels)))
        decoder.push(levels)
    return digest.digest()[:DIGEST]
