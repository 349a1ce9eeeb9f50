import contextlib
import gzip
import io
import tarfile
import time
import tracemalloc

import pytest

from sentiflow.data.sources import archives
from sentiflow.system.errors import InputError


def read(path, *, max_bytes=5_000_000, max_member=1_000_000, wanted=lambda name: name.endswith(".txt")):
    return list(archives.members(path, wanted=wanted, max_bytes=max_bytes, max_member=max_member))


def member(name, kind=tarfile.REGTYPE, *, link="", size=0):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_wanted_files_are_read(write_archive, form):
    texts = {"a/1.txt": b"one", "a/2.txt": b"", "a/3.bin": b"x" * 5000, "a/4.txt": b"y" * 512, "long/" * 25 + "5.txt": b"five"}
    path = write_archive(texts, member("a", tarfile.DIRTYPE), form=form)
    assert read(path) == [(name, text) for name, text in texts.items() if name.endswith(".txt")]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_longer_than_a_plain_header_are_read(write_archive, form):
    texts = {f"{'é' * 400}/1.txt": b"one", f"{'folder/' * 60}2.txt": b"two"}
    assert read(write_archive(texts, form=form)) == list(texts.items())


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_long_name_outside_the_archive_is_rejected(write_archive, form):
    with pytest.raises(InputError, match="outside the archive"):
        read(write_archive({f"{'folder/' * 60}{'../' * 70}evil.txt": b"evil"}, form=form))


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_an_extended_header_that_would_fill_the_memory_is_rejected(tmp_path, kind):
    huge = member("@LongLink", kind, size=4_000_000).tobuf() + bytes(4_000_256)
    path = pack(tmp_path / "a.tar.gz", huge + member("a/1.txt").tobuf() + bytes(1024))
    tracemalloc.start()
    with pytest.raises(InputError, match="a header has 4,000,000 bytes"):
        read(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_chain_of_extended_headers_is_rejected(tmp_path):
    link = member("@LongLink", tarfile.GNUTYPE_LONGNAME, size=2).tobuf() + b"a\0".ljust(512, b"\0")
    with pytest.raises(InputError, match=r"not a \.tar\.gz archive, or is damaged"):
        read(pack(tmp_path / "a.tar.gz", link * 3000 + member("a/1.txt").tobuf() + bytes(1024)))


@pytest.mark.parametrize("size", [-512, -1_000_000])
def test_a_negative_size_in_an_extended_header_is_rejected(tmp_path, size):
    record = f" size={size}\n"
    record = f"{len(record) + 2}{record}".encode()
    extended = member("pax", tarfile.XHDTYPE, size=len(record)).tobuf() + record.ljust(512, b"\0")
    with pytest.raises(InputError):
        read(pack(tmp_path / "a.tar.gz", extended + member("a/1.txt", size=3).tobuf() + b"one".ljust(512, b"\0") + bytes(1024)))


def test_headers_with_dates_and_owners_are_ignored(tmp_path):
    path = tmp_path / "mac.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        made = member("a/1.txt", size=3)
        made.mtime, made.pax_headers = 1.5, {"comment": "é" * 2000}
        archive.addfile(made, io.BytesIO(b"one"))
    assert read(path) == [("a/1.txt", b"one")]


@pytest.mark.parametrize(
    ("hostile", "said"),
    [
        (member("../evil.txt"), "outside the archive"),
        (member("a/../../evil.txt"), "outside the archive"),
        (member("/etc/cron.d/evil.txt"), "outside the archive"),
        (member("a/..", tarfile.DIRTYPE), "outside the archive"),
        (member("a/1.txt", tarfile.SYMTYPE, link="/etc/passwd"), "symbolic link"),
        (member("unwanted", tarfile.SYMTYPE, link="."), "symbolic link"),
        (member("a/1.txt", tarfile.LNKTYPE, link="../../etc/passwd"), "hard link"),
        (member("a/1.txt", tarfile.CHRTYPE), "device"),
        (member("a/1.txt", tarfile.BLKTYPE), "device"),
        (member("a/1.txt", tarfile.FIFOTYPE), "pipe"),
        (member("a/1.txt", b"Z"), "unknown type"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_links_devices_and_paths_outside_are_rejected(write_archive, tmp_path, hostile, said):
    path = write_archive({"a/0.txt": b"good"}, hostile)
    with pytest.raises(InputError, match=said):
        read(path)
    assert list(tmp_path.iterdir()) == [path], "something was written"


def test_a_header_with_a_wrong_checksum_is_rejected(tmp_path):
    header = bytearray(member("a/1.txt", size=3).tobuf()[:512])
    header[0:1] = b"b"
    with pytest.raises(InputError, match="invalid header"):
        read(pack(tmp_path / "a.tar.gz", bytes(header) + b"one".ljust(512, b"\0") + bytes(1024)))


@pytest.mark.parametrize("name", ["a/1.txt", "unwanted"])
def test_unpacking_stops_at_the_limit_in_little_memory(tmp_path, name):
    path = tmp_path / "bomb.tar.gz"
    header = member(name, size=2_000_000_000).tobuf()
    with gzip.open(path, "wb", compresslevel=1) as packed:
        packed.write(header)
        for _ in range(100):
            packed.write(bytes(1_000_000))
    tracemalloc.start()
    started = time.monotonic()
    with pytest.raises(InputError, match="unpacks to more than max_bytes, 5,000,000"):
        read(path)
    assert time.monotonic() - started < 1
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("after", ["a member", "the end mark"])
def test_the_limit_counts_unpacked_bytes_and_not_sizes_in_headers(tmp_path, after):
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as packed:
        for number in range(3 if after == "a member" else 0):
            packed.write(member(f"{number}.bin", size=2_000_000).tobuf() + bytes(2_000_384))
        packed.write(bytes(6_000_000))
    with pytest.raises(InputError, match="unpacks to more than max_bytes"):
        read(path)


def test_only_the_beginning_of_a_long_file_is_in_memory(write_archive):
    path = write_archive({"a/1.txt": b"x" * 100_000, "a/2.txt": b"two"})
    assert read(path, max_member=10) == [("a/1.txt", b"x" * 10), ("a/2.txt", b"two")]


def pack(path, content):
    with gzip.open(path, "wb") as packed:
        packed.write(content)
    return path


@pytest.mark.parametrize("size", [5, 3000])
def test_a_header_with_a_wrong_size_is_rejected(tmp_path, size):
    lying = member("a/1.txt", size=size).tobuf() + b"real content".ljust(1024, b"!") + bytes(1024)
    with pytest.raises(InputError, match=r"invalid header|unexpected end of data"):
        read(pack(tmp_path / "a.tar.gz", lying))


@pytest.mark.parametrize("size", [b"-0000000512\0", b"\xff" * 12, b"00000000x05\0"])
def test_a_size_that_is_negative_or_not_a_number_is_rejected(tmp_path, size):
    header = bytearray(member("a/1.txt").tobuf()[:512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(InputError, match=r"invalid header|a header has -"):
        read(pack(tmp_path / "a.tar.gz", bytes(header) + bytes(2048)))


def test_an_archive_truncated_anywhere_is_rejected(write_archive, tmp_path):
    whole = write_archive({f"a/{n}.txt": f"review {n}".encode() * 50 for n in range(4)}).read_bytes()
    cut = tmp_path / "cut.tar.gz"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"truncated|not a \.tar\.gz"):
            read(cut)


def test_a_damaged_archive_is_an_error_or_gives_the_right_texts(write_archive, tmp_path):
    texts = {f"a/{n}.txt": f"review {n}".encode() * 50 for n in range(4)}
    whole = write_archive(texts).read_bytes()
    damaged = tmp_path / "damaged.tar.gz"
    for place in range(10, len(whole)):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with contextlib.suppress(InputError):
            assert read(damaged) == list(texts.items())


NO_TAR = gzip.compress(b"no tar in here" * 100, mtime=0)  # mtime=0: the bytes are in the name of the test


@pytest.mark.parametrize("content", [b"review,sentiment\n", NO_TAR, b"PK\x03\x04 a zip"])
def test_a_file_that_is_not_an_archive_is_an_error(tmp_path, content):
    path = tmp_path / "not.tar.gz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a \.tar\.gz archive"):
        read(path)
