"""`sentiflow services up` as a team uses it: probed by strangers, used by members, killed, backed up, lost and brought back.

The tests build on each other, in their order, since the services take a while to start.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import foreign_pages
import processes
import psutil
import psycopg
import pytest
import requests
import teams
from botocore.exceptions import ClientError
from clones import PROJECT, fresh
from member_actions import ACTIONS, Account, Publication, is_refused
from mlflow import MlflowClient
from probes import ALL_SOCKETS, EVIL, MLFLOW, PREFECT, ask, storage, told_by_prefect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from services import backup
from services.postgresql import Cluster
from services.secrets import SECRETS, generated

pytestmark = pytest.mark.slow

REFUSED = (401, 403)
VERDICT = re.compile(r"/verdicts/|/predictions/test-")  # of another account's run
# The smallest retraining; two people try different numbers of words.
SMALL = {
    "download.source": "package",
    "download.sample": 240,
    "split.test": 0.4,
    "run": {"logistic": "logistic"},
    "evaluate.resamples": 200,
    "explain.reviews": 20,
    "promotion.calibration_error": 1.0,
    "promotion.latency_ms": 5000.0,  # the machine may be busy
    "promotion.latency_reviews": 20,
    "models.logistic.ngrams": 1,
}


@pytest.fixture(scope="module")
def team():
    """Services that run; the tests that end them start them again."""
    with pytest.MonkeyPatch.context() as patch, teams.team() as made:
        for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
            patch.setenv(name, "")  # `admin` sets them
        made.start()
        yield made


@pytest.fixture(scope="module")
def anna(team):
    return team.member("anna")


@pytest.fixture(scope="module")
def bert(team):
    return team.member("bert")


def as_member(team, who, *words, folder=None):
    """What the project's own code prints that a member runs."""
    own = {"PYTHONPATH": f"{team.folder / 'src'}:{PROJECT / 'tests'}"}
    command = [sys.executable, str(PROJECT / "tests/member.py"), *words]
    ended = subprocess.run(command, cwd=folder or team.folder, env=team.environment(**who, **own), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.splitlines()[-1]


def rows(team, role):
    with contextlib.closing(Cluster(team.services).connect(role, team.secrets[f"{role.upper()}_DATABASE_PASSWORD"])) as found:
        return backup.count_rows(found)


def everything(team):
    """All that MLflow knows of runs and versions, and the hash of every stored file."""
    client = admin(team)
    runs = client.search_runs([client.get_experiment_by_name("sentiflow").experiment_id])
    versions = [*client.search_model_versions("name='sentiflow'"), *client.search_model_versions("name='sentiflow-champions'")]
    files = [*(team.services / "artifacts").rglob("*"), *(team.services / "remote").rglob("*")]
    return {
        "runs": {run.info.run_id: in_order(run.to_dictionary()) for run in runs},
        "versions": {(version.name, version.version): dict(version) for version in versions},
        "files": {
            str(file.relative_to(team.services)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
            if file.is_file()
        },
    }


def in_order(value):
    """The same with every list sorted: in which order a database hands out datasets follows from how its rows lie."""
    if isinstance(value, dict):
        return {key: in_order(each) for key, each in value.items()}
    if isinstance(value, list):
        return sorted(map(in_order, value), key=str)
    return value


def admin(team):
    """A client of MLflow's admin, who has the password that `.env` has now."""
    os.environ |= {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": team.secrets["MLFLOW_ADMIN_PASSWORD"]}
    return MlflowClient(team.secrets.local("mlflow"), team.secrets.local("mlflow"))


# --- strangers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probe", MLFLOW)
def test_nobody_reads_or_writes_mlflow_without_its_password(team, probe):
    address = team.secrets.local("mlflow")
    assert ask(address, MLFLOW[probe]).status_code in REFUSED
    assert ask(address, MLFLOW[probe], generated()).status_code in REFUSED
    if MLFLOW[probe][0] == "GET" or "search" in MLFLOW[probe][1] or "graphql" in MLFLOW[probe][1]:
        assert ask(address, MLFLOW[probe], team.secrets["MLFLOW_ADMIN_PASSWORD"]).ok


@pytest.mark.parametrize("probe", PREFECT)
def test_nobody_reads_or_writes_prefect_without_its_password(team, probe):
    address = team.secrets.local("prefect")
    assert ask(address, PREFECT[probe]).status_code in REFUSED  # what changes something lacks a token too
    assert ask(address, PREFECT[probe], generated()).status_code in REFUSED


def test_a_page_that_borrows_the_password_of_prefect_still_lacks_the_token(team):
    address, password = team.secrets.local("prefect"), team.secrets["PREFECT_PASSWORD"]
    assert ask(address, PREFECT["read settings"], password).ok
    assert ask(address, PREFECT["create a flow"], password).status_code == 403
    assert "CSRF" in ask(address, PREFECT["create a flow"], password).text.upper()


@pytest.mark.parametrize("path", ALL_SOCKETS)
def test_nobody_listens_to_prefect_without_its_password(team, path):
    address = f"ws://127.0.0.1:{team.secrets.port('prefect')}{path}"
    for protocols in (None, ["prefect"]):
        for token in (None, generated(), f"admin:{generated()}"):
            with pytest.raises((ConnectionClosed, InvalidHandshake)):
                told_by_prefect(address, protocols, token)
    assert told_by_prefect(address, ["prefect"], f"admin:{team.secrets['PREFECT_PASSWORD']}") == "auth_success"


@pytest.mark.parametrize("host", ["evil.example", "10.evil.com", "192.168.evil.com", "localhost", "127.0.0.1:1"])
def test_mlflow_answers_under_its_exact_names_alone(team, host):
    address, password = team.secrets.local("mlflow"), team.secrets["MLFLOW_ADMIN_PASSWORD"]
    answer = ask(address, MLFLOW["read experiments"], password, Host=host)
    assert (answer.status_code, "Invalid Host" in answer.text) == (403, True)
    assert ask(address, MLFLOW["read experiments"], password, Host=f"localhost:{team.secrets.port('mlflow')}").ok


def test_pages_of_other_origins_get_nothing(team):
    mlflow, password = team.secrets.local("mlflow"), team.secrets["MLFLOW_ADMIN_PASSWORD"]
    answer = ask(mlflow, MLFLOW["create a model"], password, Origin=EVIL)
    assert (answer.status_code, "Cross-origin" in answer.text) == (403, True)
    page = ask(mlflow, MLFLOW["open the page"], password)
    assert (page.status_code, page.headers["X-Frame-Options"]) == (200, "DENY")
    prefect = team.secrets.local("prefect")
    for origin, allowed in ((EVIL, None), (prefect, prefect)):
        answer = ask(prefect, PREFECT["read settings"], team.secrets["PREFECT_PASSWORD"], Origin=origin)
        assert answer.headers.get("Access-Control-Allow-Origin") == allowed
    assert ask(prefect, PREFECT["read settings"], Host="evil.example").status_code == 401


@pytest.mark.parametrize("kind", foreign_pages.KINDS)
def test_foreign_page_gets_nothing_from_a_browser_that_has_the_password_of_mlflow(team, browser, kind):
    mlflow = team.secrets.local("mlflow")
    password = {"username": "admin", "password": team.secrets["MLFLOW_ADMIN_PASSWORD"], "origin": mlflow}
    context = browser.new_context(http_credentials=password)
    own = context.new_page()
    own.goto(mlflow)
    assert "sentiflow" in foreign_pages.Page(own, mlflow).fetch(*foreign_pages.SEARCH)["text"]
    context.close()
    with foreign_pages.opened(browser, kind, mlflow, http_credentials=password) as page:
        assert "sentiflow" not in page.fetch(*foreign_pages.SEARCH)["text"]
        assert page.fetch(*foreign_pages.CREATE)["status"] == (403 if kind == "rebinding" else 0)
        page.send(*foreign_pages.CREATE)
    assert admin(team).get_experiment_by_name("planted") is None


@pytest.mark.parametrize("kind", foreign_pages.KINDS)
def test_foreign_page_neither_reads_prefect_nor_opens_a_socket(team, browser, kind):
    with foreign_pages.opened(browser, kind, team.secrets.local("prefect")) as page:
        assert page.fetch("POST", "/api/deployments/filter", {})["status"] == (403 if kind == "rebinding" else 0)
        assert page.fetch("GET", "/api/csrf-token?client=x")["status"] == (401 if kind == "rebinding" else 0)
        assert [page.socket(path) for path in ALL_SOCKETS] == [{"open": False, "received": []}] * len(ALL_SOCKETS)


@pytest.mark.parametrize(("service", "bucket"), [("artifacts", "mlflow"), ("remote", "dvc")])
def test_nobody_reads_or_writes_a_storage_without_its_keys(team, service, bucket):
    address, key = team.secrets.local(service), team.secrets[f"{service.upper()}_KEY_ID"]
    for method, path in (("GET", "?list-type=2"), ("GET", "/x"), ("PUT", "/planted"), ("DELETE", "/x")):
        path = f"/{bucket}{path}"
        assert 400 <= requests.request(method, address + path, data=b"planted", timeout=120).status_code < 404
    other = "remote" if service == "artifacts" else "artifacts"
    foreign = (team.secrets[f"{other.upper()}_KEY_ID"], team.secrets[f"{other.upper()}_SECRET"])
    for stranger in ((key, generated()), (generated(), generated()), foreign):
        with pytest.raises(ClientError) as refused:
            storage(address, *stranger).put_object(Bucket=bucket, Key="planted", Body=b"planted")
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert not (team.services / service / bucket / "planted").exists()
    storage(address, key, team.secrets[f"{service.upper()}_SECRET"]).list_objects_v2(Bucket=bucket)


def test_postgresql_lets_in_its_two_roles_alone_each_to_its_own_database(team):
    cluster = Cluster(team.services)
    where = {"host": str(cluster.socket), "connect_timeout": 30, "passfile": "/nonexistent"}
    right = {role: team.secrets[f"{role.upper()}_DATABASE_PASSWORD"] for role in ("mlflow", "prefect")}
    wrong = [("mlflow", "mlflow", None), ("mlflow", "mlflow", generated()), ("mlflow", "prefect", right["mlflow"])]
    wrong += [("prefect", "postgres", right["prefect"]), ("owner", "postgres", None), ("owner", "mlflow", right["mlflow"])]
    for user, database, password in wrong:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(user=user, dbname=database, password=password, **where)
    for role, password in right.items():
        with contextlib.closing(cluster.connect(role, password)) as connection:
            rights = "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = current_user"
            assert connection.execute(rights).fetchone() == (False, False, False, False)
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_everything_listens_on_this_machine_alone(team):
    listening = processes.listening(team.processes())
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {team.secrets.port(name) for name in ("mlflow", "prefect", "remote", "artifacts")} == {each.port for each in listening}


def test_no_secret_is_in_a_command_line_a_log_or_git(team, anna):
    known = [team.secrets.values[name] for name in SECRETS] + [anna["MLFLOW_TRACKING_PASSWORD"]]
    lines = "\n".join(" ".join(processes.command(process)) for process in psutil.process_iter())
    assert str(team.services / "remote") in lines  # so the list is one of these processes as well
    subprocess.run(["git", "add", "--all"], cwd=team.folder, check=True)  # as somebody in a hurry does
    tracked = subprocess.run(["git", "ls-files"], cwd=team.folder, capture_output=True, text=True).stdout.splitlines()
    assert ".env.example" in tracked
    assert not [name for name in tracked if name == ".env" or name.startswith(".services/")]
    for secret in known:
        assert secret not in lines
        assert secret not in team.said()
        assert subprocess.run(["git", "grep", "--cached", "-q", secret], cwd=team.folder).returncode == 1
    files = [file for file in team.services.rglob("*") if file.is_file()]
    holding = [file for file in files if any(secret.encode() in file.read_bytes() for secret in known)]
    assert {file.name: file.stat().st_mode & 0o777 for file in holding} == {"mlflow.ini": 0o600}
    assert {path.stat().st_mode & 0o077 for path in team.services.iterdir() if not path.is_socket()} == {0}


# --- members ------------------------------------------------------------------------------------------------------------


def test_status_finds_all_well(team):
    said = team.run("services", "status")
    assert "FAILED" not in said
    assert said.count("refuses") >= 13


def test_member_publishes_and_another_one_reads_and_promotes_it(team, anna, bert):
    number = as_member(team, anna, "publish", "a")
    assert as_member(team, anna, "publish", "a") == number
    assert json.loads(as_member(team, bert, "answers", number))["label"]
    said = team.run("models", "promote", number, "--force", "--reason", "two of us looked at it", **bert)
    assert f"Champion: version {number}" in said
    assert "two of us looked at it" in team.run("models", "history", **anna)


@pytest.fixture(scope="module")
def accounts(team, anna, bert):
    """Two members and an account without the role of members."""
    address, password = team.secrets.local("mlflow"), generated()
    visitor = {"username": "visitor", "password": password}
    assert ask(address, ("POST", "/api/2.0/mlflow/users/create", visitor), team.secrets["MLFLOW_ADMIN_PASSWORD"]).ok
    known = {"anna": anna["MLFLOW_TRACKING_PASSWORD"], "bert": bert["MLFLOW_TRACKING_PASSWORD"], "visitor": password}
    return {name: Account(address, name, secret) for name, secret in known.items()}


@pytest.fixture
def published(team, accounts):
    """A publication of bert's, whose state a test may not change."""
    experiment = admin(team).get_experiment_by_name("sentiflow").experiment_id
    made = Publication(accounts["bert"], experiment)
    assert made.answers[-1].ok, made.answers[-1].text
    before = stored(team, made)
    yield made
    assert stored(team, made) == before
    for each in made.remove(Account(accounts["bert"].address, "admin", team.secrets["MLFLOW_ADMIN_PASSWORD"])):
        assert each.ok


def stored(team, publication):
    """What MLflow knows of a publication that only its own account may change; and the content of the artifact store."""
    client = admin(team)
    version = client.get_model_version("sentiflow", publication.version)
    folder = team.services / "artifacts/mlflow"
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    ids = {publication.run, publication.model}
    return (
        in_order(client.get_run(publication.run).to_dictionary()),
        (version.source, version.run_id, version.current_stage),
        client.get_logged_model(publication.model).to_dictionary(),
        {name: content for name, content in files.items() if ids & {*Path(name).parts} and not VERDICT.search(name)},
        [name for name in files if "planted" in name],
        sorted(experiment.name for experiment in client.search_experiments()),
        sorted(model.name for model in client.search_registered_models()),
    )


def rows_of_the_table():
    """The lines of the table in docs/services.md of who may do what."""
    lines = (PROJECT / "docs/services.md").read_text(encoding="utf-8").splitlines()
    start = lines.index("| action | member | account without the role |")
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table]


def test_table_of_who_may_do_what_names_every_action():
    assert [action for action, _, _ in rows_of_the_table()] == [*ACTIONS]


@pytest.mark.parametrize(("action", "member", "other"), rows_of_the_table())
def test_table_of_who_may_do_what_is_true(accounts, published, action, member, other):
    for who, allowed in ((accounts["anna"], member), (accounts["visitor"], other)):
        for answer in ACTIONS[action](who, published):
            said = f"{who.name}: {answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
            assert answer.ok if allowed == "yes" else is_refused(answer), said


def test_account_without_a_grant_sees_nothing(team):
    address, password = team.secrets.local("mlflow"), team.secrets["MLFLOW_ADMIN_PASSWORD"]
    stranger = {"username": "stranger", "password": generated()}
    assert ask(address, ("POST", "/api/2.0/mlflow/users/create", stranger), password).ok
    auth = (stranger["username"], stranger["password"])
    found = requests.get(f"{address}/api/2.0/mlflow/experiments/search?max_results=99", auth=auth, timeout=120)
    assert (found.status_code, found.json().get("experiments", [])) == (200, [])
    found = requests.get(f"{address}/api/2.0/mlflow/model-versions/search", auth=auth, timeout=120)
    assert found.json().get("model_versions", []) == []
    for probe in ("list artifacts", "create a run"):
        method, path, content = MLFLOW[probe]
        assert requests.request(method, address + path, json=content, auth=auth, timeout=120).status_code == 403


def test_account_is_made_once_gets_another_password_and_is_removed(team):
    first = team.member("carl")
    assert "account carl already" in team.refused("services", "member", "carl")
    second = team.member("carl", "--reset")

    def may(who):
        auth = (who["MLFLOW_TRACKING_USERNAME"], who["MLFLOW_TRACKING_PASSWORD"])
        path = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=sentiflow"
        return requests.get(who["MLFLOW_TRACKING_URI"] + path, auth=auth, timeout=120).status_code

    assert (may(first), may(second)) == (401, 200)
    team.run("services", "member", "carl", "--remove")
    assert may(second) == 401
    for name in ("", "admin", "Carl", "../x", "a b"):
        assert "expected 2 to 40 lower-case letters" in team.refused("services", "member", "--", name)


def test_schedule_on_a_server_with_a_password_says_where_to_put_it(team, anna):
    ended = team.call("schedule", PREFECT_API_URL=anna["PREFECT_API_URL"])
    assert ended.returncode == 1
    assert "missing or wrong password; set PREFECT_API_AUTH_STRING" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("command", "server", "variable"),
    [
        ("models history", "MLflow's server at http://127.0.0.1:", "MLFLOW_TRACKING_PASSWORD"),
        ("repro", "MLflow's server at http://127.0.0.1:", "MLFLOW_TRACKING_PASSWORD"),
        ("retrain", "Prefect server http://127.0.0.1:", "PREFECT_API_AUTH_STRING"),
    ],
)
def test_wrong_password_is_answered_by_which_server_it_was_and_where_the_right_one_goes(team, anna, command, server, variable):
    said = team.refused(*command.split(), **anna | {variable: "admin:wrong"})
    assert server in said
    assert "missing or wrong password" in said
    assert variable in said


# --- two at once --------------------------------------------------------------------------------------------------------


def test_two_people_retrain_at_the_same_time_and_nothing_is_lost(team, anna, bert):
    before = {version.version for version in admin(team).search_model_versions("name='sentiflow'")}
    people = {}
    for words, (name, who) in zip((20, 40), {"anna": anna, "bert": bert}.items(), strict=True):
        folder = team.folder.parent / name
        folder.mkdir()
        fresh(folder, SMALL | {"models.logistic.minimum_documents": words})
        people[folder] = team.environment(**who, PYTHONPATH=str(folder / "src"), DVC_SITE_CACHE_DIR=str(folder / ".site"))
        remote = team.command(  # as `sentiflow services member` says
            "remote", "set", "s3://dvc/sentiflow", "--endpoint", team.secrets.address("remote")
        )
        subprocess.run(remote, cwd=folder, env=people[folder], check=True)
    command = team.command("retrain")
    began = [
        subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for folder, env in people.items()
    ]
    for each in began:
        said, _ = each.communicate()
        assert each.returncode == 0, said
    client = admin(team)
    made = [version for version in client.search_model_versions("name='sentiflow'") if version.version not in before]
    assert len({version.tags["sentiflow.key"] for version in made}) == len(made) == 2
    for version in made:
        assert "sentiflow.complete" in client.get_run(version.run_id).data.tags
        assert json.loads(as_member(team, bert, "answers", version.version))["label"]
    champion = client.get_model_version_by_alias("sentiflow", "champion")
    entries = sorted(client.search_model_versions("name='sentiflow-champions'"), key=lambda entry: int(entry.version))
    counted = [""]
    for entry in entries:  # of two that replace the same one the first counts; who made the other judged again
        if entry.tags.get("replaced", "") == counted[-1]:
            counted.append(entry.tags["version"])
    assert counted[-1] == champion.version
    assert team.run("models", "history", **anna) == team.run("models", "history", **bert)
    for folder, env in people.items():
        asked = [sys.executable, "-m", "dvc", "status", "--cloud"]
        assert "in sync" in subprocess.run(asked, cwd=folder, env=env, capture_output=True, text=True).stdout
    objects = [file for file in (team.services / "remote/dvc/sentiflow/files/md5").rglob("*") if file.is_file()]
    assert len(objects) > 20
    for file in objects:
        assert hashlib.md5(file.read_bytes()).hexdigest() == file.parent.name + file.name.removesuffix(".dir")


# --- killed, backed up, lost --------------------------------------------------------------------------------------------


def test_kill_of_the_supervisor_leaves_nothing_running_and_nothing_is_lost(team):
    before = everything(team)
    team.supervisor().kill()
    team.wait_until_all_ended()
    assert "artifacts, mlflow, postgresql, prefect, remote failed" in team.refused("services", "status")
    team.start()
    assert everything(team) == before


def test_kill_of_postgresql_ends_all_and_the_next_start_recovers(team):
    before = everything(team)
    team.postmaster().kill()
    team.wait_until_all_ended()
    note = team.services / "postgresql/postmaster.pid"
    assert note.exists()
    sleeper = subprocess.Popen(["sleep", "600"])  # the number was given to another process
    try:
        note.write_text("\n".join([str(sleeper.pid), *note.read_text().splitlines()[1:]]) + "\n")
        team.start()
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
    assert everything(team) == before


def test_kill_of_a_wrapper_stops_all_and_shuts_postgresql_down(team):
    team.wrapper("postgresql").kill()
    team.wait_until_all_ended()
    assert "database system is shut down" in team.said()
    team.start()
    assert "not properly shut down" not in team.said()


def test_second_start_is_refused(team):
    assert "run already" in team.refused("services", "up")


def test_backup_while_they_write_and_all_is_as_before_on_an_empty_machine(team, anna, bert):
    backups = team.folder.parent / "backups"
    writing = subprocess.Popen(
        [sys.executable, str(PROJECT / "tests/member.py"), "publish", "b"],
        cwd=team.folder,
        env=team.environment(**anna, PYTHONPATH=f"{team.folder / 'src'}:{PROJECT / 'tests'}"),
        stdout=subprocess.DEVNULL,
    )
    count = 0
    while writing.poll() is None:
        count += 1
        team.run("services", "backup", f"{backups / str(count)}")
    assert writing.returncode == 0
    assert count > 1
    team.run("services", "backup", f"{backups / 'last'}")
    assert "exists already" in team.refused("services", "backup", f"{backups / 'last'}")
    before, counted = everything(team), rows(team, "mlflow")
    number = str(max(int(version) for name, version in before["versions"] if name == "sentiflow"))
    answers = as_member(team, bert, "answers", number)

    wrong = backups / "wrong"  # the files first, then a publication, then the databases
    wrong.mkdir()
    backup.copy(team.services, wrong)
    as_member(team, anna, "publish", "c")
    backup.seal(wrong, backup.dump(Cluster(team.services), team.secrets, wrong), team.secrets)

    assert "expected nothing" in team.refused("services", "restore", f"{backups / 'last'}")
    team.end()
    shutil.rmtree(team.services)
    assert "artifacts that are not in it" in team.refused("services", "restore", f"{wrong}")
    assert not team.services.exists()

    key = team.secrets["BACKUP_KEY"]
    (team.folder / ".env").rename(team.folder.parent / "lost.env")  # on another machine there are other secrets
    team.make_secrets()
    assert "is not signed with the SERVICES_BACKUP_KEY" in team.refused("services", "restore", f"{backups / 'last'}")
    file = team.folder / ".env"
    file.write_text(file.read_text().replace(team.secrets["BACKUP_KEY"], key))
    for name in (str(count // 2), "last"):  # one from the middle of the publication is whole as well
        began = time.monotonic()
        said = team.run("services", "restore", f"{backups / name}")
        print(f"restored in {time.monotonic() - began:.0f} s: {said}")
        assert "refused every other request" in said
        if name != "last":
            shutil.rmtree(team.services)
    team.start()
    assert everything(team) == before
    assert rows(team, "mlflow") == counted
    again = {name: value for name, value in bert.items() if name.startswith("MLFLOW_")}
    again["MLFLOW_TRACKING_URI"] = team.secrets.address("mlflow")
    assert as_member(team, again, "answers", number) == answers  # accounts and their passwords came back too


def test_signal_ends_all_in_order_and_postgresql_writes_down_what_it_has(team):
    team.end(signal.SIGTERM)
    assert "database system is shut down" in team.said()
    team.start()
    assert "not properly shut down" not in team.said()
    team.end()


# --- what does not start ------------------------------------------------------------------------------------------------


@pytest.fixture
def bare():
    """A clone that has neither secrets nor services."""
    with teams.team() as made:
        yield made


def test_services_do_not_start_with_secrets_that_are_missing_short_or_known(bare):
    file = bare.folder / ".env"
    good = file.read_text()
    name = "SERVICES_MLFLOW_ADMIN_PASSWORD"
    value = bare.secrets["MLFLOW_ADMIN_PASSWORD"]
    for text, said in (
        (good.replace(value, ""), f"{name} is missing or empty"),
        (good.replace(value, "x1y2z3"), f"{name} has 6 characters, expected at least 12"),
        (good.replace(value, "password1234"), f"{name} is easy to guess"),
    ):
        file.write_text(text)
        refusal = bare.refused("services", "up")
        assert said in refusal
        assert "sentiflow services secrets" in refusal
    file.write_text(good)
    assert "is 'true'" in bare.refused("services", "up", MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE="true")
    file.chmod(0o644)
    assert "expected 0600" in bare.refused("services", "up")
    file.unlink()
    assert "there is no .env" in bare.refused("services", "up")
    shutil.copyfile(bare.folder / ".env.example", file)
    file.chmod(0o600)
    assert bare.refused("services", "up").count("is missing or empty") == len(SECRETS)
    assert not bare.services.exists()
    assert bare.processes() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another user")
def test_path_that_postgresqls_user_cannot_reach_is_named(bare):
    bare.folder.chmod(0o700)
    assert f"who cannot reach {bare.services}" in bare.refused("services", "up")


def test_port_that_something_else_uses_is_named(bare):
    with contextlib.closing(socket.socket()) as other:
        other.bind(("127.0.0.1", bare.secrets.port("mlflow")))
        other.listen()
        assert "SERVICES_MLFLOW_PORT" in bare.refused("services", "up")
