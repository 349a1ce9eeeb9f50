import threading
from pathlib import Path

import pytest

from sentiflow.system import files


def test_a_file_is_replaced_without_leftovers(tmp_path):
    target = tmp_path / "new" / "page.md"
    files.write(target, "first")
    files.write(target, "zweite äöü")
    assert target.read_text(encoding="utf-8") == "zweite äöü"
    assert list(target.parent.iterdir()) == [target]


def test_a_write_that_fails_keeps_the_earlier_content(tmp_path):
    target = tmp_path / "page.md"
    target.write_text("earlier")

    def fail() -> None:
        with files.replacing(target) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert target.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [target]


def test_a_reader_never_sees_partial_content(tmp_path):
    target = tmp_path / "page.md"
    contents = ["a" * 100_000, "b" * 100_000]
    files.write(target, contents[0])
    ended = threading.Event()

    def write() -> None:
        for turn in range(100):
            files.write(target, contents[turn % 2])
        ended.set()

    threading.Thread(target=write).start()
    seen = set()
    while not ended.is_set():
        seen.add(target.read_text())
    assert seen <= set(contents)


def test_a_link_is_replaced_and_its_target_is_unchanged(tmp_path):
    own, target = tmp_path / "own", tmp_path / "page.md"
    own.write_text("precious")
    target.symlink_to(own)
    files.write(target, "page")
    assert (own.read_text(), target.read_text(), target.is_symlink()) == ("precious", "page", False)


@pytest.mark.parametrize(
    ("path", "overlaps"),
    [("models/lstm", True), ("models", True), ("models/lstm/config.json", True), ("src/a.py", False), ("model", False)],
)
def test_paths_overlap_if_one_is_in_the_other(path, overlaps):
    assert files.overlap(path, "models/lstm") == overlaps
    assert files.overlap(Path("models/lstm"), Path(path)) == overlaps


def test_a_folder_a_file_and_a_link_to_a_folder_are_removed(tmp_path):
    folder, link = tmp_path / "folder", tmp_path / "link"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep/file").write_text("kept until its folder goes")
    link.symlink_to(folder)
    files.remove(link)
    assert (folder / "deep/file").exists()
    files.remove(folder / "deep/file")
    files.remove(folder)
    files.remove(folder)
    assert list(tmp_path.iterdir()) == []
