"""A disk that is full while a real stage runs, and a database that stops while one publishes: said clearly, and it goes on."""

import faults
import full_disks
import pytest
import stopped_databases

pytestmark = pytest.mark.slow

SMALL = {
    "run": {"nb_svm": "nb_svm"},
    "explain.reviews": 2,
    "evaluate.resamples": 100,
    "retrain.side_by_side": 1,  # or stages that run at the same time would meet the full disk too
}
STAGES = ["clean", "evaluate@nb_svm", "register"]  # one that reads, one of many files, one that writes to MLflow
ROOM = 16_384  # bytes in addition to a stage's outputs: it ends well, and DVC then has no room for its own copy


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project on a small disk of its own, where everything ran; and a copy elsewhere."""
    top = tmp_path_factory.mktemp("disk")
    try:
        with full_disks.mounted(top / "small") as disk:
            project = faults.Project.made(disk / "project", faults.POOR | SMALL)
            status, output = full_disks.repro(project)
            assert status == 0, output
            faults.commit(project.folder)
            project.keep(top / "kept")
            yield project, top / "kept"
    except full_disks.CannotMountError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("room", [0, ROOM])
def test_a_full_disk_is_said_keeps_what_was_there_and_the_run_goes_on_to_the_same_results(finished, room):
    project, kept = finished
    project.back_to(kept)
    lock, contents = project.lock_text, project.contents()
    for step in full_disks.walk(project, contents, STAGES, room):
        assert step.was_filled
        assert not step.traceback, step
        assert step.half == []
        assert step.lock == "right"
        if room == 0:
            assert step.kept, step
            assert step.status == 1
        if step.status:
            assert "the disk is full" in "".join(step.said)
    status, output = full_disks.repro(project)
    assert status == 0, output
    assert project.lock_text == lock
    assert project.contents() == contents
    assert project.flaws_of_store() == []


def test_a_database_that_stops_while_a_stage_writes_to_it_is_said_and_nothing_is_there_twice_afterwards(tmp_path):
    with stopped_databases.database(tmp_path) as database:
        project = stopped_databases.Project.made(tmp_path / "project", faults.POOR | SMALL)
        project.database = database
        status, output = full_disks.repro(project, stopped_databases.BEFORE)
        assert status == 0, output
        for stage, query in stopped_databases.MOMENTS.items():
            status, output = stopped_databases.repro_while_stopped(project, stage, query)
            database.start()
            assert status == 1
            assert "Traceback" not in output
            assert "MLflow's store at" in output
            assert "when it is up again, run the same command again" in output
            assert f"error: stage '{stage}' failed" in output
        status, output = full_disks.repro(project)
        assert status == 0, output
        assert project.flaws_of_store() == []
