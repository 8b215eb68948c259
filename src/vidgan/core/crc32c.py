"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, fast enough for megabytes.

The package google-crc32c (extra `tfrecords`) computes it where it is installed, by an instruction
of the processor. NumPy does without it: a CRC is linear over GF(2). Long data is cut into lanes of
equal length whose registers are advanced together, byte by byte; the lanes are then joined by the
operator that feeds a lane of zeros to a register.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]

_POLYNOMIAL = 0x82F63B78
"""Castagnoli's polynomial, lowest bit first (RFC 3720, appendix B.4)."""
_LANE_BYTES = 1024
_MASK_DELTA = 0xA282EAD8
"""What TFRecord adds to a rotated checksum, so that data holding checksums checks well."""
_ALL = 0xFFFFFFFF


def _byte_table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ np.where(table & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    return table


_TABLE = _byte_table()
_TABLE_LIST: list[int] = _TABLE.tolist()


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32C of `data`."""
    native = _native()
    return crc32c_by_lanes(data) if native is None else native(bytes(data))


@cache
def _native() -> Callable[[bytes], int] | None:
    """The function of google-crc32c; None without it, or where it is but a slow fallback."""
    try:
        import google_crc32c
    except ImportError:
        return None
    function: Callable[[bytes], int] = google_crc32c.value
    return function if google_crc32c.implementation == "c" else None


def crc32c_by_lanes(data: bytes | memoryview) -> int:
    """CRC-32C of `data` without another package."""
    view = memoryview(data)
    head = len(view) % _LANE_BYTES
    register = _ALL
    for byte in view[:head]:
        register = _TABLE_LIST[(register ^ byte) & 0xFF] ^ (register >> 8)
    if head < len(view):
        register = _join(_advance_lanes(register, view[head:]))
    return register ^ _ALL


def masked_crc32c(data: bytes | memoryview) -> int:
    """CRC-32C as TensorFlow's files store it: rotated right by 15 bits, plus a constant."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & _ALL


def _advance_lanes(register: int, view: memoryview) -> Words:
    """Registers after every lane; the first lane starts from `register`, the others from 0."""
    lanes = np.frombuffer(view, np.uint8).reshape(-1, _LANE_BYTES).T.copy()
    registers = np.zeros(lanes.shape[1], np.uint32)
    registers[0] = register
    for row in lanes:
        registers = _TABLE[registers.astype(np.uint8) ^ row] ^ (registers >> np.uint32(8))
    return registers


def _join(registers: Words) -> int:
    doublings = 0
    while len(registers) > 1:
        if len(registers) % 2:
            # A lane of zeros in front leaves a register of zero as it is.
            registers = np.concatenate([np.zeros(1, np.uint32), registers])
        registers = _apply(_zeros_operator(doublings), registers[::2]) ^ registers[1::2]
        doublings += 1
    return int(registers[0])


@cache
def _zeros_operator(doublings: int) -> Words:
    """`[4, 256]`: what `_LANE_BYTES * 2**doublings` zeros make of each byte of a register."""
    if doublings:
        half = _zeros_operator(doublings - 1)
        return _apply(half, half)
    bytes_in_place = (
        np.arange(256, dtype=np.uint32) << np.arange(0, 32, 8, dtype=np.uint32)[:, None]
    )
    operator: Words = bytes_in_place
    for _ in range(_LANE_BYTES):
        operator = _TABLE[operator & np.uint32(0xFF)] ^ (operator >> np.uint32(8))
    return operator


def _apply(operator: Words, registers: Words) -> Words:
    result: Words = operator[0][registers & np.uint32(0xFF)]
    for place in range(1, 4):
        result = result ^ operator[place][registers >> np.uint32(8 * place) & np.uint32(0xFF)]
    return result
