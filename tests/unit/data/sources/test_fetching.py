import hashlib
from datetime import UTC, datetime, timedelta

import ports
import pytest

from sentiflow.data.sources import fetching
from sentiflow.system.errors import InputError

LATER = f"{datetime.now(UTC) + timedelta(hours=3):%a, %d %b %Y %H:%M:%S} GMT"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_a_url_is_downloaded_unchanged(site, tmp_path):
    path = fetching.download(site.url, tmp_path, sha256=sha256(site.content))
    assert path.read_bytes() == site.content
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, f"{path.name}.seen"]
    assert path.name.endswith("-reviews.csv")
    assert site.asked[0]["Accept-Encoding"] == "identity", "the hash is that of the file, not of what a server packs"


def test_an_interrupted_download_resumes(site, tmp_path):
    site.answers = [lambda h: h.give(cut=400_000), lambda h: h.give(cut=100_000)]
    path = fetching.download(site.url, tmp_path, sha256=None, first_wait=0.0)
    assert path.read_bytes() == site.content
    assert [asked.get("Range") for asked in site.asked] == [None, "bytes=624000-", "bytes=924000-"]
    assert [asked.get("If-Range") for asked in site.asked] == [None, '"first"', '"first"']


def test_a_later_run_resumes_the_download(site, tmp_path):
    site.answers = [lambda h: h.give(cut=400_000)]
    with pytest.raises(InputError, match=r"1 attempts.*Run again to resume"):
        fetching.download(site.url, tmp_path, sha256=None, attempts=1)
    assert not list(tmp_path.glob("*-reviews.csv")), "a truncated file counted as complete"
    assert fetching.download(site.url, tmp_path, sha256=None).read_bytes() == site.content
    assert site.asked[1]["Range"] == "bytes=624000-"


def test_a_server_without_ranges_restarts_the_download(site, tmp_path):
    site.ranges = False
    site.answers = [lambda h: h.give(cut=400_000)]
    assert fetching.download(site.url, tmp_path, sha256=None, first_wait=0.0).read_bytes() == site.content


def test_a_file_that_changed_during_the_download_is_not_mixed(site, tmp_path):
    def cut_then_change(handler):
        handler.give(cut=400_000)
        site.content, site.etag = site.content[::-1], '"second"'

    site.answers = [cut_then_change]
    assert fetching.download(site.url, tmp_path, sha256=None, first_wait=0.0).read_bytes() == site.content


def test_a_server_that_ignores_if_range_does_not_mix_two_files(site, tmp_path):
    def cut_then_change(handler):
        handler.give(cut=400_000)
        site.content, site.etag = site.content[::-1], '"second"'

    def rest_of_the_other_file(handler):
        handler.headers.replace_header("If-Range", site.etag)
        handler.give()

    site.answers = [cut_then_change, rest_of_the_other_file]
    assert fetching.download(site.url, tmp_path, sha256=None, first_wait=0.0).read_bytes() == site.content
    assert len(site.asked) == 3


def test_range_not_satisfiable_restarts_the_download(site, tmp_path):
    site.answers = [lambda h: h.give(cut=400_000), lambda h: h.refuse(416)]
    path = fetching.download(site.url, tmp_path, sha256=None, first_wait=0.0)
    assert path.read_bytes() == site.content
    assert "Range" not in site.asked[2]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_retried(site, tmp_path, status):
    site.answers = [lambda h: h.refuse(status)] * 2
    assert fetching.download(site.url, tmp_path, sha256=None, first_wait=0.0).read_bytes() == site.content


def test_waits_double_between_attempts(site, tmp_path, caplog):
    site.answers = [lambda h: h.refuse(503)] * 3
    fetching.download(site.url, tmp_path, sha256=None, first_wait=0.1)
    waits = [record.args[-1] for record in caplog.records if record.levelname == "WARNING"]
    assert waits == pytest.approx([0.1, 0.2, 0.4])


@pytest.mark.parametrize(
    ("value", "wait"),
    [("0", 0), ("120", 120), (LATER, 10_800), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("soon", 7)],
    ids=["no seconds", "seconds", "later date", "past date", "not a date"],  # the same in every process of pytest-xdist
)
def test_retry_after_in_seconds_or_as_a_date_takes_precedence(site, tmp_path, monkeypatch, value, wait):
    waits = []
    monkeypatch.setattr(fetching.time, "sleep", waits.append)
    monkeypatch.setattr(fetching, "LONGEST_WAIT", 1e9)
    site.answers = [lambda h: h.refuse(503, Retry_After=value)]
    fetching.download(site.url, tmp_path, sha256=None, first_wait=7)
    assert waits == [pytest.approx(wait, abs=3600 if value == LATER else 0)]


def test_waits_are_limited(site, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(fetching, "LONGEST_WAIT", 0.01)
    site.answers = [lambda h: h.refuse(503, Retry_After="86400")]
    fetching.download(site.url, tmp_path, sha256=None)
    assert [record.args[-1] for record in caplog.records if record.levelname == "WARNING"] == [0.01]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_client_error_has_url_and_status_and_is_not_retried(site, tmp_path, status):
    site.answers = [lambda h: h.refuse(status)]
    with pytest.raises(InputError, match=rf"{site.url}.*{status}"):
        fetching.download(site.url, tmp_path, sha256=None)
    assert len(site.asked) == 1


def test_a_wrong_checksum_is_an_error_with_both_and_the_next_run_restarts(site, tmp_path):
    wanted = sha256(b"what was published")
    with pytest.raises(InputError, match=rf"(?s){sha256(site.content)}.*{wanted}"):
        fetching.download(site.url, tmp_path, sha256=wanted)
    assert not list(tmp_path.glob("*.csv*.partial"))
    site.content = b"what was published"
    assert fetching.download(site.url, tmp_path, sha256=wanted).read_bytes() == site.content


def test_a_complete_file_is_not_downloaded_again(site, tmp_path):
    wanted = sha256(site.content)
    first = fetching.download(site.url, tmp_path, sha256=wanted)
    assert fetching.download(site.url, tmp_path, sha256=wanted) == first
    assert len(site.asked) == 1


def test_a_damaged_complete_file_is_replaced(site, tmp_path):
    wanted = sha256(site.content)
    fetching.download(site.url, tmp_path, sha256=wanted).write_bytes(b"damaged")
    assert fetching.download(site.url, tmp_path, sha256=wanted).read_bytes() == site.content


def without_length(handler):
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(handler.server.content)
    handler.close_connection = True


def test_a_file_of_unknown_length_needs_a_checksum(site, tmp_path):
    site.answers = [without_length]
    with pytest.raises(InputError, match="does not send the length"):
        fetching.download(site.url, tmp_path, sha256=None)
    site.answers = [without_length]
    assert fetching.download(site.url, tmp_path, sha256=sha256(site.content)).read_bytes() == site.content


@pytest.mark.parametrize("ends", [True, False])
def test_a_chunked_response_is_complete_only_with_its_last_chunk(site, tmp_path, ends):
    def chunked(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"5\r\nhello\r\n" + (b"0\r\n\r\n" if ends else b""))
        handler.close_connection = True

    site.answers = [chunked]
    if ends:
        assert fetching.download(site.url, tmp_path, sha256=None).read_bytes() == b"hello"
    else:
        with pytest.raises(InputError, match="1 attempts"):
            fetching.download(site.url, tmp_path, sha256=None, attempts=1)


def test_a_compressed_file_is_not_decompressed(site, tmp_path):
    site.content = b"\x1f\x8b not really gzip"

    def labelled_gzip(handler):
        handler.send_response(200)
        handler.send_header("Content-Encoding", "gzip")
        handler.send_header("Content-Length", str(len(site.content)))
        handler.end_headers()
        handler.wfile.write(site.content)

    site.answers = [labelled_gzip]
    assert fetching.download(site.url, tmp_path, sha256=None).read_bytes() == site.content


def test_an_unreachable_server_is_an_error(tmp_path):
    port = ports.free()
    with pytest.raises(InputError, match=r"in 2 attempts.*refused"):
        fetching.download(f"http://127.0.0.1:{port}/reviews.csv", tmp_path, sha256=None, attempts=2, first_wait=0.0)


@pytest.mark.parametrize("url", ["ftp://example.org/reviews.csv", "file:///etc/passwd", "s3://bucket/reviews.csv", "http:///x"])
def test_only_http_and_https_are_supported(url, tmp_path):
    with pytest.raises(InputError, match="only http"):
        fetching.fetch(url, tmp_path, sha256=None)


def test_a_redirect_to_another_scheme_is_rejected(site, tmp_path):
    site.answers = [lambda h: h.refuse(302, Location="file:///etc/passwd")]
    with pytest.raises(InputError, match="InvalidSchema"):
        fetching.download(site.url, tmp_path, sha256=None)


def test_no_message_contains_a_secret_of_the_url(site, tmp_path, caplog):
    caplog.set_level("INFO")
    url = site.url.replace("http://", "http://ann:hunter2@") + "?token=s3cret"
    site.answers = [lambda h: h.give(cut=10), lambda h: h.refuse(404)]
    with pytest.raises(InputError) as raised:
        fetching.download(url, tmp_path, sha256=None, first_wait=0.0)
    message = str(raised.value) + caplog.text + " ".join(file.name for file in tmp_path.iterdir())
    assert site.url in message
    assert "hunter2" not in message
    assert "s3cret" not in message


def test_a_missing_file_is_an_error_that_lists_its_folder(tmp_path):
    (tmp_path / "IMDB_Dataset.csv").touch()
    with pytest.raises(InputError, match=r"IMDB Dataset\.csv; its folder contains IMDB_Dataset\.csv"):
        fetching.fetch(str(tmp_path / "IMDB Dataset.csv"), tmp_path, sha256=None)


def test_a_folder_or_an_empty_file_is_an_error(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        fetching.fetch(str(tmp_path), tmp_path, sha256=None)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(InputError, match="is empty"):
        fetching.fetch(str(tmp_path / "empty.csv"), tmp_path, sha256=None)


def test_a_local_file_with_a_wrong_checksum_is_an_error_and_is_kept(tmp_path):
    file = tmp_path / "reviews.csv"
    file.write_bytes(b"mine")
    with pytest.raises(InputError, match=rf"(?s){sha256(b'mine')}.*{sha256(b'theirs')}"):
        fetching.fetch(str(file), tmp_path, sha256=sha256(b"theirs"))
    assert file.read_bytes() == b"mine"


def test_a_file_that_dvc_does_not_track_gives_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    watched = tmp_path / "data" / "external"
    watched.mkdir(parents=True)
    (watched / "a.csv").write_text("x")
    (tmp_path / "b.csv").write_text("x")
    (watched / "link.csv").symlink_to(tmp_path / "b.csv")  # as DVC links to its cache
    for quiet in ("data/external/a.csv", str(watched / "a.csv"), "data/external/link.csv"):
        fetching.fetch(quiet, tmp_path, sha256=None)
    assert not caplog.records
    for loud in ("b.csv", "data/external/../../b.csv"):
        caplog.clear()
        fetching.fetch(loud, tmp_path, sha256=None)
        assert "DVC does not detect" in caplog.text


def test_an_invalid_url_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"not a valid URL: .*expected http\(s\)://host/path"):
        fetching.fetch("http://[x/reviews.csv", tmp_path, sha256=None)
