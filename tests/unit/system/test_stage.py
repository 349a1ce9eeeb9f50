import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sentiflow.pipeline import workers
from sentiflow.system import locks, stage
from sentiflow.system.errors import InputError

BEGINNING = '''"""Count the reviews.

from  reviews   one per line
to    count     how many
"""

import sys
from pathlib import Path

from sentiflow.system import stage
from sentiflow.system.errors import InputError

'''
ENDING = '\n\nif __name__ == "__main__":\n    stage.run(main)\n'


@pytest.fixture
def script(tmp_path):
    """Write a stage script with this body. Returns the command that runs it."""

    def write(body):
        file = tmp_path / "count.py"
        file.write_text(BEGINNING + body + ENDING)
        return [sys.executable, str(file)]

    return write


@pytest.fixture
def run(script, tmp_path):
    def run_it(body, *arguments):
        return subprocess.run([*script(body), *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    return run_it


@pytest.fixture
def holder(script, tmp_path, monkeypatch):
    """Start a process that writes to `count` with the lock, prints `writing`, and ends when its standard input is closed."""
    monkeypatch.chdir(tmp_path)  # the locks are in the working folder
    started = []

    def start():
        command = script(
            "def main():\n"
            '    with stage.writing(Path("count")) as (place,):\n'
            '        place.write_text("half of the first")\n'
            '        print("writing", flush=True)\n'
            "        sys.stdin.read()\n"
            '        place.write_text("first")\n'
        )
        process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "writing\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def visible(folder):
    """Paths in a folder except locks, with the contents of files."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if ".cache" not in path.parts
    }


def tree(folder, **files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


# writing


def test_all_targets_are_written_when_the_block_ends(tmp_path):
    file, folder, deep = tmp_path / "count.json", tmp_path / "reviews", tmp_path / "not" / "yet" / "there.csv"
    with stage.writing(file, folder, deep) as (file_place, folder_place, deep_place):
        file_place.write_text("3")
        tree(folder_place, train="a b", valid="c")
        deep_place.write_text("d")
        assert not any(target.exists() for target in (file, folder, deep))
    assert visible(tmp_path) == {
        "count.json": "3",
        "reviews": None,
        "reviews/train": "a b",
        "reviews/valid": "c",
        "not": None,
        "not/yet": None,
        "not/yet/there.csv": "d",
    }


def test_each_temporary_path_is_in_the_folder_of_its_target(tmp_path):
    targets = [tmp_path / "one" / "a.csv", tmp_path / "other" / "b.csv"]
    with stage.writing(*targets) as places:
        assert [place.parent for place in places] == [target.parent for target in targets]
        assert not set(places) & set(targets)
        for place in places:
            place.touch()


@pytest.mark.parametrize("failure", [ZeroDivisionError, KeyboardInterrupt, SystemExit, OSError])
def test_earlier_outputs_are_unchanged_if_the_block_raises(tmp_path, failure):
    file, folder, new = tmp_path / "count.json", tmp_path / "reviews", tmp_path / "new"
    file.write_text("earlier")
    tree(folder, train="earlier")
    before = visible(tmp_path)
    with pytest.raises(failure), stage.writing(file, folder, new) as (file_place, folder_place, new_place):  # noqa: PT012
        file_place.write_text("half")
        tree(folder_place, train="half")
        new_place.write_text("half")
        raise failure
    assert visible(tmp_path) == before


def test_a_replaced_folder_keeps_no_file_of_the_earlier_run(tmp_path):
    folder = tree(tmp_path / "reviews", train="earlier", gone="earlier")
    with stage.writing(folder) as (place,):
        tree(place, train="new", valid="new")
    assert visible(tmp_path) == {"reviews": None, "reviews/train": "new", "reviews/valid": "new"}


def test_a_link_is_replaced_and_its_target_is_unchanged(tmp_path):
    """DVC can link outputs to its cache, which only DVC may change."""
    cached_file, cached_folder = tmp_path / "cached", tree(tmp_path / "cached_folder", train="cached")
    cached_file.write_text("cached")
    file, folder = tmp_path / "count", tmp_path / "reviews"
    file.symlink_to(cached_file)
    folder.symlink_to(cached_folder)
    with stage.writing(file, folder) as (file_place, folder_place):
        file_place.write_text("new")
        tree(folder_place, train="new")
    assert not file.is_symlink()
    assert not folder.is_symlink()
    assert (file.read_text(), (folder / "train").read_text()) == ("new", "new")
    assert (cached_file.read_text(), (cached_folder / "train").read_text()) == ("cached", "cached")


def test_leftovers_of_a_killed_run_do_not_end_up_in_the_outputs(holder, tmp_path):
    process = holder()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert ".count.partial" in visible(tmp_path)
    with stage.writing(tmp_path / "count", tmp_path / "reviews") as (count, reviews):
        assert not count.exists()
        count.write_text("second")
        reviews.mkdir()
    assert {name: text for name, text in visible(tmp_path).items() if name != "count.py"} == {"count": "second", "reviews": None}


def test_leftovers_of_a_run_killed_between_two_renames_are_removed(run, tmp_path):
    """At that moment the old folder is moved away and the new one not yet renamed."""
    folder = tree(tmp_path / "reviews", train="earlier")
    killed = run(
        "import os, signal\n\n"
        "def main():\n"
        '    with stage.writing(Path("reviews")) as (place,):\n'
        "        place.mkdir()\n"
        "        real = Path.rename\n"
        "        Path.rename = lambda path, target: (real(path, target), os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    assert killed.returncode == -signal.SIGKILL
    assert not folder.exists()

    with stage.writing(folder) as (place,):
        tree(place, train="new")
    assert {name for name in visible(tmp_path) if name != "count.py"} == {"reviews", "reviews/train"}


def test_no_target_is_replaced_if_another_was_not_written(tmp_path):
    written, forgotten = tmp_path / "written", tmp_path / "forgotten"
    written.write_text("earlier")
    forgotten.write_text("earlier")
    with pytest.raises(FileNotFoundError), stage.writing(written, forgotten) as (place, _):
        place.write_text("new")
    assert (written.read_text(), forgotten.read_text()) == ("earlier", "earlier")


def test_no_target_is_replaced_if_another_is_a_folder_instead_of_a_file(tmp_path):
    count, in_the_way = tmp_path / "count", tree(tmp_path / "card.json", note="the user's own")
    count.write_text("earlier")
    with pytest.raises(OSError, match=r"card\.json"), stage.writing(count, in_the_way) as (count_place, card_place):  # noqa: PT012
        count_place.write_text("new")
        card_place.write_text("new")
    assert count.read_text() == "earlier"
    assert (in_the_way / "note").read_text() == "the user's own"


def test_all_or_no_targets_are_replaced_if_one_is_a_file_instead_of_a_folder(tmp_path):
    count, reviews = tmp_path / "count", tmp_path / "reviews"
    count.write_text("earlier")
    reviews.write_text("a file")
    with contextlib.suppress(OSError), stage.writing(count, reviews) as (count_place, reviews_place):
        count_place.write_text("new")
        tree(reviews_place, train="new")
    assert (count.read_text() == "new") == reviews.is_dir()


# the lock


def test_a_second_process_waits_for_the_first(holder, script, tmp_path):
    first = holder()
    second = subprocess.Popen(
        script(
            "def main():\n"
            '    with stage.writing(Path("count")) as (place,):\n'
            '        print("found", Path("count").read_text(), flush=True)\n'
            '        place.write_text("second")\n'
        ),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert f"waiting for process {first.pid}" in second.stderr.readline()
        assert not (tmp_path / "count").exists()
        first.stdin.close()
        output, errors = second.communicate(timeout=60)
    finally:
        second.kill()
    assert first.wait() == 0
    assert (second.returncode, output, errors) == (0, "found first\n", "")
    assert (tmp_path / "count").read_text() == "second"


def test_a_killed_process_releases_its_lock(holder, tmp_path, monkeypatch):
    process = holder()
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    with stage.writing(tmp_path / "count") as (place,):
        place.write_text("second")
    assert (tmp_path / "count").read_text() == "second"


def test_the_timeout_of_a_lock_names_the_process_that_holds_it(holder, tmp_path, monkeypatch):
    process = holder()
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    with (
        pytest.raises(InputError, match=rf"process {process.pid} .*is still running.*stop it with `kill`"),
        stage.writing(tmp_path / "count"),
    ):
        pytest.fail("two processes are writing the same outputs")
    process.communicate()
    assert (tmp_path / "count").read_text() == "first"


def test_writers_of_different_outputs_do_not_wait_for_each_other(holder, tmp_path, monkeypatch):
    holder()
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    with stage.writing(tmp_path / "other") as (place,):
        place.write_text("other")
    assert (tmp_path / "other").read_text() == "other"


def test_the_lock_is_released_if_the_block_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    with pytest.raises(ZeroDivisionError), stage.writing(tmp_path / "count"):
        raise ZeroDivisionError
    with stage.writing(tmp_path / "count") as (place,):
        place.write_text("new")


def test_a_lock_that_is_a_link_is_refused_and_its_target_is_unchanged(tmp_path, monkeypatch):
    """A project received from someone else may contain one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").write_text("precious")
    stage.LOCKS.mkdir(parents=True)
    stage.lock_of(tmp_path / "count").symlink_to(tmp_path / "own")
    with pytest.raises(InputError, match=r"count-\w+\.lock is a symbolic link"), stage.writing(tmp_path / "count"):
        pass
    assert (tmp_path / "own").read_text() == "precious"
    assert not (tmp_path / "count").exists()


def test_a_lock_that_is_a_fifo_is_refused_without_waiting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stage.LOCKS.mkdir(parents=True)
    os.mkfifo(stage.lock_of(tmp_path / "count"))
    with pytest.raises(InputError, match=r"count-\w+\.lock is not a regular file"), stage.writing(tmp_path / "count"):
        pass


# run


def assert_refused(ended, *words):
    """One message, exit status 1, and no traceback."""
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in ended.stderr


def test_an_input_error_is_one_message(run):
    ended = run('def main():\n    raise InputError("no reviews in a.csv; add some")\n')
    assert_refused(ended)
    assert ended.stderr == "error: no reviews in a.csv; add some\n"


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ('Path("reviews.csv").read_text()', ["reviews.csv", "no such file or folder", "dvc repro"]),
        ('Path("/").read_text()', ["/", "a folder where a file was expected"]),
        ('Path(sys.executable, "reviews.csv").read_text()', ["reviews.csv", "a file where a folder was expected"]),
        ('import subprocess; Path("run").touch(); subprocess.run(["./run"])', ["./run", "permission denied"]),
        ('Path("/dev/full").write_text("a")', ["the disk is full", "no partial output was kept"]),
        ('Path("a" * 300).read_text()', ["File name too long"]),
    ],
)
def test_an_os_error_says_what_to_do(run, action, words):
    assert_refused(run(f"def main():\n    {action}\n"), *words)


@pytest.mark.parametrize(
    "action",
    ['import pandas as pd; pd.read_parquet("clean.parquet")', 'from pyarrow import parquet; parquet.read_table("clean.parquet")'],
)
def test_a_missing_parquet_file_is_named(run, action):
    """Arrow's error for a missing file has no errno."""
    assert_refused(run(f"def main():\n    {action}\n"), "clean.parquet")


def in_own_mounts(command, folder):
    """Run a shell command in its own mount namespace."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs `unshare -m`, which is not permitted here")
    shell = ["unshare", "-m", "sh", "-c", command]
    return subprocess.run(shell, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


WRITE_MUCH = (
    "def main(kind: str):\n"
    "    import pandas as pd\n"
    '    with stage.writing(Path("small/table"), Path("small/note")) as (table, note):\n'
    '        note.write_text("new")\n'
    '        if kind == "text":\n'
    '            table.write_text("new" * 100_000)\n'
    "        else:\n"
    '            pd.DataFrame({"row": range(100_000)}).to_parquet(table)\n'
)


@pytest.mark.parametrize("kind", ["text", "parquet"])
def test_a_full_disk_keeps_the_earlier_outputs_and_no_partial_ones(script, tmp_path, kind):
    (tmp_path / "small").mkdir()
    command = " ".join([*script(WRITE_MUCH), kind])
    ended = in_own_mounts(
        "mount -t tmpfs -o size=32k none small && echo earlier > small/table && echo earlier > small/note || exit 2; "
        f"{command}; status=$?; ls -A small; cat small/table small/note; exit $status",
        tmp_path,
    )
    assert ended.returncode == 1
    assert ended.stderr == "error: the disk is full; free some space and run again, no partial output was kept\n"
    assert ended.stdout.split() == ["note", "table", "earlier", "earlier"]


def test_a_read_only_file_system_is_named(script, tmp_path):
    (tmp_path / "small").mkdir()
    command = " ".join([*script(WRITE_MUCH), "text"])
    ended = in_own_mounts(f"mount -t tmpfs -o ro none small || exit 2; {command}", tmp_path)
    assert_refused(ended, "small/", "read-only")


def test_help_shows_the_docstring_and_the_parameters(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERMINAL_WIDTH", "120")
    ended = run("def main(reviews_file: Path, count: int):\n    raise InputError('ran')\n", "--help")
    assert ended.returncode == 0
    assert ended.stderr == ""
    for line in ("Count the reviews.", "from  reviews   one per line", "to    count     how many"):
        assert line in ended.stdout
    for parameter in ("reviews_file", "count"):
        assert parameter in ended.stdout


def test_parameters_are_converted_to_their_types(run):
    ended = run(
        'def main(reviews_file: Path, count: int):\n    print(repr(reviews_file / "a"), count + 1)\n', "data/reviews.csv", "2"
    )
    assert (ended.returncode, ended.stdout) == (0, "PosixPath('data/reviews.csv/a') 3\n")


@pytest.mark.parametrize("arguments", [[], ["three"]])
def test_an_invalid_command_line_is_refused_with_the_usage(run, arguments):
    ended = run("def main(count: int):\n    raise InputError('ran')\n", *arguments)
    assert ended.returncode == 2
    assert "Usage:" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("bug", "shown"),
    [("1 / 0", "ZeroDivisionError: division by zero"), ('int("a")', "ValueError: invalid literal")],
)
def test_a_bug_keeps_its_traceback(run, bug, shown):
    ended = run(f"def main():\n    {bug}\n")
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert f"    {bug}\n" in ended.stderr
    assert shown in ended.stderr
    assert "error: " not in ended.stderr.splitlines()[0]


def test_log_lines_and_other_lines_keep_their_order(run):
    """Progress bars bypass the filter for TensorFlow's messages; the log must not lag behind them."""
    ended = run(
        "def main():\n"
        "    for number in range(5000):\n"
        '        stage.log.info("log %d", number)\n'
        '        print("  bar", number, file=sys.stderr)\n'
    )
    written = ended.stderr.splitlines()
    expected = [f"  {kind} {number}" for number in range(5000) for kind in ("log", "bar")]
    assert len(written) == len(expected)
    assert next(((got, due) for got, due in zip(written, expected, strict=True) if got != due), None) is None


def test_the_log_goes_to_standard_error_only(run):
    ended = run('def main():\n    stage.log.info("read %d reviews", 3)\n    print("3")\n')
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "3\n", "  read 3 reviews\n")


def test_python_warnings_are_shown(run):
    ended = run('def main():\n    import warnings\n    warnings.warn("the header is odd")\n')
    assert ended.returncode == 0
    assert "UserWarning: the header is odd" in ended.stderr


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core a sum is never split")
def test_results_of_a_stage_do_not_depend_on_the_number_of_threads(script, tmp_path):
    compute = (
        "import numpy as np\n\n"
        "def product():\n"
        "    drawn = np.random.default_rng(0).normal(size=(50, 20_000))\n"
        "    return (drawn @ drawn[0]).tobytes().hex()\n\n"
    )
    in_stage, plain = {}, {}
    for offered in ("1", "2"):
        own = os.environ | dict.fromkeys(workers.THREADS, offered)
        for results, ending in ((in_stage, "def main():\n    print(product())\n"), (plain, "print(product())\n")):
            command = script(compute + ending) if results is in_stage else [sys.executable, "-c", compute + ending]
            ended = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=True)
            results[offered] = ended.stdout
    assert plain["1"] != plain["2"], "this product does not depend on the number of threads"
    assert in_stage["1"] == in_stage["2"]


def test_locks_are_in_the_cache_and_each_path_has_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reports").mkdir()
    (tmp_path / "link").symlink_to("reports")
    with stage.writing(Path("reports/page.md")) as (place,):
        place.write_text("page")
    assert [path.name for path in Path("reports").iterdir()] == ["page.md"]
    assert list(stage.LOCKS.iterdir()) == [stage.lock_of(Path("link/page.md"))]
    assert stage.lock_of(Path("reports/page.md")) != stage.lock_of(Path("metrics/page.md"))
