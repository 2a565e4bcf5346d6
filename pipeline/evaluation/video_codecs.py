"""Lossless video codecs as baselines: the bytes that FFV1 and H.264 need for clips.

A clip's first frames may be given. Codecs look back alone (no frame is coded with a later one), so
that a frame's packet is what it costs after those before it, and the packets of given frames are
not counted. What a stream begins with (its parameters) is, once. Containers are not: only packets.
Each clip is coded as a stream of its own, and all of them as one stream, clip after clip, in which
a codec may refer to clips before. Whatever is coded is decoded again and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, TypeGuard, cast

import numpy as np

from arcore.events import Event, Levels, after_frames, is_gray, is_levels
from pipeline.evaluation.result_records import TENTHS, CodecResult

if TYPE_CHECKING:
    from av import VideoCodecContext, VideoFrame


@dataclass(frozen=True, kw_only=True)
class VideoCodec:
    """A lossless encoder of FFmpeg for clips (T, C, H, W) of uint8 levels, with C of 1 or 3.

    FFmpeg's name of the encoder and its pixel format are by C.
    """

    label: str
    settings: str
    encoder: Mapping[int, str]
    pixels: Mapping[int, str]

    @property
    def options(self) -> dict[str, str]:
        """The options by name; each stream begins with its only key frame."""
        pairs = (option.split("=", 1) for option in self.settings.split())
        return dict(pairs) | {"g": "1000000"}


CODECS = {
    "ffv1": VideoCodec(
        label="FFV1 (PyAV, measured here)",
        settings="level=3 coder=1 context=1 slices=1 slicecrc=0",
        encoder={1: "ffv1", 3: "ffv1"},
        pixels={1: "gray", 3: "bgr0"},
    ),
    "h264": VideoCodec(
        label="H.264 lossless (x264 by PyAV, measured here)",
        settings="qp=0 preset=veryslow bf=0",
        encoder={1: "libx264", 3: "libx264rgb"},
        pixels={1: "gray", 3: "rgb24"},
    ),
}


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


def encode(codec: VideoCodec, frames: np.ndarray) -> tuple[bytes, list[bytes]]:
    """Code frames (T, C, H, W) as one stream: the parameters at its beginning, and T packets."""
    import av

    channels, height, width = frames.shape[1:]
    context = cast("VideoCodecContext", av.CodecContext.create(codec.encoder[channels], "w"))
    context.width, context.height = width, height
    context.pix_fmt = codec.pixels[channels]
    context.framerate, context.thread_count = Fraction(25), 1
    # parameters apart from packets, where an encoder has any
    context.flags |= av.codec.context.Flags.global_header
    # gray of all 256 values: in the narrow range FFmpeg would scale it
    full = {"color_range": "pc"} if channels == 1 else {}
    context.options = {**codec.options, **full}
    packets = []
    for at, frame in enumerate(frames):
        picture = _to_picture(frame).reformat(format=codec.pixels[channels])
        picture.pts = at
        packets += [(one.pts, bytes(one)) for one in context.encode(picture)]
    packets += [(one.pts, bytes(one)) for one in context.encode(None)]
    if codec.encoder[channels].startswith("libx264"):
        packets[0] = packets[0][0], _without_remarks(packets[0][1])
    if [pts for pts, _ in packets] != list(range(len(frames))):
        raise RuntimeError(f"{codec.label}: frames were not coded in their order")
    return context.extradata or b"", [data for _, data in packets]


def decode(
    codec: VideoCodec, parameters: bytes, packets: list[bytes], shape: tuple[int, int, int]
) -> np.ndarray:
    """Decode what `encode` wrote, frames of (C, H, W)."""
    import av

    channels, height, width = shape
    name = av.Codec(codec.encoder[channels], "w").canonical_name
    context = cast("VideoCodecContext", av.CodecContext.create(name, "r"))
    context.thread_count = 1
    context.width, context.height = width, height
    context.pix_fmt = codec.pixels[channels]
    if parameters:
        context.extradata = parameters
    frames = []
    for data in packets:
        frames += context.decode(av.Packet(data))
    frames += context.decode(None)
    pixels = [one.to_ndarray(format="gray" if channels == 1 else "rgb24") for one in frames]
    stacked = np.stack(pixels)
    return stacked[:, None] if channels == 1 else stacked.transpose(0, 3, 1, 2)


def measure_all(clips: np.ndarray, event: Levels, given: int) -> list[CodecResult]:
    """Code clips (N, T, C, H, W) uint8, N > 1, by every codec, each alone and all as one stream.

    Given frames at the beginning of each clip are not counted.
    """
    alone = [measure(codec, clips, event, given) for codec in CODECS.values()]
    return alone + [measure_together(codec, clips, event, given) for codec in CODECS.values()]


def measure(codec: VideoCodec, clips: np.ndarray, event: Levels, given: int) -> CodecResult:
    """Code each clip as a stream of its own."""
    sizes = np.array([_bytes(codec, clip[None], given).sum() for clip in clips])
    scored = after_frames(event, given)
    return CodecResult.from_bytes(
        codec.label, codec.settings, int(sizes.sum()), len(sizes), sizes, scored
    )


def measure_together(
    codec: VideoCodec, clips: np.ndarray, event: Levels, given: int
) -> CodecResult:
    """Code all clips as one stream; the error is that of ten parts of it."""
    sizes, scored = _bytes(codec, clips, given), after_frames(event, given)
    means = np.array([part.mean() for part in np.array_split(sizes, min(TENTHS, len(sizes)))])
    label = codec.label.replace(" (", " as one stream (", 1)
    return CodecResult.from_bytes(
        label, codec.settings, int(sizes.sum()), len(sizes), means, scored
    )


def _bytes(codec: VideoCodec, clips: np.ndarray, given: int) -> np.ndarray:
    """Return what each clip of a stream takes beyond its given frames, (N,)."""
    count, length, *rest = clips.shape
    frames = clips.reshape(count * length, *rest)
    parameters, packets = encode(codec, frames)
    channels, height, width = rest
    if not np.array_equal(decode(codec, parameters, packets, (channels, height, width)), frames):
        raise RuntimeError(f"{codec.label}: {count} clip(s) did not come back as they were")
    sizes = np.array([len(one) for one in packets]).reshape(count, length)[:, given:].sum(1)
    sizes[0] += len(parameters)
    return np.asarray(sizes)


def _to_picture(frame: np.ndarray) -> VideoFrame:
    import av

    if len(frame) == 1:
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[0]), format="gray")
    return av.VideoFrame.from_ndarray(
        np.ascontiguousarray(frame.transpose(1, 2, 0)), format="rgb24"
    )


def _without_remarks(packet: bytes) -> bytes:
    """Drop what x264 says of itself (a NAL unit of type 6), which no decoder needs."""
    start = b"\0\0\1"
    first = packet.index(start) + len(start)
    return packet[packet.index(start, first) :] if packet[first] & 31 == 6 else packet
