"""Effect of hostile input, full disks and stopped databases, compared with the tools alone.

Figure 6: archives, CSV files, model directories and review texts. Each case runs in its own process and folder, with a time
limit; files outside that folder are detected. Figure 13: `sentiflow repro` on a small sample, with the disk full while each stage
runs or while DVC caches its outputs, and with PostgreSQL stopped while a stage writes to MLflow.

python benchmarks/hostile.py [FIGURE ...]
"""

import contextlib
import csv
import gzip
import io
import logging
import multiprocessing
import os
import pickle
import platform
import re
import resource
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
import typer

from sentiflow.config import params
from sentiflow.data import sources
from sentiflow.system import markdown, tensorflow_log, terminal
from sentiflow.system.errors import InputError

TOP = Path(__file__).parents[1]
LIMIT = 60.0  # seconds per case
MEMORY = 6 * 2**30  # bytes of address space per case
MARKER = "ran"  # a file that injected code creates
LONGEST = 70  # characters of a message
MEGABYTE = 2**20


class Result(NamedTuple):
    message: str
    seconds: float
    megabytes: float
    outside: list[str]  # files created outside the folder
    ran: bool

    @property
    def in_words(self) -> str:
        what = (
            "EXECUTED INJECTED CODE"
            if self.ran
            else f"WROTE OUTSIDE: {', '.join(self.outside)}"
            if self.outside
            else self.message
        )
        return f"{what} ({self.seconds:.1f} s, {self.megabytes:,.0f} MB)"


def main(figures: Annotated[list[int] | None, typer.Argument(help="6 or 13; default: both")] = None) -> None:
    sys.path.insert(0, str(TOP / "tests"))
    with tensorflow_log.chatter_dropped(), tempfile.TemporaryDirectory(prefix="hostile-") as name:
        top = Path(name).resolve()
        for figure in figures or [6, 13]:
            started = time.monotonic()
            if figure == 6:
                figure_6(top)
            elif figure == 13:
                figure_13(top)
            else:
                raise typer.BadParameter(f"figure must be 6 or 13, got {figure}")
            print(f"\n({time.monotonic() - started:.0f} s)\n", flush=True)


def _print_table(title: str, header: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n")
    print("\n".join(markdown.markdown(header, [[terminal.printable(cell).replace("\n", " ") for cell in row] for row in rows])))
    sys.stdout.flush()


# --- 6: hostile data --------------------------------------------------------------------------------------------------


def figure_6(top: Path) -> None:
    logging.getLogger("sentiflow").setLevel(logging.CRITICAL)
    _archives(top)
    _csv_files(top)
    _params(top)
    _texts(top)
    _model_directories(top)


def run_case(top: Path, prepare: Callable[[Path], Any], work: Callable[[Path], str]) -> Result:
    """The result of `work` in its own process and folder."""
    shutil.rmtree(top / "trial", ignore_errors=True)
    folder = top / "trial/inside"
    folder.mkdir(parents=True)
    prepare(folder)
    before = set((top / "trial").rglob("*"))
    ours, theirs = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_child, args=(work, folder, theirs), daemon=True)
    started = time.monotonic()
    process.start()
    theirs.close()
    message, megabytes = f"did not end within {LIMIT:.0f} s", 0.0
    if ours.poll(LIMIT):
        try:
            message, megabytes = ours.recv()
        except EOFError:
            message = "its process was killed"
    seconds = time.monotonic() - started
    process.kill()
    process.join()
    new = {path for path in (top / "trial").rglob("*") if path not in before}
    outside = sorted(path.name for path in new if folder not in path.parents and path.name != MARKER)
    return Result(message, seconds, megabytes, outside, any(path.name == MARKER for path in new))


def _child(work: Callable[[Path], str], folder: Path, pipe: Connection) -> None:
    os.chdir(folder)
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    before = _resident()
    try:
        message = work(folder)
    except InputError as error:
        message = f"refused: {_short(error)}"
    except MemoryError:
        message = "ran out of memory"
    except BaseException as error:
        message = f"traceback: {type(error).__name__}: {_short(error)}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pipe.send((message, max(0.0, peak - before)))


def _resident() -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()).replace(str(Path.cwd()) + "/", "")
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _compared(
    title: str, tools: str, cases: dict[str, tuple[Callable[[Path], Any], Callable[..., str], Callable[..., str]]], top: Path
) -> None:
    rows = [[what, *(run_case(top, prepare, work).in_words for work in works)] for what, (prepare, *works) in cases.items()]
    _print_table(title, ["input", tools, "here"], rows)


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"") -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, len(content)
    return made, content


def _archive(*members: tuple[tarfile.TarInfo, bytes], cut: bool = False) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        file = folder / "aclImdb.tar.gz"
        with tarfile.open(file, "w:gz", format=tarfile.GNU_FORMAT) as archive:
            for made, content in (_member("aclImdb/train/pos/0_9.txt", content=b"A fine film."), *members):
                archive.addfile(made, io.BytesIO(content))
        if cut:
            file.write_bytes(file.read_bytes()[:-60])

    return prepare


def _archives(top: Path) -> None:
    absolute = str(top / "trial/absolute.txt")
    cases = {
        "a member `../../evil.txt`": _archive(_member("aclImdb/../../evil.txt", content=b"x")),
        "a member with an absolute path": _archive(_member(absolute, content=b"x")),
        "a link to a folder outside, and a file through it": _archive(
            _member("aclImdb/out", tarfile.SYMTYPE, "../.."), _member("aclImdb/out/evil.txt", content=b"x")
        ),
        "a hard link to a file outside": _archive(_member("aclImdb/train/pos/1_9.txt", tarfile.LNKTYPE, "../precious")),
        "a device": _archive(_member("aclImdb/train/pos/1_9.txt", tarfile.CHRTYPE)),
        "2.1 GB of zeros in 10 MB": _bomb,
        "a header that points to itself": _endless,
        "truncated": _archive(_member("aclImdb/train/neg/0_1.txt", content=os.urandom(2000)), cut=True),
    }
    _compared(
        "Archives, by `sentiflow repro` with `download.source: aclimdb`",
        f"`tarfile.extractall`, Python {platform.python_version()}",
        {what: (prepare, _extracted, _downloaded("aclimdb", "aclImdb.tar.gz")) for what, prepare in cases.items()},
        top,
    )


def _bomb(folder: Path) -> None:
    made = tarfile.TarInfo("aclImdb/train/pos/1_9.txt")
    made.size = 2_100_000_000
    with gzip.open(folder / "aclImdb.tar.gz", "wb", compresslevel=1) as packed:
        packed.write(made.tobuf())
        for _ in range(2100):
            packed.write(bytes(1_000_000))


def _endless(folder: Path) -> None:
    """A header of size -512, after which the same header follows."""
    good, content = _member("aclImdb/train/pos/0_9.txt", content=b"A fine film.")
    header = bytearray(tarfile.TarInfo("aclImdb/train/pos/1_9.txt").tobuf()[:512])
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    whole = good.tobuf() + content.ljust(512, b"\0") + bytes(header) + bytes(1024)
    (folder / "aclImdb.tar.gz").write_bytes(gzip.compress(whole))


def _extracted(folder: Path) -> str:
    with tarfile.open(folder / "aclImdb.tar.gz") as archive:
        archive.extractall(folder)
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink() and file.suffix == ".txt"]
    return f"unpacked {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:,.0f} MB"


def _downloaded(source: str, name: str) -> Callable[[Path], str]:
    def work(folder: Path) -> str:
        chosen = params.load(TOP / "params.yaml").download
        settings = getattr(chosen, source).model_copy(update={"location": name, "sha256": None})
        found = sources.load(chosen.model_copy(update={"source": source, source: settings}), folder / "partial", seed=7)
        return f"{len(found.reviews):,} reviews, {len(found.rejects):,} rejects listed"

    return work


GOOD = "".join(
    f'"A {what} film, number {i}.",{label}\n' for i in range(20) for what, label in (("fine", "positive"), ("dull", "negative"))
)


def _file(content: str | bytes) -> Callable[[Path], Any]:
    written = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / "reviews.csv").write_bytes(written)


def _csv_files(top: Path) -> None:
    header = "review,sentiment\n"
    many = GOOD * 10
    cases = {
        "a quote that is never closed, in row 4": header + GOOD[:96] + '"A fine film,positive\n' + many * 2,
        "the same in the last row": header + many + '"A fine film,positive\n',
        "a row of three cells": header + many + "a,b,c\n",
        "a NUL byte in a review": (header + many).replace("fine", "fi\0ne", 1),
        "a review in another encoding": (header + many + "Séduisant,positive\n").encode("latin-1"),
        "UTF-16": (header + many).encode("utf-16"),
        "an image": b"\x89PNG\r\n\x1a\n" + os.urandom(100_000),
        "a duplicate column": "review,review,sentiment\n" + GOOD.replace('",', '",b,'),
        "a review of 100 MB": header + many + '"' + "x" * 100_000_000 + '",positive\n',
        "200,000 open quotes": header + many + '"a\n' * 200_000,
        "a review that is a formula": header + many + '"=HYPERLINK(""http://127.0.0.1:1/"",A1)",positive\n',
    }
    _compared(
        "CSV files, by `sentiflow repro` with `download.source: csv`",
        "`pandas.read_csv`",
        {what: (_file(content), _read, _downloaded("csv", "reviews.csv")) for what, content in cases.items()},
        top,
    )


def _read(folder: Path) -> str:
    return f"{len(pd.read_csv(folder / 'reviews.csv')):,} rows, without a warning"


def _params(top: Path) -> None:
    import yaml

    aliases = "- &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"  - &{chr(98 + i)} [{','.join(9 * ['*' + chr(97 + i)])}]\n" for i in range(9)
    )
    cases = {
        "`!!python/object/apply:os.system`": f'seed: !!python/object/apply:os.system ["touch {MARKER}"]\n',
        "a billion values through aliases": f"zz:\n  {aliases}seed: *j\n",
        "20,000 brackets": "seed: " + "[" * 20_000,
    }
    _compared(
        "params.yaml",
        "PyYAML's `yaml.unsafe_load`, and `repr` for a message",
        {
            what: (
                lambda folder, content=content: (folder / "params.yaml").write_text(content, encoding="utf-8"),
                lambda folder: f"loaded, {len(repr(yaml.unsafe_load((folder / 'params.yaml').read_text()))):,} characters",
                lambda folder: f"loaded, {params.load(folder / 'params.yaml').seed}",
            )
            for what, content in cases.items()
        },
        top,
    )


# --- 6: texts ---------------------------------------------------------------------------------------------------------

SCRIPT = "<script>window.ran = 1; alert(1)</script><img src=x onerror='window.ran = 1'>"
TEXTS = [
    SCRIPT,
    f"</p></details></style></title>{SCRIPT}",
    "[x](javascript:window.ran=1) ![x](http://127.0.0.1:1/x.png)",
    "\x1b]0;title\x07\x1b[2J \u202e",
    '=HYPERLINK("http://127.0.0.1:1/",A1)',
]


def _texts(top: Path) -> None:
    from made_up_results import HOW, results
    from markdown_it import MarkdownIt

    from sentiflow.evaluation import error_analysis
    from sentiflow.reporting import html_report

    folder = top / "report"
    folder.mkdir()
    found = results(folder, texts=TEXTS, classes=("no\"><svg onload='window.ran = 1'>", "yes"), location=SCRIPT)
    rows = [[text.replace("\n", " ")] for text in TEXTS]
    reader = MarkdownIt().enable("table")
    pages = {
        "an HTML page": (
            "<meta charset=utf-8><table>" + "".join(f"<tr><td>{text}</td></tr>" for text in TEXTS) + "</table>",
            html_report.render(found, HOW),
        ),
        "a Markdown table, shown as HTML": (
            "<meta charset=utf-8>" + reader.render("\n".join(markdown.markdown(["text"], rows))),
            "<meta charset=utf-8>"
            + reader.render("\n".join(markdown.markdown(["text"], [[markdown.cell(row[0])] for row in rows]))),
        ),
    }
    compared = [
        [where, *(_in_a_browser(top / f"{number}.html", each) for number, each in enumerate(both))]
        for where, both in pages.items()
    ]

    shown = [
        re.findall(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text)
        for text in ("\n".join(TEXTS), terminal.printable("\n".join(TEXTS)))
    ]
    compared.append(["a terminal", *(f"{len(each)} control characters" for each in shown)])
    table = pd.DataFrame({"text": TEXTS})
    written = [table.to_csv(index=False), error_analysis.as_csv(table)]
    formulas = [sum(row[0][:1] in "=+-@" for row in csv.reader(io.StringIO(each))) for each in written]
    compared.append(["a spreadsheet", *(f"{each} formulas" for each in formulas)])
    _print_table("Review texts in different outputs", ["shown in", "without escaping", "here"], compared)


def _in_a_browser(file: Path, content: str) -> str:
    from playwright import sync_api

    file.write_text(content, encoding="utf-8")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        return "skipped: Chromium is not installed"
    requested: list[str] = []
    with sync_api.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page()
        tab.on("dialog", lambda dialog: dialog.dismiss())
        tab.on(
            "request",
            lambda request: requested.append(request.url) if not request.url.startswith(("data:", file.as_uri())) else None,
        )
        tab.goto(file.as_uri())
        ran = tab.evaluate("window.ran === 1")
        links = tab.evaluate("[...document.links].filter(each => each.protocol === 'javascript:').length")
        browser.close()
    return (
        f"{'EXECUTED THE SCRIPT' if ran else 'executed nothing'}, {len(requested)} external requests, {links} javascript: links"
    )


# --- 6: model directories ---------------------------------------------------------------------------------------------


def _model_directories(top: Path) -> None:
    from sentiflow.models import sentiment_model
    from sentiflow.registry import model_directory

    unchanged = _registered(top)

    import mlflow  # imported before processes are forked

    def loaded(folder: Path) -> str:
        return f"loaded, {type(mlflow.pyfunc.load_model(str(folder / 'model'))).__name__}"

    def checked(folder: Path) -> str:
        model_directory.check(folder / "model")
        answer = sentiment_model.SentimentModel.load(folder / "model/artifacts/bundle").predict(["A fine film."])
        return f"predicted {len(answer)} text with this project's code"

    def changed(plant: Callable[[Path], Any]) -> Callable[[Path], Any]:
        return lambda folder: plant(Path(shutil.copytree(unchanged, folder / "model")))

    cases: dict[str, Callable[[Path], Any]] = {
        "unchanged": lambda _: None,
        "another loader module": _inject_loader,
        "code next to the model": _inject_code,
        "a pickled model": _inject_pickle,
        "a link in place of the weights": _inject_link,
        "a fifo in place of the vocabulary": _inject_fifo,
    }
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "true"  # MLflow's own default
    _compared(
        "Model directories",
        "`mlflow.pyfunc.load_model`",
        {what: (changed(plant), loaded, checked) for what, plant in cases.items()},
        top,
    )


class _Injected:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (f"../{MARKER}", "w"))


def _flavor(folder: Path, **changes: Any) -> None:
    import yaml

    values = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
    flavor = values["flavors"]["python_function"]
    flavor.update(changes)
    if "python_model" in changes:
        flavor.pop("model_code_path")
    (folder / "MLmodel").write_text(yaml.safe_dump(values), encoding="utf-8")


def _inject_loader(folder: Path) -> None:
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code/injected.py").write_text(f"open('../{MARKER}', 'w')\n", encoding="utf-8")
    _flavor(folder, loader_module="injected", code="code")


def _inject_code(folder: Path) -> None:
    (folder / "registered_model.py").write_text(f"open('../{MARKER}', 'w')\n", encoding="utf-8")


def _inject_pickle(folder: Path) -> None:
    (folder / "python_model.pkl").write_bytes(pickle.dumps(_Injected()))
    _flavor(folder, python_model="python_model.pkl")


def _inject_link(folder: Path) -> None:
    weights = next(folder.rglob("weights.npz"))
    weights.unlink()
    weights.symlink_to("/dev/zero")


def _inject_fifo(folder: Path) -> None:
    vocabulary = next(folder.rglob("vocabulary.json"))
    vocabulary.unlink()
    os.mkfifo(vocabulary)


def _registered(top: Path) -> Path:
    """The model directory of a version that a small project registered."""
    import faults
    import full_disks

    project = faults.Project.made(top / "registered", faults.POOR)
    status, output = full_disks.repro(project)
    if status:
        raise RuntimeError(output)
    return next((project.folder / "mlartifacts").rglob("MLmodel")).parent


# --- 13: full disks, stopped databases --------------------------------------------------------------------------------

SMALL = {
    "run": {"nb_svm": "nb_svm"},
    "explain.reviews": 2,
    "evaluate.resamples": 100,
    "retrain.side_by_side": 1,  # a parallel stage would also see the full disk
}
ROOM = 16_384  # free bytes besides a stage's outputs: the stage succeeds, and DVC has no space for its copy


def figure_13(top: Path) -> None:
    _full_disks(top)
    _stopped_databases(top)


def _full_disks(top: Path) -> None:
    import faults
    import full_disks

    with contextlib.ExitStack() as mounts:
        try:
            disk = mounts.enter_context(full_disks.mounted(top / "small"))
        except full_disks.CannotMountError as error:
            print(f"Figure 13, full disks: skipped, {error}")
            return
        project = faults.Project.made(disk / "project", faults.POOR | SMALL)
        status, output = full_disks.repro(project)
        if status:
            raise RuntimeError(output)
        faults.commit(project.folder)
        project.keep(top / "finished")
        lock, contents = project.lock_text, project.contents()
        for room, when in (
            (0, "while a stage runs"),
            (ROOM, "when DVC caches a stage's outputs"),
        ):
            project.back_to(top / "finished")
            rows = [
                [
                    step.stage,
                    "yes" if step.was_filled else "no",
                    str(step.status),
                    "; ".join(dict.fromkeys(step.said))[:200] or "nothing",
                    "TRACEBACK" if step.traceback else "none",
                    "unchanged" if step.kept else "CHANGED",
                    ", ".join(step.half) or "nothing",
                    step.lock,
                ]
                for step in full_disks.walk(project, contents, project.stages(), room)
            ]
            columns = ["stage", "filled", "exit", "message", "traceback", "earlier outputs", "partial outputs", "dvc.lock"]
            _print_table(f"Figure 13: the disk is full {when}", columns, rows)
            status, _ = full_disks.repro(project)
            same = "equal to" if project.lock_text == lock and project.contents() == contents else "NOT EQUAL TO"
            flaws = project.flaws_of_store() or "none"
            print(
                f"\nWith free space `sentiflow repro` exited with status {status}; dvc.lock and all outputs are {same} those of "
                f"an undisturbed run; inconsistencies of MLflow's store: {flaws}."
            )


def _stopped_databases(top: Path) -> None:
    import faults
    import full_disks
    import stopped_databases

    with stopped_databases.database(top) as database:
        project = stopped_databases.Project.made(top / "stored", faults.POOR | SMALL)
        project.database = database
        status, output = full_disks.repro(project, stopped_databases.BEFORE)
        if status:
            raise RuntimeError(output)
        rows = [_stopped(project, stage, query) for stage, query in stopped_databases.MOMENTS.items()]
    columns = ["stopped while", "exit", "message", "traceback", "after restart: exit", "inconsistencies"]
    _print_table("Figure 13: PostgreSQL is stopped while a stage writes to MLflow", columns, rows)


def _stopped(project: Any, stage: str, query: str) -> list[str]:
    import full_disks
    import stopped_databases

    status, output = stopped_databases.repro_while_stopped(project, stage, query)
    messages = [line.strip() for line in output.splitlines() if line.strip().startswith("error: ")]
    project.database.start()
    again, _ = full_disks.repro(project, stage)  # otherwise the next stage has nothing to write
    flaws = project.flaws_of_store()
    return [
        f"`{stage}` writes",
        str(status),
        "; ".join(messages)[:300],
        "TRACEBACK" if "Traceback" in output else "none",
        str(again),
        ", ".join(flaws) or "none",
    ]


if __name__ == "__main__":
    typer.run(main)
