"""The secrets of a team's services: generated, private, and refused where somebody could guess them."""

import re
import stat
import subprocess

import pytest
from clones import PROJECT

from sentiflow.system.errors import InputError
from services import secrets
from services.secrets import PORTS, SECRETS


@pytest.fixture
def file(tmp_path):
    """A file as `sentiflow services secrets` writes it."""
    made = tmp_path / ".env"
    secrets.write(made, PROJECT / ".env.example")
    return made


def changed(file, name, value):
    text = re.sub(rf"^{name}=.*$", f"{name}={value}", file.read_text(), flags=re.MULTILINE)
    file.write_text(text)
    return file


def refusal(file):
    with pytest.raises(InputError) as refused:
        secrets.read(file)
    return str(refused.value)


def test_fresh_file_is_its_owners_alone_and_holds_secrets_that_differ_each_time(file, tmp_path):
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    other = tmp_path / "other"
    secrets.write(other, PROJECT / ".env.example")
    first, second = secrets.read(file).values, secrets.read(other).values
    assert len({*(first[name] for name in SECRETS), *(second[name] for name in SECRETS)}) == 2 * len(SECRETS)
    assert {name: first[name] for name in PORTS} == PORTS
    assert {*tmp_path.iterdir()} == {file, other}


def test_file_that_is_there_is_never_written_over(file):
    before = file.read_bytes()
    with pytest.raises(InputError, match="nothing was changed"):
        secrets.write(file, PROJECT / ".env.example")
    assert file.read_bytes() == before


def test_example_explains_every_variable_and_holds_no_secret():
    lines = (PROJECT / ".env.example").read_text().splitlines()
    named = {line.partition("=")[0]: line.partition("=")[2] for line in lines if line.startswith("SERVICES_")}
    assert named.keys() == {*SECRETS, *PORTS, *secrets.ADDRESSES}
    assert {named[name] for name in SECRETS} == {""}
    assert {name: named[name] for name in PORTS} == PORTS


def test_without_a_file_make_secrets_is_named(tmp_path):
    assert "sentiflow services secrets" in refusal(tmp_path / ".env")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_file_that_others_can_open_is_refused(file, mode):
    file.chmod(mode)
    assert f"{mode:04o}, expected 0600" in refusal(file)


@pytest.mark.parametrize("name", [name for name in SECRETS if name != "SERVICES_BACKUP_KEY"])
def test_secret_that_is_missing_is_named(file, name):
    assert f"{name} is missing or empty, expected at least {SECRETS[name]}" in refusal(changed(file, name, ""))


def test_file_from_before_backups_were_signed_names_the_command_that_adds_the_key(file):
    kept = [line for line in file.read_text().splitlines() if not line.startswith("SERVICES_BACKUP_KEY")]
    file.write_text("\n".join(kept) + "\n")
    said = refusal(file)
    assert "\n" not in said
    _, command = said.split("add one: ")
    subprocess.run(command, shell=True, check=True)
    assert len(secrets.read(file)["BACKUP_KEY"]) == 64


@pytest.mark.parametrize("name", SECRETS)
def test_secret_that_is_too_short_is_refused_without_being_told(file, name):
    short = secrets.generated()[: SECRETS[name] - 1]
    said = refusal(changed(file, name, short))
    assert f"{name} has {SECRETS[name] - 1} characters, expected at least {SECRETS[name]}" in said
    assert "sentiflow services secrets" in said
    assert short not in said


@pytest.mark.parametrize(
    "obvious",
    [
        "password1234",
        "changeme-changeme-changeme-changeme-changeme",
        "Admin-Admin-Admin-Admin-Admin-Admin",
        "your-secret-here-your-secret-here-your",
        "mlflow-admin-password",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "12345678901234567890123456789012345678",
        "sentiflow-prefect-postgres-password-1",
    ],
)
@pytest.mark.parametrize("name", ["SERVICES_MLFLOW_ADMIN_PASSWORD", "SERVICES_REMOTE_KEY_ID"])
def test_secret_that_anybody_would_try_is_refused_without_being_told(file, name, obvious):
    said = refusal(changed(file, name, obvious))
    assert f"{name} is easy to guess" in said
    assert obvious not in said


def test_secret_that_stands_twice_is_refused(file):
    one, other = "SERVICES_PREFECT_PASSWORD", "SERVICES_REMOTE_SECRET"
    said = refusal(changed(file, other, secrets.read(file).values[one]))
    assert f"{other} has the same value as {one}" in said


def test_secret_that_would_break_out_of_a_list_or_a_url_is_refused(file):
    odd = f'{secrets.generated()}","{secrets.generated()}@x'
    said = refusal(changed(file, "SERVICES_REMOTE_SECRET", odd))
    assert "SERVICES_REMOTE_SECRET has" in said
    assert odd not in said


def test_every_fault_is_told_at_once_and_so_is_a_misspelt_name(file):
    changed(changed(file, "SERVICES_REMOTE_SECRET", ""), "SERVICES_MLFLOW_PORT", "http")
    file.write_text(file.read_text() + "SERVICES_MLFLOW_PASWORD=x\n")
    said = refusal(file)
    for part in (
        "SERVICES_REMOTE_SECRET is missing",
        "SERVICES_MLFLOW_PORT is 'http'",
        "SERVICES_MLFLOW_PASWORD is not a variable",
    ):
        assert part in said


def test_two_services_cannot_have_one_port(file):
    assert "expected four different ports" in refusal(changed(file, "SERVICES_MLFLOW_PORT", PORTS["SERVICES_PREFECT_PORT"]))


@pytest.mark.parametrize("address", ["*", "https://*.example.org", "mlflow.example.org", "https://mlflow.example.org/path"])
def test_address_that_is_not_one_exact_name_is_refused(file, address):
    assert "SERVICES_MLFLOW_ADDRESS is" in refusal(changed(file, "SERVICES_MLFLOW_ADDRESS", address))


def test_only_exact_names_with_their_ports_are_let_in(file):
    read = secrets.read(changed(file, "SERVICES_MLFLOW_ADDRESS", "https://mlflow.example.org"))
    assert read.hosts("mlflow") == ["127.0.0.1:5000", "localhost:5000", "mlflow.example.org"]
    assert read.origins("mlflow") == ["http://127.0.0.1:5000", "http://localhost:5000", "https://mlflow.example.org"]
    assert read.address("mlflow") == "https://mlflow.example.org"
    assert read.address("prefect") == "http://127.0.0.1:4200"


def test_no_name_in_the_file_is_one_that_a_tool_takes_for_its_own():
    assert all(name.startswith("SERVICES_") for name in (*SECRETS, *PORTS, *secrets.ADDRESSES))
