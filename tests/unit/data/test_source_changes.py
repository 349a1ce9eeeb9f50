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
    """A folder of its own, in which a write is taken for settled after a millisecond."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source_changes, "TICK", 0.0)
    FILE.parent.mkdir(parents=True)


@pytest.fixture
def read_file():
    """A file that the last download read."""
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
    """Files that were hashed."""
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


def test_it_looks_where_the_download_stage_writes():
    words = shlex.split(yaml.safe_load((TOP / "dvc.yaml").read_text())["stages"]["download"]["cmd"])
    assert words[words.index("--card-file") + 1] == str(source_changes.CARD)
    assert words[words.index("--partial-dir") + 1] == str(source_changes.DOWNLOADS)


# --- files --------------------------------------------------------------------------------------------------------------


def test_a_file_that_was_read_is_unchanged_until_rows_are_appended_and_again_when_those_are_read(read_file):
    assert source_changes.changed(read_file) is None
    append()
    change = source_changes.changed(read_file)
    assert change.fingerprint == fetching.sha256_of(FILE)
    assert change.in_words.startswith(f"data/external/reviews.csv: its SHA-256 is now {change.fingerprint[:12]}…, the last")
    assert change.settled
    assert change.certain
    assert source_changes.changed(read_file) == change, "as long as nobody has read it, it stays changed"
    download(read_file)
    assert source_changes.changed(read_file) is None


def test_without_a_download_everything_is_new():
    FILE.write_text(csv(40))
    change = source_changes.changed(settings("csv", location=str(FILE)))
    assert "no download has succeeded here yet" in change.in_words
    assert change.seen_by_dvc


def test_a_file_is_hashed_once_as_long_as_nobody_writes_to_it(read_file, count_reads):
    time.sleep(0.01)
    for _ in range(3):
        assert source_changes.changed(read_file) is None
    assert len(count_reads) == 1
    append()
    time.sleep(0.01)
    assert [source_changes.changed(read_file) is None for _ in range(3)] == [False] * 3
    assert len(count_reads) == 2


def test_a_write_that_keeps_size_and_time_is_seen(read_file):
    time.sleep(0.01)
    assert source_changes.changed(read_file) is None
    before = FILE.stat()
    FILE.write_text(FILE.read_text().replace("joy", "fun"))
    os.utime(FILE, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (FILE.stat().st_size, FILE.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert source_changes.changed(read_file) is not None


def test_a_write_within_a_tick_of_the_clock_is_hashed_again(read_file, count_reads, monkeypatch):
    monkeypatch.setattr(source_changes, "TICK", 60.0)
    source_changes.changed(read_file)
    source_changes.changed(read_file)
    assert len(count_reads) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": 1}'])
def test_a_damaged_memory_of_hashes_costs_one_more_hash_and_nothing_else(read_file, content):
    source_changes.HASHES.parent.mkdir(exist_ok=True)
    source_changes.HASHES.write_text(content)
    assert source_changes.changed(read_file) is None


def test_a_touched_file_is_unchanged(read_file):
    FILE.touch()
    assert source_changes.changed(read_file) is None


@pytest.mark.parametrize("content", ["", "review,sen", csv(80)])
def test_a_file_that_is_being_written_is_not_settled_whatever_is_in_it_so_far(read_file, content):
    FILE.write_text(content)
    change = source_changes.changed(read_file, settle_seconds=60)
    assert not change.settled
    assert "so it may be incomplete" in change.in_words


def test_a_copy_that_keeps_the_old_time_is_being_written_all_the_same(read_file, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text(csv(50))
    os.utime(other, (1_500_000_000, 1_500_000_000))
    shutil.copy2(other, FILE)
    assert not source_changes.changed(read_file, settle_seconds=60).settled


def test_a_file_that_is_written_to_while_it_is_hashed_is_not_settled(read_file, monkeypatch):
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


def test_a_file_that_is_gone_empty_or_a_folder_is_an_error_that_says_so(read_file):
    FILE.write_text("")
    with pytest.raises(InputError, match="is empty"):
        source_changes.changed(read_file)
    FILE.unlink()
    with pytest.raises(InputError, match=r"no file data/external/reviews\.csv"):
        source_changes.changed(read_file)
    FILE.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        source_changes.changed(read_file)


def test_what_the_download_would_refuse_is_an_error_and_no_new_data():
    FILE.write_text(csv(40))
    download(settings("csv", location=str(FILE)))
    p = settings("csv", location=str(FILE), sha256=fetching.sha256_of(FILE))
    assert source_changes.changed(p) is None
    append()
    with pytest.raises(InputError, match=r"not have the checksum in params\.yaml"):
        source_changes.changed(p)


def test_dvc_sees_a_file_under_data_external_and_no_other(tmp_path):
    for location, seen in ((FILE, True), (tmp_path / FILE, True), (Path("elsewhere.csv"), False)):
        location.write_text(csv(40))
        p = settings("csv", location=str(location))
        download(p)
        append(location)
        assert source_changes.changed(p).seen_by_dvc is seen


def test_a_link_that_leads_out_of_data_external_is_not_taken_for_seen(tmp_path):
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


def test_the_same_reviews_at_another_place_are_not_new(read_file):
    FILE.rename("moved.csv")
    assert source_changes.changed(settings("csv", location="moved.csv")) is None


def test_a_tsv_is_watched_like_a_csv():
    file = Path("data/external/tweets.tsv")
    file.write_text("text\tlabel\n" + "".join(f"tweet {i}\t{i % 3 - 1}\n" for i in range(60)))
    p = settings("tsv", location=str(file))
    download(p)
    assert source_changes.changed(p) is None
    with file.open("a") as opened:
        opened.write("one more\t1\n")
    assert source_changes.changed(p) is not None


def test_the_package_as_locked_is_unchanged_when_it_was_read_though_it_was_installed_just_now():
    p = settings("package", sha256="d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d")
    assert source_changes.changed(p, settle_seconds=1e9).settled
    download(p)
    assert source_changes.changed(p, settle_seconds=1e9) is None


def test_a_damaged_card_is_an_error_that_names_it(read_file):
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


def test_a_folder_is_unchanged_until_a_review_comes_goes_or_is_written_anew(read_folder, folder):
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


def test_files_that_are_no_reviews_do_not_change_a_folder(read_folder, folder):
    (folder / "README").write_text("read me")
    (folder / "train/unsup").mkdir()
    (folder / "train/unsup/0_0.txt").write_text("unlabelled")
    assert source_changes.changed(read_folder) is None


def test_a_folder_is_read_once_as_long_as_nobody_writes_to_it(read_folder, monkeypatch):
    time.sleep(0.01)
    assert source_changes.changed(read_folder) is None
    monkeypatch.setattr(folders, "sha256_of", lambda contents: pytest.fail("read once more"))
    assert source_changes.changed(read_folder) is None


def test_a_folder_that_is_being_unpacked_is_not_settled(read_folder, folder):
    (folder / "train/pos/900_9.txt").write_text("one more")
    assert not source_changes.changed(read_folder, settle_seconds=60).settled


def test_a_review_that_goes_while_the_folder_is_read_is_no_error(read_folder, folder, monkeypatch):
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


def test_a_url_is_unchanged_until_its_etag_changes_and_again_when_it_was_fetched(read_url, site):
    assert source_changes.changed(read_url) is None
    assert site.asked == ["HEAD"], "the file itself is not fetched"
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
def test_the_best_of_what_the_server_says_decides(site, says):
    site.says = says
    p = settings("csv", location=site.url)
    download(p)
    assert source_changes.changed(p) is None
    site.change(csv(50))
    assert f": {next(iter(says))} " in source_changes.changed(p).in_words


def test_an_etag_goes_before_a_time(read_url, site):
    site.moment += 1000  # as where several machines serve copies of one file
    assert source_changes.changed(read_url) is None


def test_a_weak_etag_is_good_enough_to_compare(read_url, site):
    site.weak = True
    assert source_changes.changed(read_url) is None


@pytest.mark.parametrize("status", [403, 404, 405, 501])
@pytest.mark.parametrize("conditional", [True, False])
def test_a_server_that_refuses_head_is_asked_for_the_file_if_it_is_another_one(read_url, site, status, conditional):
    site.refused, site.conditional = {"HEAD": status}, conditional
    assert source_changes.changed(read_url) is None
    assert site.asked == ["HEAD", "GET"]
    site.change(csv(50))
    assert source_changes.changed(read_url) is not None


def test_a_server_that_says_to_head_what_cannot_be_compared_is_asked_for_the_file_if_it_is_another_one(site):
    site.says, site.says_to_head, site.chunked = {"ETag"}, {"Last-Modified"}, True
    p = settings("csv", location=site.url)
    download(p)
    assert source_changes.changed(p) is None
    site.change(csv(50))
    assert source_changes.changed(p) is not None


def test_a_server_that_says_nothing_counts_as_unchanged_and_the_download_says_so(site, caplog):
    site.says, site.chunked = set(), True
    p = settings("csv", location=site.url)
    download(p)
    assert f"{site.url}: the server sends neither ETag nor Last-Modified nor Content-Length" in caplog.text
    site.change(csv(50))
    assert source_changes.changed(p) is None


@pytest.mark.parametrize("content", [None, "", "[]", "[[1], 2]"])
def test_a_lost_memory_of_the_etag_counts_as_changed_until_one_more_download(read_url, site, content):
    note = fetching._note_file(site.url, source_changes.DOWNLOADS)
    note.unlink() if content is None else note.write_text(content)
    change = source_changes.changed(read_url)
    assert "the version of the last download is not recorded here" in change.in_words
    assert not change.seen_by_dvc
    assert source_changes.changed(read_url).fingerprint == change.fingerprint
    download(read_url)
    assert source_changes.changed(read_url) is None


def test_a_file_that_was_fetched_but_could_not_be_used_stays_new_data(read_url, site):
    site.change("review,sentiment\n" + "no label,\n" * 60)
    with pytest.raises(InputError, match="cannot be used"):
        download(read_url)
    change = source_changes.changed(read_url)
    assert "the last downloaded file has SHA-256" in change.in_words
    site.change(csv(40))  # put right: what it was before
    assert source_changes.changed(read_url).fingerprint != change.fingerprint
    download(read_url)
    assert source_changes.changed(read_url) is None


def test_a_server_that_calls_the_same_bytes_another_version_is_known_for_it_after_one_download(read_url, site):
    site.salt = "2"
    assert source_changes.changed(read_url).certain
    download(read_url)
    site.salt = "3"
    assert not source_changes.changed(read_url).certain
    site.change(csv(50))
    download(read_url)
    site.salt = "4"
    assert source_changes.changed(read_url).certain, "its last change was one"


def test_a_url_with_a_hash_in_params_is_not_even_asked(site):
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
def test_a_server_that_refuses_for_good_is_an_error_that_is_not_worth_a_retry(read_url, site, status):
    site.refused = {"HEAD": status, "GET": status}
    with pytest.raises(InputError, match=rf"{site.url}: the server answered {status}.*check the URL") as raised:
        source_changes.changed(read_url)
    assert not isinstance(raised.value, UnavailableError)


def test_a_server_that_is_not_there_is_unavailable_and_no_message_repeats_a_secret():
    port = ports.free()
    p = settings("csv", location=f"http://ann:hunter2@127.0.0.1:{port}/reviews.csv?token=s3cret")
    with pytest.raises(UnavailableError, match=rf"http://127\.0\.0\.1:{port}/reviews\.csv does not respond .*refused") as raised:
        source_changes.changed(p)
    assert "hunter2" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_server_that_never_answers_is_unavailable(read_url, site, monkeypatch):
    monkeypatch.setattr(fetching, "LOOK_TIMEOUT", (0.1, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        p = settings("csv", location=f"http://127.0.0.1:{silent.getsockname()[1]}/reviews.csv")
        with pytest.raises(UnavailableError, match="does not respond"):
            source_changes.changed(p)
