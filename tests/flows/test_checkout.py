"""Names that distinguish checkouts and projects on one Prefect server."""

import shutil

import pytest
from clones import PROJECT

from flows import artifacts, checkout, deploying
from sentiflow.system.errors import InputError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "one"
    folder.mkdir()
    shutil.copy(PROJECT / "prefect.yaml", folder)
    monkeypatch.chdir(folder)
    return folder


def test_default_name_is_not_added_to_other_names(folder):
    assert checkout.with_name("nightly") == "nightly"
    assert artifacts.key("train@lstm") == "train-lstm"
    assert checkout.event_resource() == "sentiflow.source"


def test_other_name_is_added_to_deployments_artifacts_and_events(folder):
    file = folder / "prefect.yaml"
    file.write_text(file.read_text().replace("\nname: sentiflow\n", "\nname: anna\n"))
    assert checkout.with_name("nightly") == "nightly-anna"
    assert artifacts.key("train@lstm") == "train-lstm-anna"
    assert checkout.event_resource() == "anna.source"


def test_work_pool_is_stable_and_differs_in_a_copy(folder, monkeypatch):
    first = checkout.pool()
    assert checkout.pool() == first
    shutil.copytree(folder, folder.with_name("two"))
    monkeypatch.chdir(folder.with_name("two"))
    assert checkout.pool() != first


@pytest.mark.parametrize("content", ["", "[]", "name: [", "name: Anna", "name: a/b", "name: 7", "deployments: []"])
def test_invalid_name_is_a_one_line_error(folder, content):
    (folder / "prefect.yaml").write_text(content)
    with pytest.raises(InputError, match=r"^prefect\.yaml") as refused:
        checkout.event_resource()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("deployments", ["7", "[7]", "[{name: a}]", "[{name: a, work_pool: {}}]"])
def test_invalid_deployment_is_a_one_line_error(folder, deployments):
    (folder / "prefect.yaml").write_text(f"name: anna\ndeployments: {deployments}\n")
    with pytest.raises(InputError, match=r"^prefect\.yaml has an unexpected structure") as refused:
        deploying._content()
    assert "\n" not in str(refused.value)


def test_deployments_use_the_work_pool_of_the_checkout_and_the_trigger_matches_its_events(folder):
    file = folder / "prefect.yaml"
    file.write_text(file.read_text().replace("\nname: sentiflow\n", "\nname: anna\n"))
    deployments = deploying._content()["deployments"]
    assert {each["work_pool"]["name"] for each in deployments} == {checkout.pool()}
    [trigger] = [trigger for each in deployments for trigger in each.get("triggers", [])]
    assert trigger["match"] == {"prefect.resource.id": "anna.source"}
    assert trigger["name"] == "sentiflow-new-data-anna"
