import os
import shlex
import shutil
import socket
import time
from pathlib import Path

import ports
import pytest
import sources
import yaml
from sources import TOP, csv, download, settings

from sentiflow.data import source_changes
from sentiflow.data.sources import fetching, folders
from sentiflow.system.errors import InputError, UnavailableError

FILE = Path("data/external/reviews.csv")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A separate folder, with a clock resolution of 0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source_changes, "TICK", 0.0)
    FILE.parent.mkdir(parents=True)


@pytest.fixture
def read_file():
    """Params whose source is a downloaded file."""
    FILE.write_text(csv(40))
    p = settings("csv", location=str(FILE))
    download(p)
    return p


@pytest.fixture
def site():
    with sources.serving(csv(40)) as server:
        yield server


@pytest.fixture
def count_reads(monkeypatch):
    """The hashed files."""
    hashed = []
    sha256_of = fetching.sha256_of

    def counted(path):
        hashed.append(path)
        return sha256_of(path)

    monkeypatch.setattr(fetching, "sha256_of", counted)
    return hashed


def append(file=FILE, count=10):
    with file.open("a") as opened:
        opened.write("\n".join(sources.rows(count, first=1000)) + "\n")


def test_paths_are_those_of_the_download_stage():
    words = shlex.split(yaml.safe_load((TOP / "dvc.yaml").read_text())["stages"]["download"]["cmd"])
    assert words[words.index("--card-file") + 1] == str(source_changes.CARD)
    assert words[words.index("--partial-dir") + 1] == str(source_changes.DOWNLOADS)


# --- files --------------------------------------------------------------------------------------------------------------


def test_a_file_is_changed_between_an_append_and_the_next_download(read_file):
    assert source_changes.changed(read_file) is None
    append()
    change = source_changes.changed(read_file)
    assert change.fingerprint == fetching.sha256_of(FILE)
    assert change.in_words.startswith(f"data/external/reviews.csv: its SHA-256 is now {change.fingerprint[:12]}…, the last")
    assert change.settled
    assert change.certain
    assert source_changes.changed(read_file) == change
    download(read_file)
    assert source_changes.changed(read_file) is None


def test_everything_is_new_before_the_first_download():
    FILE.write_text(csv(40))
    change = source_changes.changed(settings("csv", location=str(FILE)))
    assert "no download has succeeded here yet" in change.in_words
    assert change.seen_by_dvc


def test_a_file_is_hashed_once_until_it_is_written(read_file, count_reads):
    time.sleep(0.01)
    for _ in range(3):
        assert source_changes.changed(read_file) is None
    assert len(count_reads) == 1
    append()
    time.sleep(0.01)
    assert [source_changes.changed(read_file) is None for _ in range(3)] == [False] * 3
    assert len(count_reads) == 2


def test_a_write_that_keeps_size_and_mtime_is_detected(read_file):
    time.sleep(0.01)
    assert source_changes.changed(read_file) is None
    before = FILE.stat()
    FILE.write_text(FILE.read_text().replace("joy", "fun"))
    os.utime(FILE, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (FILE.stat().st_size, FILE.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert source_changes.changed(read_file) is not None


def test_a_write_within_the_clock_resolution_is_hashed_again(read_file, count_reads, monkeypatch):
    monkeypatch.setattr(source_changes, "TICK", 60.0)
    source_changes.changed(read_file)
    source_changes.changed(read_file)
    assert len(count_reads) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": 1}'])
def test_a_damaged_hash_cache_only_costs_one_hash(read_file, content):
    source_changes.HASHES.parent.mkdir(exist_ok=True)
    source_changes.HASHES.write_text(content)
    assert source_changes.changed(read_file) is None


def test_a_touched_file_is_unchanged(read_file):
    FILE.touch()
    assert source_changes.changed(read_file) is None


@pytest.mark.parametrize("content", ["", "review,sen", csv(80)])
def test_a_file_that_is_being_written_is_not_settled(read_file, content):
    FILE.write_text(content)
    change = source_changes.changed(read_file, settle_seconds=60)
    assert not change.settled
    assert "so it may be incomplete" in change.in_words


def test_a_copy_with_an_old_mtime_is_not_settled(read_file, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(csv(50))
    os.utime(other, (1_500_000_000, 1_500_000_000))
    shutil.copy2(other, FILE)
    assert not source_changes.changed(read_file, settle_seconds=60).settled


def test_a_file_that_is_written_during_hashing_is_not_settled(read_file, monkeypatch):
    append()
    sha256_of = fetching.sha256_of

    def written_meanwhile(path):
        found = sha256_of(path)
        append()
        return found

    monkeypatch.setattr(fetching, "sha256_of", written_meanwhile)
    assert not source_changes.changed(read_file).settled


def test_a_file_settles(read_file):
    append()
    assert not source_changes.changed(read_file, settle_seconds=0.2).settled
    time.sleep(0.25)
    assert source_changes.changed(read_file, settle_seconds=0.2).settled


def test_a_file_that_is_missing_empty_or_a_folder_is_an_error(read_file):
    FILE.write_text("")
    with pytest.raises(InputError, match="is empty"):
        source_changes.changed(read_file)
    FILE.unlink()
    with pytest.raises(InputError, match=r"no file data/external/reviews\.csv"):
        source_changes.changed(read_file)
    FILE.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        source_changes.changed(read_file)


def test_content_that_the_download_would_reject_is_an_error():
    FILE.write_text(csv(40))
    download(settings("csv", location=str(FILE)))
    p = settings("csv", location=str(FILE), sha256=fetching.sha256_of(FILE))
    assert source_changes.changed(p) is None
    append()
    with pytest.raises(InputError, match=r"not have the checksum in params\.yaml"):
        source_changes.changed(p)


def test_dvc_sees_only_files_under_data_external(tmp_path):
    for location, seen in ((FILE, True), (tmp_path / FILE, True), (Path("elsewhere.csv"), False)):
        location.write_text(csv(40))
        p = settings("csv", location=str(location))
        download(p)
        append(location)
        assert source_changes.changed(p).seen_by_dvc is seen


def test_dvc_does_not_see_a_link_out_of_data_external(tmp_path):
    outside = tmp_path / "outside.csv"
    outside.write_text(csv(40))
    FILE.symlink_to(outside)
    p = settings("csv", location=str(FILE))
    download(p)
    append(outside)
    assert not source_changes.changed(p).seen_by_dvc


def test_another_source_in_params_is_new_data_that_dvc_sees(read_file):
    other = Path("other.csv")
    other.write_text(csv(50))
    change = source_changes.changed(settings("csv", location="other.csv"))
    assert change.seen_by_dvc
    assert change.in_words.startswith("other.csv: ")


def test_the_same_reviews_at_another_location_are_unchanged(read_file):
    FILE.rename("moved.csv")
    assert source_changes.changed(settings("csv", location="moved.csv")) is None


def test_the_package_never_counts_as_being_written():
    p = settings("package", sha256="d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d")
    assert source_changes.changed(p, settle_seconds=1e9).settled
    download(p)
    assert source_changes.changed(p, settle_seconds=1e9) is None


def test_a_damaged_card_is_an_error_with_its_name(read_file):
    source_changes.CARD.write_text("{}")
    with pytest.raises(InputError, match=r"data_card\.json was cut off"):
        source_changes.changed(read_file)


# --- folders ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder():
    return Path("data/external/aclImdb")


@pytest.fixture
def read_folder(folder):
    sources.unpack(folder, sources.aclimdb(60))
    p = settings("aclimdb", location=str(folder))
    download(p)
    return p


def test_a_folder_is_changed_when_a_review_is_added_removed_or_rewritten(read_folder, folder):
    assert source_changes.changed(read_folder) is None
    new = folder / "train/pos/900_9.txt"
    new.write_text("one more")
    assert source_changes.changed(read_folder).in_words.startswith(f"{folder}: the SHA-256 of its files is now ")
    new.unlink()
    assert source_changes.changed(read_folder) is None
    (folder / "train/neg/0_2.txt").write_text("another one")
    assert source_changes.changed(read_folder) is not None
    (folder / "train/neg/0_2.txt").unlink()
    assert source_changes.changed(read_folder) is not None
    download(read_folder)
    assert source_changes.changed(read_folder) is None


def test_other_files_do_not_change_a_folder(read_folder, folder):
    (folder / "README").write_text("read me")
    (folder / "train/unsup").mkdir()
    (folder / "train/unsup/0_0.txt").write_text("unlabelled")
    assert source_changes.changed(read_folder) is None


def test_a_folder_is_hashed_once_until_it_is_written(read_folder, monkeypatch):
    time.sleep(0.01)
    assert source_changes.changed(read_folder) is None
    monkeypatch.setattr(folders, "sha256_of", lambda contents: pytest.fail("hashed again"))
    assert source_changes.changed(read_folder) is None


def test_a_folder_that_is_being_unpacked_is_not_settled(read_folder, folder):
    (folder / "train/pos/900_9.txt").write_text("one more")
    assert not source_changes.changed(read_folder, settle_seconds=60).settled


def test_a_review_that_is_removed_during_hashing_is_not_an_error(read_folder, folder, monkeypatch):
    (folder / "train/pos/900_9.txt").write_text("one more")
    sha256_of = folders.sha256_of

    def removed_meanwhile(contents):
        (folder / "train/neg/0_2.txt").unlink()
        return sha256_of(contents)

    monkeypatch.setattr(folders, "sha256_of", removed_meanwhile)
    assert not source_changes.changed(read_folder).settled


def test_an_empty_folder_is_an_error(read_folder, folder):
    shutil.rmtree(folder)
    folder.mkdir()
    with pytest.raises(InputError, match="contains no reviews"):
        source_changes.changed(read_folder)


# --- URLs ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def read_url(site):
    p = settings("csv", location=site.url)
    download(p)
    site.asked.clear()
    return p


def test_a_url_is_changed_between_a_new_etag_and_the_next_download(read_url, site):
    assert source_changes.changed(read_url) is None
    assert site.asked == ["HEAD"], "the file is not downloaded"
    site.change(csv(50))
    change = source_changes.changed(read_url)
    assert change.in_words.startswith(f"{site.url}: ETag ")
    assert "at the last download ETag " in change.in_words
    assert not change.seen_by_dvc
    assert change.settled
    assert source_changes.changed(read_url) == change
    download(read_url)
    assert source_changes.changed(read_url) is None


@pytest.mark.parametrize("says", [{"Last-Modified"}, {"Content-Length"}, {"ETag"}])
def test_any_of_the_version_headers_is_enough(site, says):
    site.says = says
    p = settings("csv", location=site.url)
    download(p)
    assert source_changes.changed(p) is None
    site.change(csv(50))
    assert f": {next(iter(says))} " in source_changes.changed(p).in_words


def test_the_etag_takes_precedence_over_the_time(read_url, site):
    site.moment += 1000  # as with several servers of the same file
    assert source_changes.changed(read_url) is None


def test_a_weak_etag_is_compared(read_url, site):
    site.weak = True
    assert source_changes.changed(read_url) is None


@pytest.mark.parametrize("status", [403, 404, 405, 501])
@pytest.mark.parametrize("conditional", [True, False])
def test_a_server_without_head_gets_a_conditional_get(read_url, site, status, conditional):
    site.refused, site.conditional = {"HEAD": status}, conditional
    assert source_changes.changed(read_url) is None
    assert site.asked == ["HEAD", "GET"]
    site.change(csv(50))
    assert source_changes.changed(read_url) is not None


def test_a_head_response_without_comparable_headers_is_followed_by_a_conditional_get(site):
    site.says, site.says_to_head, site.chunked = {"ETag"}, {"Last-Modified"}, True
    p = settings("csv", location=site.url)
    download(p)
    assert source_changes.changed(p) is None
    site.change(csv(50))
    assert source_changes.changed(p) is not None


def test_a_server_without_version_headers_counts_as_unchanged_and_the_download_warns(site, caplog):
    site.says, site.chunked = set(), True
    p = settings("csv", location=site.url)
    download(p)
    assert f"{site.url}: the server sends neither ETag nor Last-Modified nor Content-Length" in caplog.text
    site.change(csv(50))
    assert source_changes.changed(p) is None


@pytest.mark.parametrize("content", [None, "", "[]", "[[1], 2]"])
def test_a_lost_etag_counts_as_changed_until_the_next_download(read_url, site, content):
    note = fetching._note_file(site.url, source_changes.DOWNLOADS)
    note.unlink() if content is None else note.write_text(content)
    change = source_changes.changed(read_url)
    assert "the version of the last download is not recorded here" in change.in_words
    assert not change.seen_by_dvc
    assert source_changes.changed(read_url).fingerprint == change.fingerprint
    download(read_url)
    assert source_changes.changed(read_url) is None


def test_a_download_that_was_rejected_remains_new_data(read_url, site):
    site.change("review,sentiment\n" + "no label,\n" * 60)
    with pytest.raises(InputError, match="are invalid"):
        download(read_url)
    change = source_changes.changed(read_url)
    assert "the last downloaded file has SHA-256" in change.in_words
    site.change(csv(40))  # corrected: the same as before
    assert source_changes.changed(read_url).fingerprint != change.fingerprint
    download(read_url)
    assert source_changes.changed(read_url) is None


def test_a_server_with_new_versions_of_the_same_bytes_is_uncertain_after_one_download(read_url, site):
    site.salt = "2"
    assert source_changes.changed(read_url).certain
    download(read_url)
    site.salt = "3"
    assert not source_changes.changed(read_url).certain
    site.change(csv(50))
    download(read_url)
    site.salt = "4"
    assert source_changes.changed(read_url).certain, "its last change was one"


def test_a_url_with_a_checksum_is_not_requested(site):
    wanted = fetching.sha256_of(download_of(site))
    p = settings("csv", location=site.url, sha256=wanted)
    download(p)
    site.asked.clear()
    site.change(csv(50))
    assert source_changes.changed(p) is None
    other = settings("csv", location=site.url, sha256="0" * 64)
    assert "params.yaml expects SHA-256 000000000000…" in source_changes.changed(other).in_words
    assert source_changes.changed(other).seen_by_dvc
    assert site.asked == []


def download_of(site):
    return fetching.download(site.url, source_changes.DOWNLOADS, sha256=None)


def test_another_url_in_params_is_new_data_that_dvc_sees(read_url, site):
    change = source_changes.changed(settings("csv", location=site.url.replace("reviews", "other")))
    assert change.seen_by_dvc


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_unavailable(read_url, site, status):
    site.refused = {"HEAD": status, "GET": status}
    with pytest.raises(UnavailableError, match=rf"{site.url}: the server answered {status}.*later"):
        source_changes.changed(read_url)


@pytest.mark.parametrize("status", [401, 404, 410])
def test_a_client_error_is_not_retried(read_url, site, status):
    site.refused = {"HEAD": status, "GET": status}
    with pytest.raises(InputError, match=rf"{site.url}: the server answered {status}.*check the URL") as raised:
        source_changes.changed(read_url)
    assert not isinstance(raised.value, UnavailableError)


def test_an_unreachable_server_is_unavailable_and_no_message_has_a_secret():
    port = ports.free()
    p = settings("csv", location=f"http://ann:hunter2@127.0.0.1:{port}/reviews.csv?token=s3cret")
    with pytest.raises(UnavailableError, match=rf"http://127\.0\.0\.1:{port}/reviews\.csv does not respond .*refused") as raised:
        source_changes.changed(p)
    assert "hunter2" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_server_that_times_out_is_unavailable(read_url, site, monkeypatch):
    monkeypatch.setattr(fetching, "HEADERS_TIMEOUT", (0.1, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        p = settings("csv", location=f"http://127.0.0.1:{silent.getsockname()[1]}/reviews.csv")
        with pytest.raises(UnavailableError, match="does not respond"):
            source_changes.changed(p)
