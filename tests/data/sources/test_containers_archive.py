"""Archives: what is listed, what hostile ones get, and that nothing is written outside."""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from vidgan.data.sources.containers.archive import is_archive, open_archive
from vidgan.data.sources.containers.items import Limits, plain_name, unsafe_name
from vidgan.errors import UserError, printable
from vidgan.video import UnreadableVideoError

FILES = {"run/a.mp4": b"a" * 700, "walk/b.mp4": b"b" * 512, "notes.txt": b""}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def copies(cache: Path) -> list[Path]:
    """What unpacking left in the cache, whole or not, beside its empty locks."""
    return [p for p in cache.rglob("*") if p.is_file() and not p.name.startswith(".tmp-lock-")]


def write_zip(path: Path, files=FILES, compression=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tar_bytes(files=FILES) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


PACKERS = {
    "a.tar": bytes,
    "a.tar.gz": gzip.compress,
    "a.tgz": gzip.compress,
    "a.tar.zst": zstandard.ZstdCompressor().compress,
    "a.tar.bz2": bz2.compress,
    "a.tar.xz": lzma.compress,
}


def write_archive(path: Path, files=FILES) -> Path:
    if path.suffix == ".zip":
        return write_zip(path, files)
    path.write_bytes(PACKERS[path.name](tar_bytes(files)))
    return path


@pytest.mark.parametrize("name", ["a.zip", *PACKERS])
def test_members_are_listed_and_read_in_place(tmp_path, cache, name):
    path = write_archive(tmp_path / name)
    assert is_archive(path)
    archive = open_archive(path)
    assert {member: archive.read(member) for member in archive.members} == FILES
    assert archive.read("run/a.mp4", 3) == b"aaa"
    assert archive.dropped == ()
    assert archive.notes == ()
    # Only compressed tars leave anything, and that under a name of ours in the cache.
    compressed = name not in ("a.zip", "a.tar")
    assert len(copies(cache)) == compressed
    assert {p.name for p in tmp_path.iterdir()} <= {name, "cache"}


def test_a_changed_archive_is_read_anew(tmp_path):
    path = write_archive(tmp_path / "a.tar.gz")
    assert "run/a.mp4" in open_archive(path).members
    write_archive(path, {"c.mp4": b"c"})
    assert open_archive(path).read("c.mp4") == b"c"


HOSTILE = {
    "../up.mp4": "has a name that leads out of the archive",
    "a/../../up.mp4": "has a name that leads out of the archive",
    "..\\up.mp4": "has a name that leads out of the archive",
    "/etc/up.mp4": "has an absolute name",
    "C:\\up.mp4": "has an absolute name",
}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_names_that_lead_elsewhere_are_dropped_and_named(tmp_path, name):
    inner = tmp_path / "deep" / "er"
    inner.mkdir(parents=True)
    path = write_archive(inner / name, {**dict.fromkeys(HOSTILE, b"x"), "good.mp4": b"y"})
    archive = open_archive(path)
    assert dict(archive.dropped) == {printable(name): why for name, why in HOSTILE.items()}
    assert {m: archive.read(m) for m in archive.members} == {"good.mp4": b"y"}
    found = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert not any("up" in file for file in found)


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_odd_names_stay_on_one_line(tmp_path, name):
    odd = {"two\nlines.mp4": b"1", "<b>bold</b>.mp4": b"2", "./x//./y.mp4": b"3"}
    archive = open_archive(write_archive(tmp_path / name, odd))
    assert list(archive.members) == ["two\nlines.mp4", "<b>bold</b>.mp4", "x/y.mp4"]
    assert printable("two\nlines.mp4") == "two\\nlines.mp4"
    assert archive.read("x/y.mp4") == b"3"


def test_unprintable_names_are_escaped():
    assert printable("a\udcffb") == "a\\udcffb"
    assert printable("\x1b[31mred\u2028") == "\\x1b[31mred\\u2028"
    assert printable("gr\u00fcn.mp4") == "gr\u00fcn.mp4"
    assert plain_name("a\\b") == "a/b"
    assert unsafe_name("a..b/..c") is None


def test_links_devices_and_sparse_files_of_a_tar_are_dropped(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in [
            ("soft.mp4", tarfile.SYMTYPE),
            ("hard.mp4", tarfile.LNKTYPE),
            ("device.mp4", tarfile.CHRTYPE),
            ("pipe.mp4", tarfile.FIFOTYPE),
        ]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        sparse = tarfile.TarInfo("sparse.mp4")
        sparse.pax_headers = {
            "GNU.sparse.major": "0",
            "GNU.sparse.minor": "1",
            "GNU.sparse.map": "0,0",
            "GNU.sparse.size": str(10 << 30),
        }
        archive.addfile(sparse)
    archive = open_archive(path)
    assert not archive.members
    assert dict(archive.dropped) == {
        "soft.mp4": "is a link",
        "hard.mp4": "is a link",
        "device.mp4": "is not an ordinary file",
        "pipe.mp4": "is not an ordinary file",
        "sparse.mp4": "is not an ordinary file",
    }


def test_links_and_encrypted_members_of_a_zip_are_dropped(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("soft.mp4")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("secret.mp4", b"abc")
    data = bytearray(path.read_bytes())
    # The encryption flag stands 8 bytes into the entry of the central directory.
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    archive = open_archive(path)
    assert dict(archive.dropped) == {"soft.mp4": "is a link", "secret.mp4": "is encrypted"}


def test_a_name_that_comes_twice_is_the_later_one(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_bytes({"a.mp4": b"old"}).rstrip(b"\0") + b"")
    with tarfile.open(path, "w") as archive:
        for data in (b"old", b"new"):
            info = tarfile.TarInfo("a.mp4")
            info.size = 3
            archive.addfile(info, io.BytesIO(data))
    archive = open_archive(path)
    assert archive.read("a.mp4") == b"new"
    assert archive.dropped == (("a.mp4", "occurs again later in the archive"),)


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz", "a.tar.zst", "a.tar.bz2", "a.tar.xz"])
def test_bombs_are_refused_before_they_unpack(tmp_path, cache, name):
    path = write_archive(tmp_path / name, {"zeros.mp4": bytes(96 << 20)})
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UserError, match="over 200 times its size, as a decompression bomb does"):
        open_archive(path)
    assert not copies(cache)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.zst"])
def test_a_bomb_with_a_long_tail_is_known_before_it_fills_the_disk(tmp_path, cache, name):
    bomb = PACKERS[name](bytes(80 << 20))
    # Damage behind it is never reached, nor does the tail make the whole look harmless.
    (tmp_path / name).write_bytes(bomb + bytes(4 << 20))
    with pytest.raises(UserError, match="over 200 times its size, as a decompression bomb does"):
        open_archive(tmp_path / name)
    assert not copies(cache)


def test_what_a_killed_process_left_is_cleared(tmp_path, cache):
    path = write_archive(tmp_path / "a.tar.gz")
    assert open_archive(path).read("run/a.mp4")
    (copy,) = copies(cache)
    left = copy.with_name(f".tmp-99999999-{copy.name}")
    copy.rename(left)
    assert open_archive(path).read("run/a.mp4")
    assert copies(cache) == [copy]


def test_small_things_that_shrink_well_are_no_bombs(tmp_path):
    path = write_archive(tmp_path / "a.tar.gz", {"zeros.mp4": bytes(4 << 20)})
    assert path.stat().st_size * 200 < 4 << 20
    assert len(open_archive(path).read("zeros.mp4")) == 4 << 20


def header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def extended(kind: bytes, body: bytes) -> bytes:
    return header("more", len(body), kind) + body + bytes(-len(body) % 512)


def comments(count: int) -> bytes:
    return b"".join(b"11 %05x=b\n" % n for n in range(count))


ENDLESS = {
    "a long number": extended(b"x", b"1" * 40_000),
    "a table": extended(b"g", comments(100_000)),
    "a long name": extended(b"L", b"a" * 100_000),
    "a long link": extended(b"K", b"a" * 100_000),
    "a table of Solaris": extended(b"X", comments(100_000)),
    "a chain of names": extended(b"L", b"abc\0") * 3000,
    "a chain of tables": extended(b"g", comments(1)) * 3000,
}


@pytest.mark.parametrize("packer", ["a.tar", "a.tar.zst"])
@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("first", [b"", tar_bytes()[:1536]])
def test_endless_extended_headers_of_a_tar_are_refused(tmp_path, kind, packer, first):
    path = tmp_path / packer
    file = header("a.mp4", 4, b"0") + b"abcd" + bytes(508)
    path.write_bytes(PACKERS[packer](first + ENDLESS[kind] + file + bytes(1024)))
    with pytest.raises(UserError, match=r"a\.tar.* has extended headers of more than"):
        open_archive(path)


def test_what_a_global_header_says_is_not_kept_for_every_member(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(
        "vidgan.data.sources.containers.archive._tar_flaw",
        lambda info: kept.append(len(info.pax_headers)),
    )
    file = header("a.mp4", 4, b"0") + b"abcd" + bytes(508)
    path = tmp_path / "a.tar"
    path.write_bytes(extended(b"g", comments(5000)) + file * 50 + bytes(1024))
    open_archive(path)
    assert len(kept) == 50
    assert sum(kept) <= 5000


def test_long_names_and_comments_of_a_tar_are_read(tmp_path):
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = tmp_path / f"{form}.tar"
        with tarfile.open(path, "w", format=form, pax_headers={"comment": "c" * 40}) as archive:
            for number in range(20):
                info = tarfile.TarInfo(f"{'long/' * 300}{number}.mp4")
                info.size = 4
                archive.addfile(info, io.BytesIO(b"abcd"))
        assert list(open_archive(path).members) == [f"{'long/' * 300}{n}.mp4" for n in range(20)]


def test_limits_on_members_and_bytes(tmp_path):
    path = write_archive(tmp_path / "a.zip")
    with pytest.raises(UserError, match="more than 2 members: split it"):
        open_archive(path, Limits(members=2))
    with pytest.raises(UserError, match="unpacks to more than 0 GiB"):
        open_archive(path, Limits(total_bytes=1000))
    archive = open_archive(path, Limits(member_bytes=600))
    assert archive.dropped == (("run/a.mp4", "is larger than 0 GiB"),)


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_a_lie_about_a_size_in_a_zip_gives_no_more_bytes(tmp_path, name):
    path = write_archive(tmp_path / name, {"a.mp4": bytes(100_000)})
    if name == "a.zip":
        data = bytearray(path.read_bytes())
        at = data.rindex(b"PK\x01\x02") + 24
        data[at : at + 4] = (10).to_bytes(4, "little")
        path.write_bytes(data)
        with pytest.raises(UnreadableVideoError, match="cannot be unpacked"):
            open_archive(path).read("a.mp4")
    else:
        assert len(open_archive(path).read("a.mp4")) == 100_000


def test_a_damaged_member_of_a_zip_is_named_when_it_is_read(tmp_path):
    path = write_zip(tmp_path / "a.zip", compression=zipfile.ZIP_STORED)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"a" * 700, b"a" * 699 + b"b"))
    archive = open_archive(path)
    with pytest.raises(UnreadableVideoError, match=r"a\.zip: cannot be unpacked \(Bad CRC-32"):
        archive.read("run/a.mp4")
    assert archive.read("walk/b.mp4") == FILES["walk/b.mp4"]


def test_cut_archives(tmp_path):
    path = write_zip(tmp_path / "a.zip")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="is not a valid zip archive"):
        open_archive(path)
    whole = tar_bytes()
    for name, start in (("a.tar", 1200), ("b.tar", 600), ("c.tar", 1536)):
        (tmp_path / name).write_bytes(whole[:start])
        archive = open_archive(tmp_path / name)
        assert archive.notes == (f"{name} has no end marker: it is cut off or damaged there",)
        assert list(archive.members) == ["run/a.mp4"]
    with pytest.raises(UnreadableVideoError, match="the archive ends inside of this member"):
        open_archive(tmp_path / "b.tar").read("run/a.mp4")
    packed = gzip.compress(whole, 0)
    (tmp_path / "c.tar.gz").write_bytes(packed[:1800])
    archive = open_archive(tmp_path / "c.tar.gz")
    assert archive.read("run/a.mp4") == FILES["run/a.mp4"]
    assert len(archive.notes) == 1


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar.zst", "a.tar.bz2", "a.tar.xz"])
def test_damaged_streams_are_one_sentence(tmp_path, cache, name):
    path = write_archive(tmp_path / name)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    data[-6] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match=rf"{name} is damaged|is not a zip or tar archive"):
        open_archive(path)
    assert all(copy.stat().st_size for copy in copies(cache))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>" * 50, "is not a zip or tar archive"),
        (b"PK\x03\x04" + bytes(100), "is not a valid zip archive"),
        (b"x" * 100, "is not a zip or tar archive"),
    ],
)
def test_what_is_no_archive_is_one_sentence(tmp_path, content, expected):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match=expected):
        open_archive(path)
