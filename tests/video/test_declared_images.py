"""Geometry and colour: what a file says about its images is what is read."""

import math
from fractions import Fraction
from itertools import cycle, product

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type

from vidgan.data.build.packing import check_source
from vidgan.data.settings import DataConfig
from vidgan.video import UnreadableVideoError, probe, read_frames

WIDTH, HEIGHT = 48, 32
# (degrees counter-clockwise, mirrored left to right, mirrored top to bottom), in that order.
ORIENTATIONS = [(turn, mirrored, False) for turn in (0, 90, 180, 270) for mirrored in (False, True)]
ASPECTS = [Fraction(1), Fraction(64, 45), Fraction(8, 9)]
MATRICES = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}
MATRICES[2] = MATRICES[6]  # Untagged small images count as BT.601.
RANGES = (1, 2)
TRANSFERS = {"SDR": 1, "PQ": 16, "HLG": 18}
CORNERS = [[(200, 60, 40), (40, 180, 90)], [(60, 80, 210), (150, 150, 150)]]
"""Signals of the four quarters as they are to be looked at, as 8 bits would give them."""


def coded(rgb, matrix, color_range, depth):
    """Y, Cb and Cr (ITU-R BT.709, item 3.2 onwards, and BT.2100 for more bits)."""
    red, green, blue = (value / 255 for value in rgb)
    kr, kb = MATRICES[matrix]
    y = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))
    if color_range == 2:
        full = 2**depth - 1
        return [round(y * full), *(round(c * full + 2 ** (depth - 1)) for c in chroma)]
    scale = 2 ** (depth - 8)
    return [round((16 + 219 * y) * scale), *(round((128 + 224 * c) * scale) for c in chroma)]


def pq(light):
    power = (light / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def pq_light(signal):
    power = signal ** (1 / 78.84375)
    inner = max(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return 10000 * inner ** (1 / 0.1593017578125)


def rolled_off(light):
    """BT.2390, section 5.4.1, from 1,000 to 203 cd/m2."""
    signal, top = min(pq(light) / pq(1000), 1), pq(203) / pq(1000)
    knee = 1.5 * top - 0.5
    if signal >= knee:
        t = (signal - knee) / (1 - knee)
        signal = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee)
        signal += (-2 * t**3 + 3 * t**2) * top
    return pq_light(signal * pq(1000))


def as_sdr(rgb, transfer):
    """What an HDR signal looks like in SDR, one number at a time."""
    signal = [value / 255 for value in rgb]
    if transfer == "SDR":
        return list(rgb)
    if transfer == "PQ":
        light = [pq_light(value) for value in signal]
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = [v * v / 3 if v <= 0.5 else (math.exp((v - c) / a) + b) / 12 for v in signal]
        luminance = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
        light = [1000 * luminance**0.2 * value for value in scene]
    scale = rolled_off(max(light)) / max(light) / 203
    light = [value * scale for value in light]
    # BT.2087, table 5.
    rows = [(1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)]
    linear = [sum(k * value for k, value in zip(row, light, strict=True)) for row in rows]
    return [255 * min(max(value, 0), 1) ** (1 / 2.4) for value in linear]


def write_quarters(
    path, *, orientation=(0, False, False), aspect=Fraction(1), matrix=2, color_range=1,
    transfer="SDR", primaries=2, size=(WIDTH, HEIGHT), stored=None,
):  # fmt: skip
    """Two frames whose quarters, when displayed as declared, are `CORNERS`."""
    depth = 8 if transfer == "SDR" else 10
    pix_fmt = "yuv444p" if depth == 8 else "yuv444p10le"
    width, height = size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"qp": "0", "preset": "ultrafast"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        context = stream.codec_context
        context.sample_aspect_ratio = aspect
        context.colorspace, context.color_range = matrix, color_range
        context.color_trc, context.color_primaries = TRANSFERS[transfer], primaries
        stream.set_display_rotation(*orientation)
        frame = av.VideoFrame(width, height, pix_fmt)
        corners = CORNERS if stored is None else stored
        for component, plane in enumerate(frame.planes):
            values = [[coded(rgb, matrix, color_range, depth) for rgb in row] for row in corners]
            whole = np.array(values)[..., component].repeat(height // 2, 0).repeat(width // 2, 1)
            sample = np.dtype(np.uint8 if depth == 8 else "<u2")
            rows = np.zeros((height, plane.line_size // sample.itemsize), sample)
            rows[:, :width] = whole
            plane.update(rows.tobytes())
        frame.colorspace, frame.color_range = matrix, color_range
        frame.color_trc, frame.color_primaries = TRANSFERS[transfer], primaries
        for n in range(2):
            frame.pts = n
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def before_display(corners, orientation):
    """Corners as they have to be stored: the way back of turning first and mirroring then."""
    turn, left_right, top_bottom = orientation
    array = np.array(corners)
    array = array[:, ::-1] if left_right else array
    array = array[::-1] if top_bottom else array
    return np.rot90(array, -turn // 90).tolist()


SHAPES = list(product(ORIENTATIONS, ASPECTS))
COLOURS = list(product(MATRICES, RANGES, TRANSFERS))
# A quick run has all of each in changing company, a slow one every pair.
QUICK = set(zip([*SHAPES, *SHAPES], cycle(COLOURS), strict=False))
TABLE = [
    pytest.param(*pair[0], *pair[1], marks=() if pair in QUICK else pytest.mark.slow)
    for pair in product(SHAPES, COLOURS)
]


@pytest.mark.parametrize(("orientation", "aspect", "matrix", "color_range", "transfer"), TABLE)
def test_images_are_read_as_declared(tmp_path, orientation, aspect, matrix, color_range, transfer):
    path = write_quarters(
        tmp_path / "a.mp4",
        orientation=orientation,
        aspect=aspect,
        matrix=matrix,
        color_range=color_range,
        transfer=transfer,
        stored=before_display(CORNERS, orientation),
    )
    info = probe(path)
    pixels = read_frames(path).pixels[:, 1].astype(int)
    height, width = pixels.shape[1:]
    shown = WIDTH * aspect / HEIGHT
    shown = 1 / shown if orientation[0] % 180 else shown
    assert (info.width, info.height) == (width, height)
    assert width / height == pytest.approx(float(shown), rel=0.03)
    assert min(width, height) >= HEIGHT
    for row, column in product((0, 1), (0, 1)):
        y, x = (1 + 2 * row) * height // 4, (1 + 2 * column) * width // 4
        expected = as_sdr(CORNERS[row][column], transfer)
        assert pixels[:, y, x].tolist() == pytest.approx(expected, abs=3), (row, column)
    said = " ".join(info.remarks)
    assert ("mirrored" in said) == orientation[1]
    assert ("square" in said) == (aspect != 1)
    assert ("HDR" in said) == (transfer != "SDR")


@pytest.mark.parametrize(
    ("size", "is_hd"),
    [((640, 480), False), ((720, 576), False), ((1280, 720), True), ((720, 1280), True)],
)
def test_untagged_colours_are_those_that_players_take(tmp_path, size, is_hd):
    # Stored by the matrix of the size's kind, and no word about it.
    matrix = 1 if is_hd else 6
    path = write_quarters(tmp_path / "a.mp4", size=size, matrix=matrix)
    data = path.read_bytes()
    untagged = write_quarters(tmp_path / "b.mp4", size=size, matrix=2)
    assert data != untagged.read_bytes()
    MATRICES[2] = MATRICES[matrix]
    try:
        untagged = write_quarters(tmp_path / "b.mp4", size=size, matrix=2)
    finally:
        MATRICES[2] = MATRICES[6]
    for file in (path, untagged):
        pixels = read_frames(file, [1]).pixels[:, 0, size[1] // 4, size[0] // 4]
        assert pixels.tolist() == pytest.approx(CORNERS[0][0], abs=3)


@pytest.mark.parametrize(("transfer", "signal"), [("PQ", 0.5807), ("HLG", 0.75)])
def test_graphics_white_of_hdr_is_nearly_white(tmp_path, transfer, signal):
    white = [[(255 * signal,) * 3] * 2] * 2
    path = write_quarters(tmp_path / "a.mp4", transfer=transfer, matrix=9, stored=white)
    pixels = read_frames(path, [0], resolution=8).pixels
    assert 225 <= pixels.min() <= pixels.max() <= 235


def test_hdr_of_other_primaries_keeps_its_colours(tmp_path):
    grey, red = [(130,) * 3] * 2, [(150, 40, 40)] * 2
    found = {}
    for primaries in (1, 9, 12):
        path = write_quarters(
            tmp_path / f"{primaries}.mp4", transfer="PQ", primaries=primaries, stored=[grey, red]
        )
        found[primaries] = read_frames(path, [0]).pixels[:, 0].astype(int)
    for pixels in found.values():
        assert np.ptp(pixels[:, 4, 4]) <= 1
    # The same numbers are a stronger red, the wider the primaries are.
    strength = {p: int(found[p][0, -4, 4] - found[p][1, -4, 4]) for p in found}
    assert strength[1] < strength[12] <= strength[9]


def test_wide_primaries_without_hdr_are_named(tmp_path):
    path = write_quarters(tmp_path / "a.mp4", matrix=9, primaries=9)
    assert probe(path).remarks == ("colours of BT.2020 taken as they are stored",)


@pytest.mark.parametrize(
    ("size", "aspect", "shown"),
    [
        ((720, 480), Fraction(8, 9), 640 / 480),  # DVD, NTSC 4:3 (with the edges of 704 x 480)
        ((720, 480), Fraction(32, 27), 16 / 9),
        ((720, 576), Fraction(64, 45), 16 / 9),
        ((1440, 1080), Fraction(4, 3), 16 / 9),  # HDV and DVCPRO HD
        ((960, 720), Fraction(4, 3), 16 / 9),
        ((352, 576), Fraction(24, 11), 4 / 3),  # half D1
        ((64, 64), Fraction(1, 200), 1),  # nonsense, which no format has
    ],
)
def test_anamorphic_formats(tmp_path, size, aspect, shown):
    info = probe(write_quarters(tmp_path / "a.mp4", size=size, aspect=aspect))
    assert info.width / info.height == pytest.approx(shown, rel=0.01)


def test_a_circle_stays_round_however_the_frame_is_fitted(tmp_path):
    # The left half is white: as wide as high in an image of 2:1.
    half = [[(255,) * 3, (0,) * 3]] * 2
    path = write_quarters(tmp_path / "a.mp4", size=(32, 32), aspect=Fraction(2), stored=half)
    letterbox = read_frames(path, [0], resolution=32, resize="letterbox").pixels[0, 0] > 128
    assert letterbox.any(0).sum() == pytest.approx(16, abs=1)
    assert letterbox.any(1).sum() == pytest.approx(16, abs=1)
    stretched = read_frames(path, [0], resolution=32, resize="stretch").pixels[0, 0] > 128
    assert stretched.any(0).sum() == pytest.approx(16, abs=1)
    assert stretched.any(1).sum() == 32


def test_a_matrix_that_nobody_reads_is_refused_by_name(tmp_path):
    for code, name in ((8, "YCgCo"), (14, "ICtCp"), (10, "constant luminance")):
        path = tmp_path / f"{code}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv444p"
            stream.codec_context.colorspace = code
            frame = av.VideoFrame(16, 16, "yuv444p")
            frame.colorspace, frame.pts = code, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        for read in (probe, read_frames):
            with pytest.raises(UnreadableVideoError, match=f"stores colours as .*{name}"):
                read(path)


def test_a_check_names_what_was_made_of_the_images(tmp_path):
    path = tmp_path / "v" / "a.mp4"
    path.parent.mkdir()
    write_quarters(path, orientation=(90, True, False), aspect=Fraction(4, 3), transfer="HLG")
    config = DataConfig(resolution=16, frames=2, workers=0)
    ((_, told),) = [note for note in check_source(path.parent, config).notes if note[0]]
    for words in ("mirrored", "pixels of 4:3 made square", "HDR (HLG) mapped to SDR"):
        assert words in told


def test_the_display_matrix_is_in_the_file_that_was_written(tmp_path):
    # Without this the tests of orientations could pass on files that say nothing.
    path = write_quarters(tmp_path / "a.mp4", orientation=(90, True, False))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        matrix = np.frombuffer(frame.side_data.get(Type.DISPLAYMATRIX), np.int32)
    assert np.flatnonzero(matrix[:5]).tolist() == [1, 3]
