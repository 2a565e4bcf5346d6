"""Lossless video codecs as baselines: the bytes that FFV1 and H.264 need for clips.

A clip's first frames may be given. Codecs look back alone (no frame is coded with a later one), so
that a frame's packet is what it costs after those before it, and the packets of given frames are
not counted. What a stream begins with (its parameters) is, once. Containers are not: only packets.
All of them as one stream follow each other, and a codec may refer to clips before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, TypeGuard, cast

import numpy as np

from arcore.events import Event, Levels, after_frames, is_gray, is_levels
from pipeline.evaluation import lossless_codec
from pipeline.evaluation.image_codecs import pixels_of
from pipeline.evaluation.lossless_codec import LosslessCodec, in_tenths
from pipeline.evaluation.result_records import CodecResult

if TYPE_CHECKING:
    from av import VideoCodecContext, VideoFrame


Formats = Mapping[int, tuple[str, str]]  # by C: FFmpeg's names of an encoder and a pixel format
FFV1: Formats = {1: ("ffv1", "gray"), 3: ("ffv1", "bgr0")}
X264: Formats = {1: ("libx264", "gray"), 3: ("libx264rgb", "rgb24")}


def ffmpeg(label: str, settings: str, formats: Formats) -> LosslessCodec:
    """Return an encoder of FFmpeg for clips (T, C, H, W) of uint8 levels, with C of 1 or 3."""
    run = partial(_encode, label=label, settings=settings, formats=formats)
    undo = partial(_decode, formats=formats)
    return LosslessCodec(label=label, settings=settings, encode=run, decode=undo)


def applies(event: Event) -> TypeGuard[Levels]:
    """Tell whether an event is a clip that the codecs can code, and whose score is a likelihood."""
    return (
        is_levels(event)
        and not is_gray(event)
        and event.num_levels <= 256
        and len(event.shape) == 4
        and event.shape[1] in (1, 3)
        and None not in event.shape
    )


def libraries() -> dict[str, str | None]:
    """Return the versions of the libraries that the bytes depend on."""
    import av

    return {
        "av": av.__version__,
        "libavcodec": ".".join(str(part) for part in av.library_versions["libavcodec"]),
    }


def _encode(
    frames: np.ndarray, event: Levels, label: str, settings: str, formats: Formats
) -> list[bytes]:
    """Code frames (T, C, H, W) as one stream: the parameters at its beginning, and T packets."""
    import av

    channels, height, width = frames.shape[1:]
    encoder, pixels = formats[channels]
    context = cast("VideoCodecContext", av.CodecContext.create(encoder, "w"))
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.framerate, context.thread_count = Fraction(25), 1
    # parameters apart from packets, where an encoder has any
    context.flags |= av.codec.context.Flags.global_header
    # gray of all 256 values: in the narrow range FFmpeg would scale it
    full = {"color_range": "pc"} if channels == 1 else {}
    chosen = dict(option.split("=", 1) for option in settings.split())
    context.options = {**chosen, "g": "1000000", **full}  # its first frame is its only key frame
    packets = []
    for at, frame in enumerate(frames):
        picture = _to_picture(frame).reformat(format=pixels)
        picture.pts = at
        packets += [(one.pts, bytes(one)) for one in context.encode(picture)]
    packets += [(one.pts, bytes(one)) for one in context.encode(None)]
    if encoder.startswith("libx264"):
        packets[0] = packets[0][0], _without_remarks(packets[0][1])
    if [pts for pts, _ in packets] != list(range(len(frames))):
        raise RuntimeError(f"{label}: frames were not coded in their order")
    return [context.extradata or b"", *(data for _, data in packets)]


def _decode(parts: Sequence[bytes], event: Levels, formats: Formats) -> np.ndarray:
    """Decode what `_encode` coded, or its first frames."""
    import av

    (parameters, *packets), (_, channels, height, width) = parts, event.extents
    encoder, pixels = formats[channels]
    name = av.Codec(encoder, "w").canonical_name
    context = cast("VideoCodecContext", av.CodecContext.create(name, "r"))
    context.thread_count = 1
    context.width, context.height, context.pix_fmt = width, height, pixels
    if parameters:
        context.extradata = parameters
    frames = []
    for data in packets:
        frames += context.decode(av.Packet(data))
    frames += context.decode(None)
    form = "gray" if channels == 1 else "rgb24"
    stacked = np.stack([one.to_ndarray(format=form) for one in frames])
    return stacked[:, None] if channels == 1 else stacked.transpose(0, 3, 1, 2)


CODECS = {
    "ffv1": ffmpeg(
        "FFV1 (PyAV, measured here)", "level=3 coder=1 context=1 slices=1 slicecrc=0", FFV1
    ),
    "h264": ffmpeg(
        "H.264 lossless (x264 by PyAV, measured here)", "qp=0 preset=veryslow bf=0", X264
    ),
}


def measure_all(clips: np.ndarray, event: Levels, given: int) -> list[CodecResult]:
    """Code clips (N, T, C, H, W) uint8, N > 1, by every codec, each alone and all as one stream.

    Given frames at the beginning of each clip are not counted.
    """
    together = partial(measure_together, clips=clips, event=event, given=given)
    return lossless_codec.measure_all(CODECS.values(), clips, event, together, 0, given)


def measure_together(
    codec: LosslessCodec, clips: np.ndarray, event: Levels, given: int
) -> CodecResult:
    """Code all clips as one stream; the error is from ten parts of it."""
    count, length, *rest = clips.shape
    frames = clips.reshape(count * length, *rest)
    first, *packets = codec.sizes(frames, event.num_levels, f"the stream of {count} clips")
    sizes = np.array(packets).reshape(count, length)[:, given:].sum(1)
    sizes[0] += first
    means = np.array([part.mean() for part in in_tenths(sizes)])
    return codec.result(int(sizes.sum()), count, means, after_frames(event, given), "stream")


def _to_picture(frame: np.ndarray) -> VideoFrame:
    import av

    form = "gray" if len(frame) == 1 else "rgb24"
    return av.VideoFrame.from_ndarray(pixels_of(frame), format=form)


def _without_remarks(packet: bytes) -> bytes:
    """Drop what x264 says of itself (a NAL unit of type 6), which no decoder needs."""
    start = b"\0\0\1"
    first = packet.index(start) + len(start)
    return packet[packet.index(start, first) :] if packet[first] & 31 == 6 else packet
