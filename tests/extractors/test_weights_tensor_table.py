"""TensorFlow's checkpoints read without it: a foreign file, our own writer's, and damage."""

import base64
import re
import struct
from pathlib import Path

import pytest
import torch
from weight_files import WIDTH, i3d_weights, tensorflow_entries, write_checkpoint

from vidgan.extractors.networks.i3d import i3d_shapes, i3d_units
from vidgan.extractors.weights.reading import read_tensors
from vidgan.extractors.weights.tensor_table import (
    DamagedTableError,
    read_index,
    read_tensor_table,
    read_varint,
)

# Written by TensorFlow 2.21 (tf.compat.v1.train.Saver) from three variables and a step counter.
FOREIGN_INDEX = """
AAAGCAEaAggBAC8fUkdCL2luY2VwdGlvbl9pM2QvQ29udjNkXzFhXzd4Ny9iYXRjaF9ub3JtL2JldGEIARIUEgIIARICCAES
AggBEgIIARICCAQoEDUVFjKaIAkhY29udl8zZC93CAESFBICCAISAggBEgIIARICCAMSAggEIBAoYDUfNFUTEh4RTG9naXRz
L0NvbnYzZF8wY18xeDEvY29udl8zZC9iCAESBBICCAIgcCgINWFhg88ACw1nbG9iYWxfc3RlcAgJEgAgeCgINTf/XwAAAAAA
AQAAAAAcSoDOAAAAAAEAAAAAwPKhsAABA2gA3AEAAAAAAQAAAADSDBLW4QEI7gEPAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA
AAAAAAAAAAAAAFf7gIskdUfb
"""
FOREIGN_DATA = """
AADAPwAAAMAAAIA+AABAQAAAAAAAAAA+AACAPgAAwD4AAAA/AAAgPwAAQD8AAGA/AACAPwAAkD8AAKA/AACwPwAAwD8AANA/
AADgPwAA8D8AAABAAAAIQAAAEEAAABhAAAAgQAAAKEAAADBAAAA4QAAA4EAAAIC/KQAAAAAAAAA=
"""


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    (tmp_path / "model.ckpt.index").write_bytes(base64.b64decode(FOREIGN_INDEX))
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    data.write_bytes(base64.b64decode(FOREIGN_DATA))
    return tmp_path / "model.ckpt"


def test_a_checkpoint_of_tensorflow_is_read(foreign: Path) -> None:
    found = read_tensor_table(foreign)
    unit = "RGB/inception_i3d/Conv3d_1a_7x7"
    kernel = torch.arange(24.0).reshape(2, 1, 1, 3, 4) / 8
    assert torch.equal(found.pop(f"{unit}/conv_3d/w"), kernel)
    beta = torch.tensor([1.5, -2, 0.25, 3]).reshape(1, 1, 1, 1, 4)
    assert torch.equal(found.pop(f"{unit}/batch_norm/beta"), beta)
    bias = found.pop("RGB/inception_i3d/Logits/Conv3d_0c_1x1/conv_3d/b")
    assert torch.equal(bias, torch.tensor([7.0, -1]))
    assert found.pop("global_step").item() == 41
    assert not found


@pytest.mark.parametrize(
    "given", ["model.ckpt", "model.ckpt.index", "model.ckpt.data-00000-of-00001", "."]
)
def test_either_file_their_prefix_or_their_folder_names_a_checkpoint(
    foreign: Path, given: str
) -> None:
    assert len(read_tensors(foreign.parent / given)) == 4


def test_many_tensors_in_several_blocks_come_back(tmp_path: Path) -> None:
    entries = tensorflow_entries(i3d_weights(5), "RGB/inception_i3d/")
    assert len(entries) == 230
    write_checkpoint(tmp_path / "model", entries, per_block=7)
    found = read_tensor_table(tmp_path / "model")
    assert set(found) == set(entries)
    assert all(torch.equal(found[name], value) for name, value in entries.items())


def test_each_damaged_byte_of_a_checkpoint_is_noticed(foreign: Path) -> None:
    index, data = Path(f"{foreign}.index"), Path(f"{foreign}.data-00000-of-00001")
    whole = {path: path.read_bytes() for path in (index, data)}
    # Padding inside the footer and the block of metadata carry nothing.
    unused = {*range(len(whole[index]) - 48 - 36 + 0, len(whole[index]))}
    for path, content in whole.items():
        for place in range(0, len(content), 3):
            if path == index and place in unused:
                continue
            damaged = bytearray(content)
            damaged[place] ^= 0x10
            path.write_bytes(damaged)
            with pytest.raises(DamagedTableError):
                read_tensor_table(foreign)
        path.write_bytes(content)
    assert len(read_tensor_table(foreign)) == 4


def test_short_files_and_other_files_are_refused(foreign: Path) -> None:
    index, data = Path(f"{foreign}.index"), Path(f"{foreign}.data-00000-of-00001")
    content = index.read_bytes()
    for length in (0, 20, 100, len(content) - 1):
        index.write_bytes(content[:length])
        with pytest.raises(DamagedTableError, match=re.escape(str(index))):
            read_index(index)
    index.write_bytes(content)
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(DamagedTableError, match="ends before the values of global_step"):
        read_tensor_table(foreign)


def test_compressed_blocks_and_endless_numbers_are_refused(foreign: Path) -> None:
    from vidgan.core.crc32c import masked_crc32c

    index = Path(f"{foreign}.index")
    content = bytearray(index.read_bytes())
    (handle_at,) = [m.start() for m in re.finditer(b"\x00\xdc\x01", bytes(content))]
    size = 220
    assert handle_at > size
    content[size] = 1
    content[size + 1 : size + 5] = struct.pack("<I", masked_crc32c(bytes(content[: size + 1])))
    index.write_bytes(content)
    with pytest.raises(DamagedTableError, match="block at byte 0 is compressed"):
        read_index(index)
    with pytest.raises(ValueError, match="more than 64 bits"):
        read_varint(b"\xff" * 20, 0)


def test_sizes_of_the_published_data_files_follow_from_the_table() -> None:
    def count(classes: int) -> int:
        numbers = 0
        for name, shape in i3d_shapes(1.0, classes).items():
            size = 1
            for axis in shape:
                size *= axis
            numbers += 0 if name.endswith("bn.weight") else size
        return numbers

    moments = 2 * sum(out for _, out, _ in i3d_units().values())
    assert 4 * count(400) == 50_818_176
    # The checkpoint of Kinetics-600 also holds a momentum for everything that was trained.
    assert 4 * (2 * count(600) - moments) == 103_218_112
    assert WIDTH < 1
