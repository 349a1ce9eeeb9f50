"""Secrets of a team's services: generated, private, and refused if they are easy to guess."""

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
    file = tmp_path / ".env"
    secrets.write(file, PROJECT / ".env.example")
    return file


def changed(file, name, value):
    text = re.sub(rf"^{name}=.*$", f"{name}={value}", file.read_text(), flags=re.MULTILINE)
    file.write_text(text)
    return file


def error(file):
    with pytest.raises(InputError) as refused:
        secrets.read(file)
    return str(refused.value)


def test_new_file_is_private_and_has_different_secrets_each_time(file, tmp_path):
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    other = tmp_path / "other"
    secrets.write(other, PROJECT / ".env.example")
    first, second = secrets.read(file).values, secrets.read(other).values
    assert len({*(first[name] for name in SECRETS), *(second[name] for name in SECRETS)}) == 2 * len(SECRETS)
    assert {name: first[name] for name in PORTS} == PORTS
    assert {*tmp_path.iterdir()} == {file, other}


def test_existing_file_is_never_overwritten(file):
    before = file.read_bytes()
    with pytest.raises(InputError, match="nothing was changed"):
        secrets.write(file, PROJECT / ".env.example")
    assert file.read_bytes() == before


def test_example_has_every_variable_and_no_secret():
    lines = (PROJECT / ".env.example").read_text().splitlines()
    named = {line.partition("=")[0]: line.partition("=")[2] for line in lines if line.startswith("SERVICES_")}
    assert named.keys() == {*SECRETS, *PORTS, *secrets.ADDRESSES}
    assert {named[name] for name in SECRETS} == {""}
    assert {name: named[name] for name in PORTS} == PORTS


def test_missing_file_is_an_error_that_names_the_command(tmp_path):
    assert "sentiflow services secrets" in error(tmp_path / ".env")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_file_that_others_can_access_is_refused(file, mode):
    file.chmod(mode)
    assert f"{mode:04o}, expected 0600" in error(file)


@pytest.mark.parametrize("name", [name for name in SECRETS if name != "SERVICES_BACKUP_KEY"])
def test_missing_secret_is_named(file, name):
    assert f"{name} is missing or empty, expected at least {SECRETS[name]}" in error(changed(file, name, ""))


def test_file_without_a_backup_key_is_an_error_with_the_command_that_adds_one(file):
    kept = [line for line in file.read_text().splitlines() if not line.startswith("SERVICES_BACKUP_KEY")]
    file.write_text("\n".join(kept) + "\n")
    message = error(file)
    assert "\n" not in message
    _, command = message.split("add one: ")
    subprocess.run(command, shell=True, check=True)
    assert len(secrets.read(file)["BACKUP_KEY"]) == 64


@pytest.mark.parametrize("name", SECRETS)
def test_short_secret_is_refused_and_not_printed(file, name):
    short = secrets.generated()[: SECRETS[name] - 1]
    message = error(changed(file, name, short))
    assert f"{name} has {SECRETS[name] - 1} characters, expected at least {SECRETS[name]}" in message
    assert "sentiflow services secrets" in message
    assert short not in message


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
def test_obvious_secret_is_refused_and_not_printed(file, name, obvious):
    message = error(changed(file, name, obvious))
    assert f"{name} is easy to guess" in message
    assert obvious not in message


def test_secret_that_is_used_twice_is_refused(file):
    one, other = "SERVICES_PREFECT_PASSWORD", "SERVICES_REMOTE_SECRET"
    message = error(changed(file, other, secrets.read(file).values[one]))
    assert f"{other} has the same value as {one}" in message


def test_secret_with_special_characters_is_refused_and_not_printed(file):
    odd = f'{secrets.generated()}","{secrets.generated()}@x'
    message = error(changed(file, "SERVICES_REMOTE_SECRET", odd))
    assert "SERVICES_REMOTE_SECRET has" in message
    assert odd not in message


def test_all_errors_are_listed_including_unknown_names(file):
    changed(changed(file, "SERVICES_REMOTE_SECRET", ""), "SERVICES_MLFLOW_PORT", "http")
    file.write_text(file.read_text() + "SERVICES_MLFLOW_PASWORD=x\n")
    message = error(file)
    for part in (
        "SERVICES_REMOTE_SECRET is missing",
        "SERVICES_MLFLOW_PORT is 'http'",
        "SERVICES_MLFLOW_PASWORD is not a variable",
    ):
        assert part in message


def test_two_services_with_the_same_port_are_refused(file):
    assert "expected four different ports" in error(changed(file, "SERVICES_MLFLOW_PORT", PORTS["SERVICES_PREFECT_PORT"]))


@pytest.mark.parametrize("address", ["*", "https://*.example.org", "mlflow.example.org", "https://mlflow.example.org/path"])
def test_address_that_is_not_an_exact_host_is_refused(file, address):
    assert "SERVICES_MLFLOW_ADDRESS is" in error(changed(file, "SERVICES_MLFLOW_ADDRESS", address))


def test_only_exact_hosts_with_their_ports_are_accepted(file):
    read = secrets.read(changed(file, "SERVICES_MLFLOW_ADDRESS", "https://mlflow.example.org"))
    assert read.hosts("mlflow") == ["127.0.0.1:5000", "localhost:5000", "mlflow.example.org"]
    assert read.origins("mlflow") == ["http://127.0.0.1:5000", "http://localhost:5000", "https://mlflow.example.org"]
    assert read.address("mlflow") == "https://mlflow.example.org"
    assert read.address("prefect") == "http://127.0.0.1:4200"


def test_no_variable_is_a_setting_of_another_tool():
    assert all(name.startswith("SERVICES_") for name in (*SECRETS, *PORTS, *secrets.ADDRESSES))
