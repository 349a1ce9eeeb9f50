"""Every command of docs/team.md, as two people run them in two clones of one repository with one remote for the data.

The pipeline is the real one up to the comparison; what publishes is the business of one machine and left out.
"""

import json
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from clones import PROJECT, fresh, make, run, sentiflow

pytestmark = pytest.mark.slow

PAGE = (PROJECT / "docs/team.md").read_text(encoding="utf-8")
STEPS = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
STAGES = ("download", "clean", "split", "tokenize", "train", "evaluate", "compare")
SMALL = {
    "run": {"logistic": "logistic"},
    "download.source": "csv",
    "download.csv.location": "data/external/reviews.csv",
    "split.method": "hash",
    "evaluate.resamples": 100,
}
FILE = "data/external/reviews.csv"


def rows(count, first):
    words = {0: ("negative", "a bore, and much too long"), 1: ("positive", "a joy, and far too short")}
    return "review,sentiment\n" + "".join(
        f'"Film {i} was {words[i % 2][1]}.",{words[i % 2][0]}\n' for i in range(first, first + count)
    )


class Walk:
    """Two clones, `ann` and `bob`; what they did so far, by heading of the page."""

    def __init__(self, folder):
        self.folder = folder
        self.said = {}

    def clone(self, name):
        return self.folder / name

    def read(self, name):
        return (self.clone(name) / FILE).read_text(encoding="utf-8")

    def step(self, title):
        """Runs every command under a heading, in the clone of whom the page names before them."""
        [text] = [text for heading, text in STEPS if heading == title]
        for name, block in re.findall(r"^<!-- (ann|bob) -->\n```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            for command in re.findall(r"^\$ (.+)$", block, re.MULTILINE):
                self.said[(title, name, command)] = self.run(name, command)

    def run(self, name, command):
        clone = self.clone(name)
        ended = subprocess.run(
            ["bash", "-c", command], cwd=clone, capture_output=True, text=True, env=environment(clone, name), check=False
        )
        is_conflict = command.startswith("git merge") and "CONFLICT" in ended.stdout
        assert ended.returncode == 0 or is_conflict, f"{command}\n{ended.stdout}{ended.stderr}"
        return ended.stdout + ended.stderr


def environment(clone, name):
    own = {each: value for each, value in os.environ.items() if not each.startswith("MLFLOW_")}
    who = {
        f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in (("NAME", name), ("EMAIL", "x@y.z"))
    }
    path = f"{clone / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    return own | who | {"PYTHONPATH": str(clone / "src"), "PATH": path, "DVC_NO_ANALYTICS": "1", "GIT_EDITOR": "true"}


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """The project with a file of reviews that DVC tracks, run and pushed; and the clones of Ann and Bob, with data."""
    top = tmp_path_factory.mktemp("team")
    first = fresh(top / "first", SMALL)
    pipeline = yaml.safe_load((first / "dvc.yaml").read_text())
    (first / "dvc.yaml").write_text(yaml.safe_dump({"stages": {name: pipeline["stages"][name] for name in STAGES}}))
    (first / FILE).parent.mkdir(parents=True, exist_ok=True)
    (first / FILE).write_text(rows(100, 0))
    (first / "new.csv").write_text(rows(20, 100))
    sentiflow(first, "remote", "set", str(top / "remote"), "--shared")
    sentiflow(first, "data", "add", "new.csv")
    make(first, "repro")
    (first / "new.csv").unlink()
    run(["git", "add", "--all"], first)
    run(["git", "-c", "user.name=t", "-c", "user.email=t@y.z", "commit", "--quiet", "--message", "first"], first)
    run(["git", "branch", "--move", "main"], first)
    sentiflow(first, "remote", "push")
    run(["git", "clone", "--quiet", "--bare", str(first), str(top / "origin.git")], top)
    walk = Walk(top)
    for name in ("ann", "bob"):
        run(["git", "clone", "--quiet", str(top / "origin.git"), name], top)
        (walk.clone(name) / ".venv").symlink_to(sys.prefix)
        os.utime(walk.clone(name) / "requirements.lock", (0, 0))  # older than the environment, which is not set up again
        walk.run(name, "sentiflow remote pull")
    (walk.clone("ann") / "new.csv").write_text(rows(12, 200))
    return walk


def ran(said):
    return set(re.findall(r"Running stage '([^']+)'", said))


def test_every_command_of_the_page_is_walked():
    commands = re.findall(r"^\$ ", PAGE, re.MULTILINE)
    walked = re.findall(r"^<!-- (?:ann|bob) -->\n```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"^\$ ", "".join(walked), re.MULTILINE)) == len(commands)
    assert len(commands) > 30


def test_fresh_clone_that_pulled_has_nothing_to_run(walk):
    assert walk.read("ann") == walk.read("bob")
    said = walk.run("bob", "sentiflow repro")
    assert ran(said) == set()
    assert "up to date" in said
    assert walk.run("bob", "git status --porcelain") == ""


def test_reviews_are_added_on_a_branch_and_pushed(walk):
    walk.step("Add reviews on a branch")
    assert ran(walk.said[("Add reviews on a branch", "ann", "sentiflow repro")]) >= {"download", "train@logistic", "compare"}
    assert ran(walk.run("ann", "sentiflow repro")) == set()
    assert walk.run("ann", "git status --porcelain").split() == ["??", "new.csv"]
    assert walk.run("ann", "git ls-tree -r --name-only HEAD data").split() == ["data/external/.gitkeep", f"{FILE}.dvc"]


def test_reviewer_sees_what_changed_and_has_nothing_to_run(walk):
    walk.step("Review a branch")
    output = {command: said for (title, _, command), said in walk.said.items() if title == "Review a branch"}
    assert "+12 rows" in output["sentiflow data versions"]
    assert re.search(r"^\| added +\| 12 +\| \+12 ", output["sentiflow data diff main"], re.MULTILINE)
    assert "CONTAMINATED" not in output["sentiflow data diff main"]
    assert "metrics/test/logistic.json" in output["dvc metrics diff main"]
    assert ran(output["sentiflow repro"]) == set()


def test_merge_of_one_side_runs_nothing(walk):
    title = "Merge where one side changed"
    walk.step(title)
    assert ran(walk.said[(title, "bob", "sentiflow repro")]) == set()
    assert walk.run("bob", "git status --porcelain") == ""
    assert walk.read("bob").count("\n") == 1 + 132


def test_conflict_in_the_lock_is_settled_by_one_side_s_and_a_run_of_what_differs(walk):
    title = "When both changed: dvc.lock"
    walk.step(title)
    said = walk.said
    assert "CONFLICT" in said[(title, "ann", "git merge origin/main")]
    [merged] = [output for (of, _, command), output in list(said.items())[::-1] if of == title and command == "sentiflow repro"][
        :1
    ]
    assert {"download", "clean", "split", "tokenize"} & ran(merged) == set()
    assert "train@logistic" in ran(merged)
    settings = yaml.safe_load((walk.clone("ann") / "params.yaml").read_text())
    assert settings["models"]["logistic"]["regularisation"] == 3.0
    card = json.loads((walk.clone("ann") / "metrics/data_card.json").read_text())
    assert card["rows"] == 132
    assert walk.run("ann", "git status --porcelain").split() == ["??", "new.csv"]
    assert ran(walk.run("ann", "sentiflow repro")) == set()


def test_reviews_that_both_added_are_all_there_after_the_merge(walk):
    (walk.clone("ann") / "new.csv").write_text(rows(8, 300))
    (walk.clone("bob") / "new.csv").write_text(rows(10, 304))
    title = "When both added reviews"
    walk.step(title)
    assert "CONFLICT" in walk.said[(title, "bob", "git merge origin/main")]
    texts = pd.read_csv(walk.clone("bob") / FILE)["review"]
    assert sorted(texts) == sorted({f"{each}" for each in texts}), "every text is unique"
    for i in range(300, 314):
        assert texts.str.startswith(f"Film {i} ").sum() == 1
    assert len(texts) == 132 + 14
    lines = walk.run("bob", "sentiflow data versions").splitlines()
    assert not [line for line in lines if "not committed" in line]
    assert "146" in [line for line in lines if line.startswith("| ")][-1]


def test_what_was_pushed_is_complete_for_whoever_clones_next(walk):
    run(["git", "clone", "--quiet", str(walk.folder / "origin.git"), "carol"], walk.folder)
    (walk.clone("carol") / ".venv").symlink_to(sys.prefix)
    os.utime(walk.clone("carol") / "requirements.lock", (0, 0))
    walk.run("carol", "sentiflow remote pull")
    assert ran(walk.run("carol", "sentiflow repro")) == set()
    assert walk.run("carol", "git status --porcelain") == ""
    assert walk.read("carol") == walk.read("bob")
