"""TFRecords: checksums of the standard, a foreign file, and every kind of damage."""

import struct
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vidgan.core.crc32c import _native, crc32c, crc32c_by_lanes, masked_crc32c
from vidgan.data.sources.containers.tfrecord import index_records, parse_example, read_record_bytes
from vidgan.video import UnreadableVideoError

FOREIGN = Path(__file__).parent / "containers"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # RFC 3720, appendix B.4, and the check value of the CRC catalogue.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_checksum_is_that_of_the_standard(data, expected):
    assert crc32c(data) == crc32c_by_lanes(data) == expected


def bitwise_crc(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize("length", [1023, 1024, 1025, 2048, 5 * 1024, 7 * 1024 + 13])
def test_long_data_is_checked_in_lanes_alike(length):
    data = np.random.default_rng(length).integers(0, 256, length, np.uint8).tobytes()
    assert crc32c(data) == crc32c(memoryview(data)) == bitwise_crc(data)
    assert crc32c_by_lanes(data) == crc32c_by_lanes(memoryview(data)) == bitwise_crc(data)


def test_lanes_agree_with_another_package():
    google_crc32c = pytest.importorskip("google_crc32c")
    data = np.random.default_rng(0).integers(0, 256, 3_000_017, np.uint8).tobytes()
    assert crc32c_by_lanes(data) == google_crc32c.value(data) == crc32c(data)


@pytest.mark.parametrize("implementation", ["c", "python"])
def test_the_package_is_used_where_it_is_fast(implementation, monkeypatch):
    package = ModuleType("google_crc32c")
    package.implementation, package.value = implementation, len
    monkeypatch.setitem(sys.modules, "google_crc32c", package)
    _native.cache_clear()
    assert crc32c(memoryview(b"123456789")) == (9 if implementation == "c" else 0xE3069283)
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    _native.cache_clear()
    assert crc32c(b"123456789") == 0xE3069283
    _native.cache_clear()


def test_mask_is_that_of_the_foreign_file():
    header = (FOREIGN / "faces-r02.tfrecords").read_bytes()[:12]
    assert masked_crc32c(header[:8]) == struct.unpack("<I", header[8:])[0]


def test_examples_of_another_writer_are_read():
    path = FOREIGN / "faces-r02.tfrecords"
    index = index_records(path)
    assert index.damage is None
    assert len(index.offsets) == 3
    for number, offset in enumerate(index.offsets):
        record = parse_example(read_record_bytes(path, offset))
        assert record.lists == {}
        assert record.features["shape"] == [4, 3, 4, 4]
        (data,) = record.features["data"]
        clip = np.frombuffer(data, np.uint8).reshape(4, 3, 4, 4)
        assert clip[3, 2].tolist() == [[40 * number + 32] * 4] * 4


def test_sequences_of_another_writer_are_read():
    path = FOREIGN / "sequences.tfrecord"
    records = [parse_example(read_record_bytes(path, at)) for at in index_records(path).offsets]
    assert [record.features["clip/label/index"] for record in records] == [[0], [1]]
    assert records[1].features["clip/label/string"] == [b"wave"]
    assert records[0].features["speed"] == [0.5]
    assert records[0].features["shift"] == [-3]
    images = records[0].lists["image/encoded"]
    assert len(images) == 4
    assert all(image[0].startswith(b"\x89PNG") for image in images)


def test_unpacked_numbers_are_read_too():
    # Older writers store every number as a field of its own.
    numbers = b"\x08\x05\x08\xfd\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    feature = b"\x1a" + bytes([len(numbers)]) + numbers
    entry = b"\x0a\x01n\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert parse_example(b"\x0a" + bytes([len(features)]) + features).features == {"n": [5, -3]}
    floats = b"\x0d" + struct.pack("<f", 1.5) + b"\x0d" + struct.pack("<f", -2)
    feature = b"\x12" + bytes([len(floats)]) + floats
    entry = b"\x0a\x01x\x12" + bytes([len(feature)]) + feature
    features = b"\x0a" + bytes([len(entry)]) + entry
    assert parse_example(b"\x0a" + bytes([len(features)]) + features).features == {"x": [1.5, -2]}


def test_a_flipped_byte_of_the_data_is_one_bad_record(tmp_path):
    path = tmp_path / "a.tfrecords"
    data = bytearray((FOREIGN / "faces-r02.tfrecords").read_bytes())
    second = index_records(FOREIGN / "faces-r02.tfrecords").offsets[1]
    data[second + 40] ^= 1
    path.write_bytes(data)
    offsets = index_records(path).offsets
    assert len(offsets) == 3
    with pytest.raises(UnreadableVideoError, match="the checksum of the record differs"):
        read_record_bytes(path, second)
    assert len(read_record_bytes(path, offsets[2])) > 0


def test_a_flipped_byte_of_a_length_ends_the_file_there(tmp_path):
    path = tmp_path / "a.tfrecords"
    data = bytearray((FOREIGN / "faces-r02.tfrecords").read_bytes())
    second = index_records(FOREIGN / "faces-r02.tfrecords").offsets[1]
    data[second + 6] ^= 0x40
    path.write_bytes(data)
    index = index_records(path)
    assert len(index.offsets) == 1
    assert index.damage == "record 1 has a damaged length, after which no record can be found"
    with pytest.raises(UnreadableVideoError, match="damaged length"):
        read_record_bytes(path, second)


def test_a_length_of_exabytes_is_not_believed(tmp_path):
    path = tmp_path / "a.tfrecords"
    length = struct.pack("<Q", 1 << 60)
    path.write_bytes(length + struct.pack("<I", masked_crc32c(length)) + bytes(100))
    assert index_records(path).damage == "record 0 is cut off"
    with pytest.raises(UnreadableVideoError, match="cut off"):
        read_record_bytes(path, 0)


def test_cut_files_keep_their_whole_records(tmp_path):
    data = (FOREIGN / "faces-r02.tfrecords").read_bytes()
    ends = [*index_records(FOREIGN / "faces-r02.tfrecords").offsets, len(data)][1:]
    path = tmp_path / "a.tfrecords"
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        index = index_records(path)
        assert len(index.offsets) == sum(end <= length for end in ends)
        assert (index.damage is None) == (length in (0, *ends))


def test_no_bytes_make_the_parser_raise_anything_else():
    path = FOREIGN / "sequences.tfrecord"
    whole = read_record_bytes(path, 0)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        try:
            parse_example(bytes(data[: rng.integers(len(data))]))
        except ValueError:
            refused += 1
    assert refused > 100
