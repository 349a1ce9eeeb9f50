from sentiflow.pipeline import staleness
from sentiflow.pipeline.workers import Stage


def stage(name, *changed, needs=(), makes=(), is_new=False):
    return Stage(name, tuple(needs), tuple(makes), list(changed), is_new)


DOWNLOAD = stage("download", makes=["data/reviews"])


def test_pipeline_that_is_up_to_date_gives_no_reason():
    assert staleness.of([DOWNLOAD, stage("clean", needs=["download"])]) == []


def test_source_parameters_code_and_results_are_told_apart():
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


def test_what_is_stale_only_since_a_stage_before_it_is_is_no_reason_of_its_own():
    plan = [
        stage("download", {"changed outs": {"data/reviews": "modified"}}, makes=["data/reviews"]),
        stage("clean", {"changed deps": {"data/reviews/reviews.parquet": "modified"}}, makes=["data/clean.parquet"]),
        stage("compare", {"changed deps": {"data": "modified"}}),
    ]
    assert staleness.of(plan) == ["results missing or changed: data/reviews"]


def test_stage_that_never_ran_is_new_and_a_pipeline_of_such_never_ran():
    assert staleness.of([DOWNLOAD, stage("train@gru", is_new=True)]) == ["new stages: train@gru"]
    assert staleness.of([stage("download", is_new=True), stage("clean", is_new=True)]) == ["the pipeline never ran here"]


def test_long_list_is_cut_and_counted():
    names = {f"src/sentiflow/{letter}.py": "modified" for letter in "abcdefg"}
    [told] = staleness.of([stage("clean", {"changed deps": names})])
    assert told.endswith("src/sentiflow/e.py and 2 more")


def test_source_that_a_dvc_file_tracks_is_a_source():
    plan = [stage("download", {"changed deps": {"data/external/reviews.csv.dvc": "modified"}})]
    assert staleness.of(plan) == ["source data changed: data/external/reviews.csv.dvc"]


def test_result_that_the_next_stage_has_not_read_is_a_reason_though_the_stage_that_made_it_is_up_to_date():
    plan = [
        stage("download", makes=["data/reviews"]),
        stage("clean", {"changed deps": {"data/reviews/reviews.parquet": "modified"}}, makes=["data/clean.parquet"]),
        stage("split", {"changed deps": {"data/clean.parquet": "modified"}}),
    ]
    assert staleness.of(plan) == ["results that were not used yet: data/reviews/reviews.parquet"]
