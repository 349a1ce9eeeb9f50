"""The commands of `sentiflow models`, with a real SQLite store of MLflow."""

import contextlib
import functools
import json
import os
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import commands
import pandas as pd
import pytest
from mlflow.cli import gc
from mlflow.exceptions import MlflowException
from prefect.logging import disable_run_logger
from publications import CLASSES, SCORES, publication, seen, worse

from flows.tasks import promote_challenger
from sentiflow.pipeline import isolated_run
from sentiflow.registry import champion_history, decision, judging, location, model_versions, publishing, store

TOP = Path(__file__).parents[3]
NO_WAY_BACK, SEE = "error: there is no champion to go back to", "see `sentiflow models history`"
CHANGES = {
    "promotion.floor": 0.8,
    "promotion.slice_reviews": 5,
    "promotion.calibration_error": 1.0,
    "promotion.latency_ms": 10_000.0,
    "promotion.latency_reviews": 20,
    "evaluate.resamples": 100,
}


@pytest.fixture(scope="module")
def project(trained, tmp_path_factory):
    """Client of a store with a good version, a worse one, and the good one again, in a folder with test reviews."""
    folder = tmp_path_factory.mktemp("project")
    _, tokens_dir, raw, _ = trained
    (folder / "params.yaml").write_text(isolated_run.with_changes((TOP / "params.yaml").read_text(encoding="utf-8"), CHANGES))
    (folder / "data/test_set").mkdir(parents=True)
    labels = [CLASSES[row % 2] for row in raw.index]
    test_set = pd.DataFrame({"row": raw.index, "label": labels, "text": raw})
    test_set.to_parquet(folder / "data/test_set/reviews.parquet", index=False)
    shutil.copytree(tokens_dir, folder / "data/tokens")
    shutil.copy(tokens_dir / "train.parquet", folder / "data/tokens/test.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")  # MLflow caches one connection per URI
        client = store.connect()
        parent = publishing.retraining(client, "f" * 64)
        for key in "abc":
            place = tmp_path_factory.mktemp(key)
            of = worse(trained, place, share=0.5) if key == "b" else trained
            made = publication(of, place, key=key * 64)
            publishing.keep_artifacts(client, publishing.publish(client, made, parent=parent), made)
        yield client


@pytest.fixture
def fresh(project):
    """Client of that store without champion, challenger, history and comparisons; versions 1 and 3 are good, 2 is worse."""
    for version in model_versions.versions(project):
        for tag in version.tags:
            if tag.startswith(judging.DECISION_TAG):
                project.delete_model_version_tag(store.MODEL, version.version, tag)
    for alias in (model_versions.CHAMPION, model_versions.PREVIOUS, model_versions.CHALLENGER):
        model_versions.set_alias(project, alias, None)
    if any(model.name == champion_history.HISTORY for model in project.search_registered_models()):
        project.delete_registered_model(champion_history.HISTORY)
    champion_history.JOURNAL.unlink(missing_ok=True)
    return project


@pytest.fixture
def command(capsys):
    """Runs a command; returns exit status, standard output and error."""
    return functools.partial(commands.run, capsys, "models")


def champion_of(client):
    named = model_versions.champion(client)
    return named and str(named.version)


def held(client):
    return [repr(client.search_model_versions()), [repr(model) for model in client.search_registered_models()]]


def test_promote_without_version_and_challenger_says_how_to_get_one(fresh, command):
    status, _, said = command("promote")
    assert status == 1
    assert said == (
        "error: there is no challenger to promote: the best model of the last run is champion already, or there was no run; "
        "see sentiflow models list, then name one (sentiflow models promote 3), or run: sentiflow repro\n"
    )


@pytest.mark.parametrize("version", ["99", "three", "-1", "1; drop table"])
def test_unknown_version_is_refused_with_the_existing_ones(fresh, command, version):
    status, _, said = command("promote", "--", version)
    assert status == 1
    assert said.startswith(f"error: received version {version!r}, but sentiflow has no such version; it has 1, 2, 3")


@pytest.mark.parametrize("reason", [[], ["--reason="], ["--reason=  "]])
def test_force_without_a_reason_is_refused_first(fresh, command, reason):
    before = held(fresh)
    status, _, said = command("promote", "1", "--force", *reason)
    assert status == 1
    assert "received --force without --reason" in said
    assert held(fresh) == before


def test_retraining_judges_against_the_current_champion_if_it_changed_meanwhile(fresh, command):
    assert command("promote", "1")[0] == 0
    with disable_run_logger():
        assert promote_challenger.fn("1") == ("Champion: version 1, which was promoted meanwhile.", True)
        fresh.set_model_version_tag(store.MODEL, "2", store.VERDICT_TAG, "passes all 6 promotion rules that need no champion.")
        message, is_champion = promote_challenger.fn("2")
        assert not is_champion
        assert message.startswith("Version 2 (nb_svm) fails 6 of 10 promotion rules against version 1 (nb_svm): ")
        state = promote_challenger.fn("99")  # any other refusal fails it
    assert "sentiflow has no such version" in state.message


def test_challenger_that_passes_the_rules_becomes_champion_and_loses_its_alias(fresh, command):
    model_versions.set_alias(fresh, model_versions.CHALLENGER, "1")
    status, said, _ = command("promote")
    assert status == 0
    assert "# Promotion" in said
    words = "Version 1 (nb_svm) passes all 6 promotion rules that need no champion."
    assert f"Champion: version 1 (nb_svm), first: {words}\nThe history is in metrics/champions.csv; commit it.\n" in said
    assert champion_of(fresh) == "1"
    assert model_versions.with_alias(fresh, model_versions.CHALLENGER) is None


@pytest.fixture
def trained_on(fresh, trained, tmp_path_factory):
    """Publishes the worse version again, as trained on `count` of the 80 test reviews; returns its number."""
    made = []

    def publish(count):
        place = tmp_path_factory.mktemp("trained_on")
        of = worse(trained, place, share=0.5)
        known = publication(of, place, key=f"{count:064x}", seen=seen(trained[2][:count]))
        made.append(publishing.publish(fresh, known, parent=publishing.retraining(fresh, "f" * 64)))
        publishing.keep_artifacts(fresh, made[-1], known)
        return str(made[-1].version)

    yield publish
    for version in made:
        fresh.delete_model_version(store.MODEL, version.version)


def test_test_reviews_that_the_champion_was_trained_on_are_left_out(fresh, command, trained_on):
    number = trained_on(40)
    command("promote", number, "--force", "--reason=as a champion of before")
    status, said, errors = command("promote", "1")
    assert (status, errors) == (0, "")
    assert "Left out: 40 whose texts either version was trained or chosen on." in said
    assert champion_of(fresh) == "1"
    run = fresh.get_model_version(store.MODEL, "1").run_id
    [name] = [
        item.path
        for item in fresh.list_artifacts(run, "verdicts")
        if f"against-version-{number}-" in item.path and item.path.endswith("json")
    ]
    page = fresh.download_artifacts(run, name)
    verdict = json.loads(Path(page).read_text())
    [mcnemar] = [rule["numbers"] for rule in verdict["rules"] if rule["rule"] == "mcnemar"]
    assert (verdict["reviews"], verdict["compared"]) == (80, 40)
    assert 0 < mcnemar["challenger_only"] <= 40
    assert sum(line["reviews"] for line in verdict["slices"] if line["slice"] == "class") == 40


def test_nothing_is_promoted_if_too_few_test_reviews_are_new_to_both(fresh, command, trained_on):
    number = trained_on(60)
    command("promote", number, "--force", "--reason=as a champion of before")
    status, _, said = command("promote", "1")
    assert status == 1
    assert said == (
        f"error: Version 1 (nb_svm) does not pass. Not compared with version {number} (nb_svm): only 20 of 80 test reviews are "
        "new to both versions, promotion.minimum_reviews is 30. It was not promoted; "
        'to promote it anyway: sentiflow models promote 1 --force --reason "..."\n'
    )
    assert champion_of(fresh) == number
    assert judging.decisions(model_versions.versions(fresh)) == {}


def test_verdict_of_the_last_run_is_removed_when_the_champion_changes(fresh, command):
    location.VERDICT.parent.mkdir(exist_ok=True)
    for words in (["promote", "1"], ["promote", "3", "--force", "--reason=as good"], ["rollback"]):
        location.VERDICT.write_text("**Version 1 is still the champion.**")
        assert command(*words)[0] == 0
        assert not location.VERDICT.exists()


def test_champion_is_not_promoted_again(fresh, command):
    command("promote", "1")
    status, _, said = command("promote", "1")
    assert (status, said) == (1, "error: version 1 is the champion already; nothing was changed\n")


def test_version_that_fails_a_rule_is_refused_with_the_rules_and_how_to_force_it(fresh, command):
    command("promote", "1")
    status, output, said = command("promote", "2")
    assert status == 1
    assert "| gain " in output
    rules = "majority, floor, gain, mcnemar, interval"
    assert said.startswith(f"error: Version 2 (nb_svm) fails 6 of 10 promotion rules against version 1 (nb_svm): {rules}")
    assert 'sentiflow models promote 2 --force --reason "..."' in said
    assert champion_of(fresh) == "1"
    assert fresh.get_model_version("sentiflow", "2").tags["verdict"].startswith("fails 6 of 10 promotion rules against version 1")


def test_force_promotes_with_the_reason_and_the_rules_that_fail_in_the_history(fresh, command):
    command("promote", "1")
    reason = "a \"good\" one, for $5 | and 'more'"
    status, said, _ = command("promote", "2", "--force", f"--reason={reason}")
    assert status == 0
    assert f"forced: {reason} (Version 2 (nb_svm) fails 6 of 10 promotion rules against version 1" in said
    assert champion_history.history(fresh)[-1].why.startswith(reason)
    assert champion_of(fresh) == "2"


def test_dry_run_prints_what_would_happen_and_changes_nothing(fresh, command):
    model_versions.set_alias(fresh, model_versions.CHALLENGER, "1")
    before = held(fresh)
    status, said, _ = command("promote", "--dry-run")
    assert (status, held(fresh)) == (0, before)
    assert "Dry run: version 1 would become champion, first: " in said
    assert not champion_history.JOURNAL.exists()

    command("promote")
    command("promote", "3", "--force", "--reason=as good")
    before = held(fresh), champion_history.JOURNAL.read_bytes()
    status, said, _ = command("promote", "2", "--dry-run")
    assert status == 1
    status, said, _ = command("rollback", "--dry-run")
    assert status == 0
    assert said == "Dry run: version 1 would be champion again instead of version 3. Nothing was changed.\n"
    assert (held(fresh), champion_history.JOURNAL.read_bytes()) == before


def test_without_test_reviews_promotion_needs_force(fresh, command):
    reviews = Path("data/test_set/reviews.parquet")
    aside = reviews.rename(reviews.with_suffix(".aside"))
    try:
        status, _, said = command("promote", "1")
        assert status == 1
        assert "version 1 cannot be judged: " in said
        assert "reviews.parquet" in said
        assert "--force" in said
        assert champion_of(fresh) is None
        status, said, _ = command("promote", "1", "--force", "--reason=no reviews here")
        assert status == 0
        assert "Version 1 was not judged: " in said
        assert champion_history.history(fresh)[-1].why == "no reviews here (Not judged.)"
    finally:
        aside.rename(reviews)


def test_force_does_not_skip_the_check_of_the_files(fresh, command):
    place = Path(fresh.get_model_version_download_uri("sentiflow", "3").removeprefix("file://"))
    code = place / "code/sentiflow/__init__.py"
    before = code.read_text()
    code.write_text(f"{before}\nopen('ran', 'w').close()\n")
    try:
        status, _, said = command("promote", "3", "--force", "--reason=I like it")
    finally:
        code.write_text(before)
    assert status == 1
    assert "version 3 of sentiflow is refused: its files have changed" in said
    assert champion_of(fresh) is None
    assert not Path("ran").exists()


def test_rollback_without_a_previous_champion_is_refused(fresh, command):
    status, _, said = command("rollback")
    assert (status, said) == (1, f"{NO_WAY_BACK}: there is none yet; {SEE}\n")
    command("promote", "1")
    status, _, said = command("rollback")
    assert (status, said) == (1, f"{NO_WAY_BACK}: version 1 is the first; {SEE}\n")


def test_rollback_prints_its_reason(fresh, command):
    command("promote", "1")
    command("promote", "3", "--force", "--reason=as good")
    status, said, _ = command("rollback", "--reason=it was slower")
    assert status == 0
    assert said.startswith("Champion: version 1 (nb_svm) instead of version 3, rollback: it was slower\n")
    assert champion_of(fresh) == "1"


def test_history_has_one_row_per_change(fresh, command):
    status, said, _ = command("history")
    assert status == 0
    assert said == "No version was champion yet; `sentiflow repro` evaluates the best, `sentiflow models promote` promotes it.\n"
    command("promote", "1")
    command("promote", "3", "--force", "--reason=as good")
    status, said, _ = command("history")
    assert status == 0
    lines = [[cell.strip() for cell in line.split("|")[1:5]] for line in said.splitlines() if line.startswith("|")]
    entries = champion_history.history(fresh)
    assert lines[0] == ["version", "architecture", "from", "to"]
    assert lines[2:] == [["1", "nb_svm", entries[0].at, entries[1].at], ["3", "nb_svm", entries[1].at, "now"]]
    assert "as good (" in said


def test_versions_are_listed_with_alias_and_verdict(fresh, command):
    fresh.set_model_version_tag(store.MODEL, "3", store.VERDICT_TAG, store.NOT_JUDGED)
    command("promote", "1")
    command("promote", "2")
    status, said, _ = command("list")
    assert status == 0
    rows = [[cell.strip() for cell in line.split("|")] for line in said.splitlines()[2:] if line.startswith("|")]
    assert [row[1:4] for row in rows] == [["1", "nb_svm", "champion"], ["2", "nb_svm", ""], ["3", "nb_svm", ""]]
    assert "promotion rules against version 1" in rows[1][5]
    assert rows[2][5] == "not judged"
    [test_set] = judging.decisions(model_versions.versions(fresh))
    assert said.endswith(f"\nTest set {test_set}: 1 comparison with a champion so far.\n")


def test_plus_marks_versions_with_uncommitted_changes(fresh, command):
    assert "+" not in command("list")[1]
    for tag, value in ((store.UNCOMMITTED_TAG, "true"), (store.COMMIT_TAG, "c" * 40)):
        fresh.set_model_version_tag(store.MODEL, "2", tag, value)
    try:
        _, said, _ = command("list")
    finally:
        for tag in (store.UNCOMMITTED_TAG, store.COMMIT_TAG):
            fresh.delete_model_version_tag(store.MODEL, "2", tag)
    assert said.count(f"{'c' * 10}+") == 1
    assert said.endswith("\n+ after a commit: the code or the settings differed from it when the version was published.\n")


@pytest.mark.usefixtures("fresh")
def test_commit_that_is_unknown_or_has_no_results_is_refused(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").touch()
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *words], check=True)
    status, _, said = command("list", "--commit=nowhere")
    assert status == 1
    assert said == (
        "error: nowhere is not a commit of this repository. Expected a branch, a tag or a hash of: git log --oneline\n"
    )
    status, _, said = command("list", "--commit=HEAD")
    assert status == 1
    assert said == "error: received HEAD, which has no dvc.lock; give one of: git log --oneline dvc.lock\n"


@pytest.mark.parametrize("words", [["list"], ["history"], ["promote", "1"], ["rollback"]])
def test_store_that_is_down_is_reported_in_one_line(command, monkeypatch, words):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:secret@127.0.0.1:9")
    status, _, said = command(*words)
    assert status == 75
    assert said.startswith("error: MLflow's store at http://127.0.0.1:9 does not answer (")
    assert "secret" not in said
    assert said.count("\n") == 1


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """File of an empty store, which takes MLflow seconds to create."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        store.connect()
    return file


def test_list_of_an_empty_store_says_how_to_fill_it(command, monkeypatch, empty_store):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{empty_store}")
    status, said, _ = command("list")
    assert status == 0
    assert said.startswith("No version of sentiflow is registered in this store; `sentiflow repro` registers, ")


@pytest.mark.parametrize("words", [["list"], ["history"], ["promote", "1"], ["rollback"]])
def test_store_that_fails_later_is_reported_in_one_line(command, monkeypatch, empty_store, tmp_path, words):
    damaged = shutil.copy(empty_store, tmp_path / "mlflow.db")
    with contextlib.closing(sqlite3.connect(damaged)) as database:
        database.execute("DROP TABLE model_versions")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{damaged}")
    location.check(f"sqlite:///{damaged}")  # it was made elsewhere
    status, _, said = command(*words)
    assert status == 75
    assert said.startswith(f"error: MLflow's store at sqlite:///{damaged} stopped answering (")
    assert "expected state" in said, "what MLflow says is passed on"
    assert said.count("\n") == 1


# deleted or changed in MLflow itself


@pytest.fixture
def another(fresh):
    """Registers one more version of the good model, as a publication with another key; deleted after the test."""
    made = []

    def register(key):
        good = fresh.get_model_version(store.MODEL, "1")
        tags = good.tags | {store.KEY_TAG: key * 64}
        made.append(fresh.create_model_version(store.MODEL, good.source, good.run_id, tags=tags).version)
        return str(made[-1])

    yield register
    for number in made:
        with contextlib.suppress(MlflowException):
            fresh.delete_model_version(store.MODEL, number)


def force(command, version):
    assert command("promote", version, "--force", "--reason=for the test")[0] == 0


def test_previous_champion_replaces_a_deleted_one_at_the_next_command(fresh, command, another):
    force(command, "1")
    lost = another("d")
    force(command, lost)
    fresh.delete_model_version(store.MODEL, lost)
    _, said, _ = command("history")
    gone = f"Version {lost}, the champion, was deleted in MLflow; version 1, the previous champion, becomes champion again"
    assert said.startswith(gone)
    assert f"| {lost} (deleted)" in said
    assert champion_of(fresh) is None, "history only shows"

    status, _, said = command("promote", "2")
    assert status == 1
    assert "against version 1 (nb_svm): " in said
    assert champion_of(fresh) == "1"
    entries = champion_history.history(fresh)
    assert (entries[-1].how, entries[-1].version) == (champion_history.DELETED, "1")
    _, said, _ = command("history")
    assert "was deleted in MLflow;" not in said


@pytest.mark.parametrize("words", [["promote", "3", "--force", "--reason=as good"], ["rollback"]])
def test_every_command_works_after_the_champion_was_deleted(fresh, command, another, words):
    force(command, "1")
    lost = another("d")
    force(command, lost)
    fresh.delete_model_version(store.MODEL, lost)
    status, said, _ = command(*words)
    assert status == 0
    assert champion_of(fresh) == ("3" if words[0] == "promote" else "1")
    if words == ["rollback"]:
        assert said == f"Version {lost}, the champion, was deleted in MLflow; version 1 is champion again.\n"
        status, _, said = command("rollback")
        assert (status, said) == (1, f"{NO_WAY_BACK}: version 1 is the first; {SEE}\n")


def test_deleting_the_only_champion_leaves_none(fresh, command, another):
    lost = another("d")
    force(command, lost)
    fresh.delete_model_version(store.MODEL, lost)
    assert "and no earlier champion is left: sentiflow repro" in command("history")[1]
    status, _, said = command("rollback")
    assert status == 1
    assert "there is no champion to go back to: there is none yet" in said
    status, said, _ = command("promote", "1")
    assert status == 0
    assert champion_history.history(fresh)[-1].how == champion_history.FIRST


def test_reused_number_of_a_deleted_champion_is_not_the_champion(fresh, command, another):
    lost = another("d")
    force(command, lost)
    # as if the registered model was deleted and created again: same number, other publication
    fresh.set_model_version_tag(store.MODEL, lost, store.KEY_TAG, "e" * 64)
    model_versions.set_alias(fresh, model_versions.CHAMPION, None)
    with champion_history.changing(fresh) as entries:
        assert champion_history.current(entries) == ""
    assert champion_of(fresh) is None
    assert "(deleted)" in command("history")[1]


def test_history_reports_an_alias_that_was_changed_in_mlflow(fresh, command):
    force(command, "1")
    fresh.set_registered_model_alias(store.MODEL, "champion", "3")
    _, said, _ = command("history")
    assert said.startswith(
        "The alias champion is on version 3, but the champion in the history is 1; version 3 is added to the history"
    )
    fresh.delete_registered_model_alias(store.MODEL, "champion")
    assert command("history")[1].startswith(
        "The alias champion was removed in MLflow, but the champion in the history is version 1"
    )


def test_deleted_history_is_restored_from_the_journal(fresh, command):
    force(command, "1")
    force(command, "3")
    fresh.delete_registered_model(champion_history.HISTORY)
    status, said, _ = command("history")
    assert status == 0
    assert said.startswith("Version 3 has the alias champion, but the history (sentiflow-champions in MLflow) is gone")
    assert "No version was champion yet" not in said
    status, said, _ = command("rollback")
    assert (status, champion_of(fresh)) == (0, "1")
    assert [entry.version for entry in champion_history.history(fresh)] == ["1", "3", "1"]


def test_publication_is_complete_only_with_its_version_and_runs(fresh, tmp_path, trained):
    parent = publishing.retraining(fresh, "0" * 64)
    version = publishing.publish(fresh, publication(trained, tmp_path, key="9" * 64), parent=parent)
    keys = {"nb_svm": "9" * 64, "comparison": "0" * 64}
    assert not publishing.are_published(fresh, keys), "the comparison is not"
    publishing.finish(fresh, parent, {"nb_svm": version}, best="nb_svm", scores=SCORES, pages=[])
    assert publishing.are_published(fresh, keys)
    for run in (parent, version.run_id):
        fresh.delete_run(run)
        assert not publishing.are_published(fresh, keys)
        fresh.restore_run(run)
    assert publishing.are_published(fresh, keys)
    fresh.delete_model_version(store.MODEL, version.version)
    assert not publishing.are_published(fresh, keys)


@pytest.fixture
def page(fresh):
    """The text of reports/decision.html after the last command; the last run made versions 1 and 2."""
    keys = {"good": "a" * 64, "worse": "b" * 64, "comparison": "f" * 64}
    written = {
        location.REPORT: "before <!-- decision -->no verdict<!-- /decision --> after",
        location.PUBLISHED: json.dumps({"best": "good", "keys": keys}),
        Path("metrics/comparison.json"): json.dumps({"models": [{"architecture": "good"}, {"architecture": "worse"}]}),
    }
    for file, text in written.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    for version in model_versions.versions(fresh):
        fresh.log_text(version.run_id, json.dumps({"test": SCORES}), "report/scores.json")

    def read():
        text = re.sub(r"<[^>]+>", " ", location.DECISION.read_text(encoding="utf-8"))
        return " ".join(text.split())

    yield read
    for file in (*written, location.DECISION):
        file.unlink(missing_ok=True)


def test_decision_page_says_how_to_get_a_verdict_where_there_is_none(fresh, page):
    decision.write()
    assert page().startswith("before No model to ship yet. No version has been judged. `sentiflow repro` trains")
    assert page().endswith("after")
    assert "good 90.0% 88.0% to 92.0% 2.0%" in page()


def test_decision_page_follows_promotion_rejection_and_rollback(fresh, command, page):
    assert command("promote", "1")[0] == 0
    assert "Ship nb_svm, version 1. Version 1 (nb_svm) passes all 6 promotion rules that need no champion." in page()
    assert re.search(
        r"latency ✓ passes at most 10000.0 ms 95th percentile ([\d.]+) ms .* 2.0% \1 ms [\d.]+ MB 2.8 s 1 champion", page()
    )

    model_versions.set_alias(fresh, model_versions.CHALLENGER, "2")
    assert command("promote")[0] == 1
    assert "Keep nb_svm, version 1. Version 2 (nb_svm) fails 6 of 10 promotion rules against version 1" in page()
    assert "Promotion rules: version 2 (nb_svm) against version 1 (nb_svm), on 80 test reviews" in page()

    assert command("promote", "--force", "--reason", "labels")[0] == 0
    assert "Ship nb_svm, version 2. Forced: labels (Version 2" in page()
    assert command("rollback", "--reason", "too slow")[0] == 0
    assert "Ship nb_svm, version 1. Rollback: too slow" in page()


def test_latency_of_a_version_is_measured_once(fresh, trained, monkeypatch):
    texts = trained[2].tolist()
    versions = model_versions.versions(fresh)
    judging.measure_latency(fresh, versions, texts)
    assert all(fresh.get_run(version.run_id).data.metrics[publishing.LATENCY] > 0 for version in versions)
    monkeypatch.setattr(model_versions, "opened", None)
    judging.measure_latency(fresh, versions, texts)


# Last in this file: `mlflow gc` also removes logged models that the versions above need.
def test_champion_without_its_run_counts_as_deleted(fresh, command, tmp_path, trained):
    made = publishing.publish(fresh, publication(trained, tmp_path, key="7" * 64), parent=publishing.retraining(fresh, "f" * 64))
    force(command, "1")
    force(command, str(made.version))
    fresh.delete_run(made.run_id)
    gc.main(["--backend-store-uri", os.environ["MLFLOW_TRACKING_URI"], "--run-ids", made.run_id], standalone_mode=False)
    try:
        assert command("promote", "2")[0] == 1
        assert champion_of(fresh) == "1"
        force(command, "3")
        assert [entry.version for entry in champion_history.history(fresh)] == ["1", str(made.version), "1", "3"]
    finally:
        fresh.delete_model_version(store.MODEL, made.version)
