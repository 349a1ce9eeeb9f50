import hashlib
import os
import tarfile

import pytest

from sentiflow.data import sources
from sentiflow.system.errors import InputError


def texts():
    """12 reviews per folder, numbered as in the published data set, and files to ignore."""
    made = {}
    for split in ("train", "test"):
        for label, rating in (("pos", 9), ("neg", 2)):
            for number in range(12):
                made[f"{split}/{label}/{number}_{rating}.txt"] = f"{label} review {number} of {split}: café".encode()
            urls = [f"http://www.imdb.com/title/tt00643{number // 2:02}/usercomments" for number in range(12)]
            made[f"{split}/urls_{label}.txt"] = "\n".join(urls).encode()
    made["train/unsup/0_0.txt"] = b"unlabelled"
    made["train/urls_unsup.txt"] = b"http://www.imdb.com/title/tt9999999/usercomments"
    made["README"] = made["imdb.vocab"] = made["train/pos/._0_9.txt"] = b"no review"
    return made


@pytest.fixture
def load(tmp_path, settings):
    def run(location, **changes):
        return sources.load(settings("aclimdb", location=str(location), **changes), tmp_path / "partial", seed=7)

    return run


@pytest.fixture
def archive(write_archive):
    return write_archive({f"aclImdb/{name}": content for name, content in texts().items()})


def unpack(folder, contents):
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_reads_labels_ratings_splits_and_films_in_a_fixed_order(load, archive):
    found = load(archive)
    reviews = found.reviews
    assert found.classes == ["negative", "positive"]
    assert len(reviews) == 48
    assert reviews.text.tolist() == [
        f"{label} review {number} of {split}: café"
        for split in ("test", "train")
        for label in ("neg", "pos")
        for number in range(12)
    ]
    assert reviews.row.tolist() == list(range(48))
    assert reviews.groupby(["split", "label"]).rating.agg(set).to_dict() == {
        ("test", "negative"): {2}, ("test", "positive"): {9}, ("train", "negative"): {2}, ("train", "positive"): {9},
    }  # fmt: skip
    assert reviews.film[:4].tolist() == ["tt0064300", "tt0064300", "tt0064301", "tt0064301"]
    assert found.rejects.empty


@pytest.mark.parametrize("top", ["", "aclImdb"])
def test_folder_and_archive_give_the_same_reviews(load, archive, tmp_path, top):
    folder = tmp_path / "unpacked"
    unpack(folder / top, texts())
    from_archive, from_folder = load(archive), load(folder, sha256="0" * 64)
    assert from_folder.reviews.equals(from_archive.reviews)
    assert from_archive.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_the_checksum_of_a_folder_is_that_of_the_output_of_sha256sum(load, tmp_path):
    contents = texts()
    read = {name: content for name, content in contents.items() if "/" in name and "unsup" not in name and "._" not in name}
    listing = "".join(f"{hashlib.sha256(read[name]).hexdigest()}  {name}\n" for name in sorted(read))
    folder = unpack(tmp_path / "unpacked", contents)
    assert load(folder).sha256 == hashlib.sha256(listing.encode()).hexdigest()


def test_order_and_format_of_the_archive_do_not_matter(load, write_archive):
    named = {f"./aclImdb/{name}": content for name, content in reversed(texts().items())}
    backwards = load(write_archive(named, form=tarfile.PAX_FORMAT)).reviews
    assert backwards.equals(load(write_archive({f"aclImdb/{name}": content for name, content in texts().items()})).reviews)


def test_films_are_empty_without_a_url(load, write_archive):
    contents = texts()
    del contents["train/urls_pos.txt"]
    contents["train/urls_neg.txt"] = b"http://www.imdb.com/title/tt0000001/usercomments\nno address\n"
    reviews = load(write_archive(contents)).reviews
    train = reviews[reviews.split == "train"]
    assert train.film[train.label == "positive"].isna().all()
    assert train.film[train.label == "negative"].dropna().tolist() == ["tt0000001"]


def test_invalid_reviews_are_listed_by_file(load, write_archive):
    bad = {
        "train/pos/100_9.txt": b"  ",
        "train/pos/101_9.txt": b"caf\xe9",
        "train/pos/102_9.txt": b"a\0b",
        "train/pos/103_9.txt": b"x" * 60,
        "train/pos/104_0.txt": b"no such rating",
        "train/pos/notes.md": b"no review",
    }
    found = load(write_archive(texts() | bad), max_characters=50)
    assert dict(zip(found.rejects.source, found.rejects.reason, strict=True)) == {
        "train/pos/100_9.txt": "empty text",
        "train/pos/101_9.txt": "bytes that are not valid in the encoding",
        "train/pos/102_9.txt": "NUL byte in the text",
        "train/pos/103_9.txt": "text longer than 50 characters",
        "train/pos/104_0.txt": "file name is not ID_RATING.txt with a rating from 1 to 10",
        "train/pos/notes.md": "file name is not ID_RATING.txt with a rating from 1 to 10",
    }
    assert len(found.reviews) == 48


def test_a_duplicate_file_is_rejected(load, write_archive):
    named = {f"aclImdb/{name}": content for name, content in texts().items()} | {"./aclImdb/train/pos/0_9.txt": b"another"}
    found = load(write_archive(named))
    assert found.rejects.reason.tolist() == ["duplicate file name"]
    assert len(found.reviews) == 48


def test_an_archive_or_folder_without_reviews_is_an_error(load, write_archive, tmp_path):
    with pytest.raises(InputError, match=r"contains no reviews; expected files such as aclImdb/train/pos/0_9\.txt"):
        load(write_archive({"aclImdb/README": b"nothing else"}))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="contains no reviews"):
        load(tmp_path / "empty")


def test_the_size_of_a_folder_is_limited(load, tmp_path):
    with pytest.raises(InputError, match=r"exceeds download\.aclimdb\.max_bytes"):
        load(unpack(tmp_path / "a", texts()), max_bytes=500)


def test_an_archive_at_a_url_is_read(load, archive, site):
    site.content = archive.read_bytes()
    assert len(load(site.url.replace("reviews.csv", "aclImdb_v1.tar.gz")).reviews) == 48


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/etc/passwd"), lambda path: path.mkdir()])
def test_a_file_in_a_folder_that_is_not_regular_is_an_error_and_is_not_opened(load, tmp_path, plant):
    folder = tmp_path / "aclImdb/train/pos"
    folder.mkdir(parents=True)
    plant(folder / "0_9.txt")
    with pytest.raises(InputError, match=r"0_9\.txt is not a regular file"):
        load(tmp_path / "aclImdb")
