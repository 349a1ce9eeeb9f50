from sentiflow.pipeline import staleness
from sentiflow.pipeline.workers import Stage


def stage(name, *changed, needs=(), makes=(), is_new=False):
    return Stage(name, tuple(needs), tuple(makes), list(changed), is_new)


DOWNLOAD = stage("download", makes=["data/reviews"])


def test_pipeline_that_is_up_to_date_gives_no_reason():
    assert staleness.of([DOWNLOAD, stage("clean", needs=["download"])]) == []


def test_source_parameters_code_and_results_are_separate_reasons():
    plan = [
        stage("download", {"changed deps": {"data/external": "modified", "params.yaml": {"download.sample": "modified"}}}),
        stage("clean", {"changed deps": {"src/sentiflow/data/cleaning.py": "modified"}}),
        stage("train@lstm", {"changed outs": {"models/lstm": "deleted"}}, "changed command"),
    ]
    assert staleness.of(plan) == [
        "source data changed: data/external",
        "parameters changed: download.sample",
        "code changed: src/sentiflow/data/cleaning.py, dvc.yaml",
        "results missing or changed: models/lstm",
    ]


def test_stage_that_is_stale_because_of_an_earlier_one_is_not_a_reason():
    plan = [
        stage("download", {"changed outs": {"data/reviews": "modified"}}, makes=["data/reviews"]),
        stage("clean", {"changed deps": {"data/reviews/reviews.parquet": "modified"}}, makes=["data/clean.parquet"]),
        stage("compare", {"changed deps": {"data": "modified"}}),
    ]
    assert staleness.of(plan) == ["results missing or changed: data/reviews"]


def test_new_stages_and_a_new_pipeline_are_reasons():
    assert staleness.of([DOWNLOAD, stage("train@gru", is_new=True)]) == ["new stages: train@gru"]
    assert staleness.of([stage("download", is_new=True), stage("clean", is_new=True)]) == ["the pipeline never ran here"]


def test_long_list_is_shortened():
    names = {f"src/sentiflow/{letter}.py": "modified" for letter in "abcdefg"}
    [reason] = staleness.of([stage("clean", {"changed deps": names})])
    assert reason.endswith("src/sentiflow/e.py and 2 more")


def test_dvc_file_counts_as_source_data():
    plan = [stage("download", {"changed deps": {"data/external/reviews.csv.dvc": "modified"}})]
    assert staleness.of(plan) == ["source data changed: data/external/reviews.csv.dvc"]


def test_result_that_was_not_used_yet_is_a_reason_even_if_its_stage_is_up_to_date():
    plan = [
        stage("download", makes=["data/reviews"]),
        stage("clean", {"changed deps": {"data/reviews/reviews.parquet": "modified"}}, makes=["data/clean.parquet"]),
        stage("split", {"changed deps": {"data/clean.parquet": "modified"}}),
    ]
    assert staleness.of(plan) == ["results that were not used yet: data/reviews/reviews.parquet"]
