"""Promotion, rollback and history with a real SQLite store of MLflow."""

import getpass
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from publications import held_out, publication, seen, worse

from sentiflow.config import params
from sentiflow.registry import champion_history, judging, model_versions, promotion_rules, publishing, verdict_report
from sentiflow.registry.store import COMPLETE_TAG, MODEL
from sentiflow.system.errors import InputError

HOW = params.Promotion(
    metric="accuracy_score",
    floor=0.8,
    minimum_reviews=30,
    gain=0.0,
    p_value=0.05,
    slice_margin=0.03,
    slice_reviews=5,
    calibration_error=1.0,
    latency_ms=10_000,
    latency_reviews=20,
    size_mb=50,
)
EVALUATE = params.Evaluate(resamples=100, confidence=0.95, bins=5)


@pytest.fixture(scope="module")
def versions(store, trained, tmp_path_factory):
    """A good version, a worse one, and two more of the good one."""
    parent = publishing.retraining(store, "f" * 64)
    made = {}
    for name, key in (("good", "a"), ("worse", "b"), ("third", "c"), ("fourth", "d")):
        folder = tmp_path_factory.mktemp(name)
        of = worse(trained, folder, share=0.5) if name == "worse" else trained
        made[name] = publishing.publish(store, publication(of, folder, key=key * 64), parent=parent)
    return made


@pytest.fixture
def fresh(store, versions):
    """Client of the store without champion, history and comparisons."""
    for version in model_versions.versions(store):
        for tag in version.tags:
            if tag.startswith(judging.DECISION_TAG):
                store.delete_model_version_tag(MODEL, version.version, tag)
    for alias in (model_versions.CHAMPION, model_versions.PREVIOUS, model_versions.CHALLENGER):
        model_versions.set_alias(store, alias, None)
    if any(model.name == champion_history.HISTORY for model in store.search_registered_models()):
        store.delete_registered_model(champion_history.HISTORY)
    champion_history.JOURNAL.unlink(missing_ok=True)
    return store


def crown(client, version, how=champion_history.RULES, why="it is better"):
    with champion_history.changing(client) as entries:
        return champion_history.change(client, entries, version, how, why)


def back(client):
    with champion_history.changing(client) as entries:
        line = champion_history.line_of_succession(entries)
        return champion_history.change(
            client, entries, model_versions.version(client, line[-2]), champion_history.ROLLBACK, "back"
        )


def aliases(client):
    named = {alias: model_versions.with_alias(client, alias) for alias in (model_versions.CHAMPION, model_versions.PREVIOUS)}
    return {alias: version and str(version.version) for alias, version in named.items()}


def test_history_has_who_was_champion_from_when_to_when_and_why(fresh, versions, monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "user of the machine")
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    crown(fresh, versions["good"], champion_history.FIRST, "the first")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "anna")
    crown(fresh, versions["third"], champion_history.FORCED, "I like it")
    table = champion_history.as_table(champion_history.history(fresh))
    assert table["version"].tolist() == [str(versions["good"].version), str(versions["third"].version)]
    assert table["how"].tolist() == ["first", "forced"]
    assert table["why"].tolist() == ["the first", "I like it"]
    assert table["by"].tolist() == ["user of the machine", "anna"]
    assert table["to"].tolist() == [table["from"][1], ""]
    assert aliases(fresh) == {"champion": str(versions["third"].version), "previous": str(versions["good"].version)}
    assert pd.read_csv(champion_history.JOURNAL, dtype=str, keep_default_na=False)["why"].tolist() == ["the first", "I like it"]


def test_each_rollback_goes_back_one_more(fresh, versions):
    for name in ("good", "third", "fourth"):
        crown(fresh, versions[name])
    for name in ("third", "good"):
        assert back(fresh).version == str(versions[name].version)
        assert aliases(fresh)["champion"] == str(versions[name].version)
    assert aliases(fresh)["previous"] is None
    assert len(champion_history.line_of_succession(champion_history.history(fresh))) == 1


def test_champion_cannot_be_promoted_again(fresh, versions):
    crown(fresh, versions["good"])
    with pytest.raises(InputError, match="is the champion already"):
        crown(fresh, versions["good"])


def test_first_of_two_changes_based_on_the_same_history_wins(fresh, versions):
    crown(fresh, versions["good"])
    decided_on = champion_history.history(fresh)
    champion_history.change(fresh, decided_on, versions["third"], champion_history.RULES, "it is better")
    with pytest.raises(InputError, match="another change came first"):
        champion_history.change(fresh, decided_on, versions["fourth"], champion_history.RULES, "it is better too")
    assert aliases(fresh)["champion"] == str(versions["third"].version)
    assert [entry.version for entry in champion_history.history(fresh)] == [
        str(versions[name].version) for name in ("good", "third")
    ]


def test_two_processes_that_promote_at_once_leave_one_consistent_champion(fresh, versions):
    crown(fresh, versions["good"])
    code = (
        "import sys; from sentiflow.registry import champion_history, model_versions, store; client = store.connect();"
        "print('ready', flush=True); input();"
        "version = model_versions.version(client, sys.argv[1]);"
        "decided_on = champion_history.history(client);"  # past the lock of this machine, as from two machines
        "champion_history.change(client, decided_on, version, 'rules', 'it is better')"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(versions[name].version)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("third", "fourth")
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    errors = [process.communicate(timeout=60)[1] for process in started]
    entries = champion_history.history(fresh)
    assert aliases(fresh) == {"champion": entries[-1].version, "previous": entries[-2].version}
    lost = [text for process, text in zip(started, errors, strict=True) if process.returncode]
    assert all("another change came first" in text or "is the champion" in text for text in lost), lost
    assert len(entries) == 1 + len(started) - len(lost)


def test_rejected_simultaneous_write_is_checked_again(fresh, versions, monkeypatch):
    crown(fresh, versions["good"])
    tag = type(fresh).set_model_version_tag
    refused = []

    def refuses_once(client, name, *arguments, **named):
        if name == champion_history.HISTORY and not refused:
            refused.append(name)
            tag(client, name, *arguments, **named)  # the other one's
            raise MlflowException("UNIQUE constraint failed", error_code=BAD_REQUEST)
        tag(client, name, *arguments, **named)

    monkeypatch.setattr(type(fresh), "set_model_version_tag", refuses_once)
    crown(fresh, versions["third"])
    assert refused
    assert aliases(fresh)["champion"] == str(versions["third"].version)


@pytest.mark.parametrize("killed_after", ["entry", "previous", "champion", "all but the journal"])
def test_killed_promotion_is_completed_by_the_next_command(fresh, versions, monkeypatch, killed_after):
    crown(fresh, versions["good"])

    class Killed(BaseException):
        pass

    set_alias = model_versions.set_alias

    def until_killed(client, alias, number):
        if killed_after == "entry":
            raise Killed
        set_alias(client, alias, number)
        if alias == killed_after:
            raise Killed

    def killed(client):
        raise Killed

    with monkeypatch.context() as patch:
        decided_on = champion_history.history(fresh)
        patch.setattr(model_versions, "set_alias", until_killed)
        patch.setattr(champion_history, "write_journal", killed)
        with pytest.raises(Killed):
            champion_history.change(fresh, decided_on, versions["third"], champion_history.RULES, "it is better")
    assert aliases(fresh)["champion"] in {str(versions["good"].version), str(versions["third"].version)}
    with champion_history.changing(fresh) as entries:
        assert entries[-1].version == str(versions["third"].version)
    assert aliases(fresh) == {"champion": str(versions["third"].version), "previous": str(versions["good"].version)}
    kept = pd.read_csv(champion_history.JOURNAL, dtype=str)
    assert kept["version"].tolist() == [str(versions[name].version) for name in ("good", "third")]


def test_alias_that_was_set_by_hand_is_kept_and_added_to_the_history(fresh, versions):
    crown(fresh, versions["good"])
    fresh.set_registered_model_alias(MODEL, "champion", versions["third"].version)
    with champion_history.changing(fresh) as entries:
        assert entries[-1].how == champion_history.BY_HAND
    assert aliases(fresh) == {"champion": str(versions["third"].version), "previous": str(versions["good"].version)}


def test_champion_of_a_store_without_a_history_becomes_its_first_entry(fresh, versions):
    fresh.set_registered_model_alias(MODEL, "champion", versions["good"].version)
    with champion_history.changing(fresh) as entries:
        assert [entry.version for entry in entries] == [str(versions["good"].version)]


def test_journal_is_replayed_into_an_empty_store_once(fresh, versions):
    crown(fresh, versions["good"], champion_history.FIRST, "the first")
    crown(fresh, versions["third"], champion_history.RULES, "better")
    before = champion_history.as_table(champion_history.history(fresh)).drop(columns="number")
    fresh.delete_registered_model(champion_history.HISTORY)
    for alias in ("champion", "previous"):
        fresh.delete_registered_model_alias(MODEL, alias)
    assert champion_history.replay(fresh) == (2, [])
    pd.testing.assert_frame_equal(champion_history.as_table(champion_history.history(fresh)).drop(columns="number"), before)
    assert aliases(fresh) == {"champion": str(versions["third"].version), "previous": str(versions["good"].version)}
    assert champion_history.replay(fresh) == (0, [])


def test_rows_of_the_journal_without_a_version_are_left_out_and_named(fresh, versions):
    for name in ("good", "third", "fourth"):
        crown(fresh, versions[name])
    back(fresh)
    journal = champion_history.JOURNAL.read_text()
    lost = versions["third"].tags["sentiflow.key"]
    champion_history.JOURNAL.write_text(journal.replace(lost, "0" * 64))
    fresh.delete_registered_model(champion_history.HISTORY)
    for alias in ("champion", "previous"):
        model_versions.set_alias(fresh, alias, None)
    entered, left_out = champion_history.replay(fresh)
    assert (entered, len(left_out)) == (2, 2)
    assert aliases(fresh) == {"champion": str(versions["fourth"].version), "previous": str(versions["good"].version)}


def test_journal_of_another_store_is_kept_and_not_used(fresh, versions, caplog):
    crown(fresh, versions["good"], champion_history.FIRST, "the first")
    kept = champion_history.JOURNAL.read_text().replace(versions["good"].tags["sentiflow.key"], "0" * 64)
    champion_history.JOURNAL.write_text(kept)
    fresh.delete_registered_model(champion_history.HISTORY)
    model_versions.set_alias(fresh, "champion", None)
    assert champion_history.journal_is_of_another_store([])
    crown(fresh, versions["third"])
    assert champion_history.JOURNAL.read_text() == kept
    assert "sentiflow models rebuild" in caplog.text


def test_history_is_restored_if_the_store_has_its_last_champion(fresh, versions):
    crown(fresh, versions["good"])
    fresh.delete_registered_model(champion_history.HISTORY)
    model_versions.set_alias(fresh, "champion", None)
    with champion_history.changing(fresh) as [entry]:
        assert champion_history.restored(fresh) == [entry]
    assert aliases(fresh)["champion"] == str(versions["good"].version)


@pytest.mark.parametrize("damage", ["", "a,b\n1,2\n", "\x00\xff"])
def test_damaged_journal_is_an_error_that_names_it(fresh, versions, damage):
    champion_history.JOURNAL.parent.mkdir(exist_ok=True)
    champion_history.JOURNAL.write_text(damage, encoding="latin-1")
    with pytest.raises(InputError, match=r"metrics/champions\.csv .*git checkout"):
        champion_history.journal_is_of_another_store([])


def judged(client, versions, challenger, champion, raw, **changes):
    how = HOW.model_copy(update=changes)
    against = champion and versions[champion]
    return judging.judge(client, versions[challenger], against, held_out(raw), how, EVALUATE, seed=1)


def test_better_version_passes_every_rule_and_the_worse_one_does_not(fresh, versions, trained):
    raw = trained[2]
    assert judged(fresh, versions, "good", "worse", raw).holds
    rejected = judged(fresh, versions, "worse", "good", raw)
    assert {"floor", "gain", "mcnemar", "interval", "slices"} <= set(rejected.failed)
    assert judged(fresh, versions, "good", None, raw).holds


def test_verdict_is_recorded_in_tag_description_metric_and_a_page(fresh, versions, trained):
    verdict = judged(fresh, versions, "worse", "good", trained[2])
    for _ in range(2):
        judging.record(fresh, fresh.get_model_version(MODEL, versions["worse"].version), versions["good"], verdict)
    kept = fresh.get_model_version(MODEL, versions["worse"].version)
    assert judging.recorded(kept) == (verdict_report.in_words(verdict), False)
    assert kept.tags["verdict"].startswith("fails ")
    assert fresh.get_run(kept.run_id).data.metrics[publishing.LATENCY] > 0
    assert kept.description.count("Judged: ") == 1
    assert verdict_report.in_words(verdict) in kept.description
    [name] = {item.path for item in fresh.list_artifacts(kept.run_id, "verdicts") if item.path.endswith(".md")}
    assert "| floor " in Path(fresh.download_artifacts(kept.run_id, name)).read_text(encoding="utf-8")


def test_comparisons_on_a_test_set_are_numbered(fresh, versions, trained):
    def decide(challenger, champion, raw):
        verdict = judged(fresh, versions, challenger, champion, raw)
        judging.record(fresh, versions[challenger], champion and versions[champion], verdict)
        return verdict.decision

    raw = trained[2]
    assert decide("good", None, raw) == 1
    assert decide("good", "worse", raw) == 1, "without a champion nothing was compared"
    assert decide("good", "worse", raw) == 1, "the same two again"
    assert decide("third", "worse", raw) == 2
    assert decide("good", "third", raw) == 3, "another champion"
    assert decide("good", "worse", raw) == 1, "whatever came between"
    assert decide("fourth", "worse", raw.iloc[:60]) == 1, "on another test set"
    assert decide("fourth", "worse", raw) == 4
    first = held_out(raw).digest[:16], held_out(raw.iloc[:60]).digest[:16]
    assert judging.decisions(model_versions.versions(fresh)) == dict(zip(first, (4, 1), strict=True))
    levels = [outcome.numbers["required"] for outcome in judged(fresh, versions, "fourth", "worse", raw).outcomes[4:5]]
    assert levels == [promotion_rules.level_of(4, HOW)] == [0.0025]


def test_verdict_without_a_comparison_has_no_number(fresh, versions, trained):
    few = trained[2].iloc[:20]
    verdict = judged(fresh, versions, "good", "worse", few)
    judging.record(fresh, versions["good"], versions["worse"], verdict)
    assert not verdict.is_compared
    assert judging.decisions(model_versions.versions(fresh)) == {}


def test_version_without_a_record_of_its_training_texts_is_compared_with_a_warning(fresh, versions, trained, caplog):
    assert model_versions.seen_texts(fresh, versions["worse"]) is None
    verdict = judged(fresh, versions, "good", "worse", trained[2])
    assert (verdict.compared, verdict.reviews) == (80, 80)
    said = [line.getMessage() for line in caplog.records if "has no record of its training texts" in line.getMessage()]
    assert [text.split(" has")[0] for text in said] == [f"version {versions[name].version}" for name in ("good", "worse")]


@pytest.fixture
def recorded(fresh, trained, tmp_path):
    """A version that records that it was trained on the first 30 of the 80 test reviews."""
    made = publication(trained, tmp_path, key="9" * 64, seen=seen(trained[2][:30]))
    version = publishing.publish(fresh, made, parent=publishing.retraining(fresh, "f" * 64))
    for _ in range(2):  # as a second run does
        publishing.keep_artifacts(fresh, version, made)
    yield version
    fresh.delete_model_version(MODEL, version.version)


def test_recorded_training_texts_are_left_out(fresh, versions, recorded, trained):
    table = model_versions.seen_texts(fresh, recorded)
    pd.testing.assert_frame_equal(table, seen(trained[2][:30]))
    verdict = judged(fresh, {**versions, "recorded": recorded}, "recorded", "worse", trained[2])
    assert (verdict.reviews, verdict.compared) == (80, 50)


@pytest.mark.parametrize("damage", [pd.DataFrame({"text": ["x"]}), pd.DataFrame({"hash": [1.5]})])
def test_invalid_record_of_training_texts_is_refused(fresh, recorded, damage):
    place = Path(fresh.get_run(recorded.run_id).info.artifact_uri.removeprefix("file://")) / publishing.SEEN
    damage.to_parquet(place)
    with pytest.raises(InputError, match=r"training/texts\.parquet in run .* is not a table of hashes; .*sentiflow repro$"):
        model_versions.seen_texts(fresh, recorded)


def challenged(client, version, raw, **changes):
    how = HOW.model_copy(update=changes)
    page = judging.challenge(client, version, held_out(raw), how, EVALUATE, seed=1)
    return page.split("**")[1].replace("\\", "")


def test_challenge_says_what_happened_to_the_version(fresh, versions, trained):
    raw = trained[2]
    good, poor, third = (versions[name].version for name in ("good", "worse", "third"))
    assert challenged(fresh, versions["worse"], raw) == (
        f"Version {poor} (nb_svm) fails 2 of 6 promotion rules that need no champion: majority, floor. No version is champion. "
        f'To promote version {poor} anyway: sentiflow models promote {poor} --force --reason "..."'
    )
    crown(fresh, versions["worse"])
    assert challenged(fresh, versions["good"], raw) == (
        f"Version {good} (nb_svm) passes all 10 promotion rules against version {poor} (nb_svm). "
        f"Version {poor} is still the champion. To replace it: sentiflow models promote"
    )
    crown(fresh, versions["third"])
    said = challenged(fresh, versions["worse"], raw)
    assert said.startswith(f"Version {poor} (nb_svm) fails 6 of 10 promotion rules against version {third} (nb_svm): majority, ")
    assert said.endswith(
        f"Version {third} is still the champion. "
        f'To promote version {poor} anyway: sentiflow models promote {poor} --force --reason "..."'
    )


def test_challenge_names_the_first_champion(fresh, versions, trained):
    good = versions["good"].version
    assert challenged(fresh, versions["good"], trained[2]) == (
        f"Version {good} (nb_svm) passes all 6 promotion rules that need no champion. Version {good} is now the first champion."
    )
    assert aliases(fresh)["champion"] == str(good)
    assert challenged(fresh, versions["third"], trained[2].iloc[:20]).startswith(
        f"Version {versions['third'].version} (nb_svm) fails 1 of 6 promotion rules against version {good} (nb_svm): reviews. "
        "Too few reviews: 20 in the test set that it was not trained on, promotion.minimum_reviews is 30."
    )


def test_both_versions_are_scored_again_on_a_new_test_set(fresh, versions, trained):
    fewer = trained[2].iloc[:60]
    verdict = judged(fresh, versions, "good", "worse", fewer)
    assert verdict.reviews == 60
    assert verdict.test_set == held_out(fewer).digest != held_out(trained[2]).digest


def test_hash_of_the_test_set_depends_on_texts_and_labels_but_not_row_numbers(trained):
    raw = trained[2]
    reviews = held_out(raw)
    moved = held_out(raw)
    moved.texts.index = moved.labels.index = moved.labels.index + 7
    assert moved.digest == reviews.digest
    assert held_out(raw.iloc[::-1].reset_index(drop=True)).digest != reviews.digest


def test_unknown_or_incomplete_version_is_refused(fresh, versions):
    with pytest.raises(InputError, match=r"received version '99', but sentiflow has no such version; it has 1, 2, 3, 4"):
        model_versions.version(fresh, "99")
    run = versions["fourth"].run_id
    fresh.delete_tag(run, COMPLETE_TAG)
    with pytest.raises(InputError, match="is incomplete"):
        model_versions.version(fresh, str(versions["fourth"].version))
    fresh.set_tag(run, COMPLETE_TAG, "true")


def test_version_of_another_tool_is_refused(fresh, versions):
    foreign = fresh.create_model_version(MODEL, versions["good"].source, versions["good"].run_id)
    try:
        with pytest.raises(InputError, match=r"no tag sentiflow\.sha256"):
            model_versions.opened(fresh, foreign)
    finally:
        fresh.delete_model_version(MODEL, foreign.version)


def test_serving_loads_no_pickle(fresh, versions):
    crown(fresh, versions["good"])
    code = (
        "import sys; seen = [];"
        "sys.addaudithook(lambda event, details: seen.append(details) if event == 'pickle.find_class' else None);"
        "from sentiflow.serving import predict; from sentiflow.serving import server;"
        "opened = predict.opened(None); server.served(opened);"
        "print(opened.model.predict(['a great film'])['label'][0]); assert not seen, seen;"
        "import pickle; pickle.loads(pickle.dumps(sys.exit)); assert seen"  # the hook would have seen one
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["positive"]
