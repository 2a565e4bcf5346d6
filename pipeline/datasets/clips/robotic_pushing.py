"""Robotic pushing: clips of robot arms that push objects, in public TFRecord files.

264 files of training clips and 5 each of two test sets, with objects that training has seen and
with novel ones, at storage.googleapis.com/brain-robotics-data/push/. No sums of them are published,
so that the folder is put in place by the user and named by the option `folder`:

    <folder>/push_train/push_train.tfrecord-00000-of-00264
    <folder>/push_testseen/push_testseen.tfrecord-00000-of-00005
    <folder>/push_testnovel/push_testnovel.tfrecord-00000-of-00005

Each record is checked by its CRC-32C. Frames are cropped to the middle square and made smaller as
the bicubic filter of TensorFlow 1 does, which averages nothing: of 512 x 512 pixels it takes every
eighth (by its source; not compared with a published copy). A filter that averages makes smoother
frames, of fewer nats.

Reference:
    Finn, Goodfellow and Levine, "Unsupervised Learning for Physical Interaction through Video
    Prediction", NIPS 2016.
"""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from arcore.events import Levels
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.datasets.base import Dataset, SplitData, SplitStream
from pipeline.datasets.formats.image_files import channels_first, decode_upright
from pipeline.datasets.formats.tfrecords import Feature, parse_example, read_records
from pipeline.datasets.options import Options, parse_options

NUM_FRAMES, CONTEXT_FRAMES, SIDE = 20, 2, 64
VECTOR = 5  # of an action and of a state: a position, pitch and yaw
ADDRESS = "https://storage.googleapis.com/brain-robotics-data/push/"
_IMAGE = "move/{}/image/encoded"
_ACTION = "move/{}/commanded_pose/vec_pitch_yaw"
_STATE = "move/{}/endeffector/vec_pitch_yaw"


@dataclass(frozen=True)
class PushingClip:
    """One clip.

    Arguments:
        frames: (20, 3, 64, 64) uint8.
        actions: (20, 5) float32, the pose commanded at each frame.
        states: (20, 5) float32, the pose at each frame.
    """

    frames: np.ndarray
    actions: np.ndarray
    states: np.ndarray

    def vectors(self) -> np.ndarray:
        """Return the condition of one vector a frame, (20, 10): actions, and states while given.

        A frame comes with the action of the frame before it, which led to it.
        """
        actions = np.concatenate([np.zeros_like(self.actions[:1]), self.actions[:-1]])
        states = np.where(np.arange(len(self.states))[:, None] < CONTEXT_FRAMES, self.states, 0)
        return np.concatenate([actions, states], 1).astype(np.float32)


def read_clips(path: Path) -> Iterator[PushingClip]:
    """Read the clips of a TFRecord file, the first 20 frames of each."""
    for number, data in enumerate(read_records(path), 1):
        where = f"{path}: record {number}"
        example = parse_example(data, where)
        frames = [_decode(_one(example, _IMAGE.format(t), where), where) for t in range(NUM_FRAMES)]
        actions, states = (
            np.stack([_vector(example, key.format(t), where) for t in range(NUM_FRAMES)])
            for key in (_ACTION, _STATE)
        )
        yield PushingClip(np.stack(frames), actions, states)


def _one(example: Mapping[str, Feature], key: str, where: str) -> bytes:
    values = example.get(key)
    if not isinstance(values, list) or len(values) != 1:
        raise UserError(f"{where}: expected one byte string {key!r}, got {values!r:.60}")
    return values[0]


def _vector(example: Mapping[str, Feature], key: str, where: str) -> np.ndarray:
    values = example.get(key)
    if not isinstance(values, np.ndarray) or values.shape != (VECTOR,):
        raise UserError(f"{where}: expected {VECTOR} floats {key!r}, got {values!r:.60}")
    return values.astype(np.float32)


def _decode(data: bytes, where: str) -> np.ndarray:
    """Decode a JPEG or PNG into (3, 64, 64) uint8: the middle square, made smaller.

    Squares of other sides than multiples of 64, which the published files have not, are averaged.
    """
    image = decode_upright(io.BytesIO(data), False, where)
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    if side % SIDE:
        small = channels_first(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))
    else:
        small = channels_first(image.crop(box))[:, :: side // SIDE, :: side // SIDE]
    return np.ascontiguousarray(small)


@dataclass(frozen=True, kw_only=True)
class PushingOptions(Options):
    """Options of robotic pushing.

    Arguments:
        folder: of the three folders of TFRecord files; absolute, or relative to the project.
        test_objects: which test set the test split is.
        valid_files: training files, the last ones, that are the validation split.
    """

    rows_per_shard: int = 256
    folder: str = ""
    test_objects: Literal["seen", "novel"] = "seen"
    valid_files: int = 8


@dataclass(frozen=True, kw_only=True)
class RoboticPushing(Dataset):
    """The clips, streamed file by file."""

    def decode(self, raw_dir: Path) -> dict[str, SplitStream]:
        """List the files and count their records; clips are decoded when the stream is read."""
        options = self.options
        assert isinstance(options, PushingOptions)
        if not options.folder:
            raise UserError(
                f"option folder of dataset {self.name!r}: expected the folder of the files of "
                f"{ADDRESS}, got none"
            )
        folder = paths.root() / options.folder
        train = _files(folder, "push_train")
        if not 0 < options.valid_files < len(train):
            raise UserError(
                f"option valid_files of dataset {self.name!r}: expected 1 to {len(train) - 1} of "
                f"the training files, got {options.valid_files}"
            )
        return {
            "train": _stream(train[: -options.valid_files]),
            "valid": _stream(train[-options.valid_files :]),
            "test": _stream(_files(folder, f"push_test{options.test_objects}")),
        }


def _files(folder: Path, name: str) -> list[Path]:
    found = sorted((folder / name).glob(f"{name}.tfrecord-*-of-{'[0-9]' * 5}"))
    if not found:
        raise UserError(f"{folder / name}: expected files {name}.tfrecord-*-of-*, found none")
    total = int(found[0].name.rpartition("-of-")[2])
    if len(found) != total:
        raise UserError(f"{folder / name}: expected {total} files, found {len(found)}")
    return found


def _stream(files: list[Path]) -> SplitStream:
    counts = {path: sum(1 for _ in read_records(path)) for path in files}
    for path, count in counts.items():
        if count == 0:
            raise UserError(f"{path}: expected clips, got an empty file")
    return SplitStream(
        sum(counts.values()),
        (
            SplitData(clip.frames[None], clip.vectors()[None])
            for path in files
            for clip in read_clips(path)
        ),
    )


def _build(settings: Mapping[str, object]) -> Dataset:
    return RoboticPushing(
        name="robotic_pushing",
        event=Levels(256, (NUM_FRAMES, 3, SIDE, SIDE)),
        unit="nats_per_dim",
        provenance=(
            f"{ADDRESS}; the first {NUM_FRAMES} frames of each clip, middle square, {SIDE} x "
            f"{SIDE} by TensorFlow 1's bicubic filter; valid = the last training files; the first "
            f"{CONTEXT_FRAMES} frames are given; each frame comes with the action before it and, "
            "while given, its state"
        ),
        options=parse_options(PushingOptions, "robotic_pushing", settings),
        published_name="robotic_pushing",
        context_frames=CONTEXT_FRAMES,
        condition_sequence=(NUM_FRAMES, 2 * VECTOR),
    )


DATASETS = {"robotic_pushing": _build}
