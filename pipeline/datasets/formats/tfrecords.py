"""Reading TFRecord files of tf.train.Example messages, without TensorFlow.

A record is its length (8 bytes, little-endian), the masked CRC-32C of those bytes (4), the data,
and the masked CRC-32C of the data (4). A `tf.train.Example` is a protocol-buffer message that maps
names to lists of byte strings, floats or integers.
"""

import functools
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from tensorboardX.record_writer import masked_crc32c

from pipeline.core.errors import UserError

Feature = list[bytes] | np.ndarray

LARGEST_RECORD = 1 << 30
_TYPES = {"float_list": np.float32, "int64_list": np.int64}


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file in order, each checked."""
    try:
        with open(path, "rb") as file:
            number = 0
            while header := file.read(12):
                number += 1
                where = f"{path}: record {number}"
                if len(header) < 12:
                    raise UserError(f"{where}: truncated: expected a header of 12 bytes")
                length, check = struct.unpack("<QI", header)
                if masked_crc32c(header[:8]) != check or length > LARGEST_RECORD:
                    raise UserError(f"{where}: corrupt length, or no TFRecord file")
                body = file.read(length + 4)
                if len(body) < length + 4:
                    raise UserError(
                        f"{where}: truncated: expected {length + 4} bytes, got {len(body)}"
                    )
                data = body[:length]
                if masked_crc32c(data) != struct.unpack("<I", body[length:])[0]:
                    raise UserError(f"{where}: corrupt: its CRC-32C does not match")
                yield data
    except FileNotFoundError:
        raise UserError(f"{path}: file not found") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None


def parse_example(data: bytes, where: str) -> dict[str, Feature]:
    """Parse a tf.train.Example into lists of bytes, or arrays of float32 or int64, by name."""
    try:
        features = _example().FromString(data).features.feature
        if "" in features:
            raise DecodeError("a feature without a name")
        return {name: _values(feature) for name, feature in features.items()}
    except DecodeError as error:
        raise UserError(f"{where}: no tf.train.Example: {error}") from None


def _values(feature: Any) -> Feature:
    kind = feature.WhichOneof("kind")
    values = [] if kind is None else getattr(feature, kind).value
    return np.array(values, _TYPES[kind]) if kind in _TYPES else list(values)


# tf.train.Example, as TensorFlow's example.proto declares it.
_EXAMPLE = """
name: "example.proto" package: "t" syntax: "proto3"
message_type { name: "BytesList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List"
  field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type { name: "Feature" oneof_decl { name: "kind" }
  field { name: "bytes_list" number: 1 type_name: ".t.BytesList" oneof_index: 0 }
  field { name: "float_list" number: 2 type_name: ".t.FloatList" oneof_index: 0 }
  field { name: "int64_list" number: 3 type_name: ".t.Int64List" oneof_index: 0 } }
message_type { name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type_name: ".t.Features.FeatureEntry" }
  nested_type { name: "FeatureEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING }
    field { name: "value" number: 2 type_name: ".t.Feature" } } }
message_type { name: "Example" field { name: "features" number: 1 type_name: ".t.Features" } }
"""


@functools.cache
def _example() -> Any:
    pool = DescriptorPool()
    pool.Add(text_format.Parse(_EXAMPLE, FileDescriptorProto()))
    return GetMessageClass(pool.FindMessageTypeByName("t.Example"))
