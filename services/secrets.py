"""The secrets and addresses of a team's services, in `.env`: written once, readable by their owner alone, and checked.

The names begin with SERVICES_, so that no tool which reads `.env` by itself, as Prefect does, takes one for a setting of its own.
"""

import os
import re
import secrets
import stat
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from honcho import environ

from sentiflow.system.errors import InputError

FILE = Path(".env")
EXAMPLE = Path(".env.example")
PASSWORD, KEY = 12, 32  # characters that a password and a key of a server have at least
DISTINCT = 6  # different characters in a secret, at least
ALPHABET = set(string.ascii_letters + string.digits + "-_.~")  # what needs no quoting in a URL, a file of settings or a list
# What stands in examples and in the first tries of whoever guesses.
OBVIOUS = (
    "password", "passwort", "passwd", "changeme", "change-me", "change_me", "secret", "example", "default", "admin", "root",
    "user",
    "postgres", "mlflow", "prefect", "minio", "sentiflow", "services", "qwerty", "letmein", "welcome", "test", "your", "todo",
    "0123456789", "1234567890", "123456789", "12345678", "abcdefgh", "replace",
)  # fmt: skip

SECRETS = {  # and how many characters each has at least
    "SERVICES_MLFLOW_DATABASE_PASSWORD": KEY,
    "SERVICES_PREFECT_DATABASE_PASSWORD": KEY,
    "SERVICES_MLFLOW_ADMIN_PASSWORD": PASSWORD,
    "SERVICES_MLFLOW_SECRET_KEY": KEY,
    "SERVICES_PREFECT_PASSWORD": KEY,
    "SERVICES_ARTIFACTS_KEY_ID": PASSWORD,
    "SERVICES_ARTIFACTS_SECRET": KEY,
    "SERVICES_REMOTE_KEY_ID": PASSWORD,
    "SERVICES_REMOTE_SECRET": KEY,
    "SERVICES_BACKUP_KEY": KEY,
}
PORTS = {
    "SERVICES_MLFLOW_PORT": "5000",
    "SERVICES_PREFECT_PORT": "4200",
    "SERVICES_REMOTE_PORT": "9000",
    "SERVICES_ARTIFACTS_PORT": "9001",
}
ADDRESSES = ("SERVICES_MLFLOW_ADDRESS", "SERVICES_PREFECT_ADDRESS", "SERVICES_REMOTE_ADDRESS")
HOW = "`sentiflow services secrets` writes a file with generated ones"
ADD_BACKUP_KEY = """echo "SERVICES_BACKUP_KEY=$(python3 -c 'import secrets; print(secrets.token_hex(32))')" >> {}"""


@dataclass(frozen=True)
class Secrets:
    """What `.env` holds, checked."""

    values: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.values[f"SERVICES_{name}"]

    def port(self, name: str) -> int:
        """The port of mlflow, prefect, remote or artifacts on this machine."""
        return int(self[f"{name.upper()}_PORT"])

    def local(self, name: str) -> str:
        """Where this machine reaches one of them."""
        return f"http://127.0.0.1:{self.port(name)}"

    def address(self, name: str) -> str:
        """Where people reach mlflow, prefect or remote: as `.env` says, else on this machine alone."""
        return self[f"{name.upper()}_ADDRESS"] or self.local(name)

    def hosts(self, name: str) -> list[str]:
        """The hosts, with their ports, by which one of them may be asked."""
        given = self[f"{name.upper()}_ADDRESS"]
        local = [f"{host}:{self.port(name)}" for host in ("127.0.0.1", "localhost")]
        return [*local, *([urlsplit(given).netloc] if given else [])]

    def origins(self, name: str) -> list[str]:
        """The origins of the pages of one of them."""
        given = self[f"{name.upper()}_ADDRESS"]
        return [*(f"http://{host}:{self.port(name)}" for host in ("127.0.0.1", "localhost")), *([given] if given else [])]


def write(file: Path = FILE, example: Path = EXAMPLE) -> None:
    """Writes the example's file with generated secrets."""
    if file.exists():
        raise InputError(
            f"{file} is there already, and nothing was changed: new secrets would shut out whoever uses those in it; to change "
            "one, edit it and start the services again, and to begin anew move the file away"
        )
    lines = []
    for line in example.read_text(encoding="utf-8").splitlines():
        name = line.partition("=")[0]
        lines.append(f"{name}={generated()}" if name in SECRETS else line)
    try:
        create(file, "\n".join(lines) + "\n")
    except FileExistsError:
        raise InputError(f"{file} was written by another process meanwhile, and was left as it is") from None


def create(file: Path, content: str) -> None:
    """Create a file that only its owner can read: complete, or not at all.

    Raises:
        FileExistsError: if there is one already.
    """
    # a name of its own and no truncation: nobody else's file is written to, and it is private from the first byte on
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as opened:
        opened.write(content)
    try:
        os.link(partial, file)  # unlike a rename it never replaces a file that was created in the meantime
    finally:
        partial.unlink()


def generated() -> str:
    """A new secret of 256 bits."""
    return secrets.token_hex(32)


def read(file: Path = FILE) -> Secrets:
    """What the file holds."""
    if not file.exists():
        raise InputError(f"there is no {file} with the secrets of the services; {HOW}")
    require_private(file)
    given = environ.parse(file.read_text(encoding="utf-8"))
    if [name for name in SECRETS if not given.get(name)] == ["SERVICES_BACKUP_KEY"]:
        raise InputError(f"{file} has no SERVICES_BACKUP_KEY, which signs backups; add one: {ADD_BACKUP_KEY.format(file)}")
    values = {**PORTS, **dict.fromkeys(ADDRESSES, ""), **{name: value for name, value in given.items() if value}}
    wrong = [*_wrong_secrets(values), *_wrong_places(values)]
    known = {*SECRETS, *PORTS, *ADDRESSES}
    wrong += [f"{name} is no variable of the services" for name in given if name.startswith("SERVICES_") and name not in known]
    if wrong:
        told = "\n  ".join(wrong)
        raise InputError(f"{file} cannot be used:\n  {told}\n{EXAMPLE} explains every variable; {HOW}")
    return Secrets({name: values[name] for name in known})


def require_private(file: Path) -> None:
    """Raises InputError if others than the owner can read a file."""
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise InputError(
            f"{file} can be read by others than its owner (its mode is {mode:04o}, expected 0600), so what it holds may be "
            f"known; chmod 600 {file}, and change its secrets if others use this machine"
        )


def _wrong_secrets(values: Mapping[str, str]) -> list[str]:
    wrong = []
    seen: dict[str, str] = {}
    for name, least in SECRETS.items():
        value = values.get(name, "")
        fault = _fault(value, least)
        if fault is None and value in seen:
            fault = f"holds the same as {seen[value]}, expected one of its own"
        seen.setdefault(value, name)
        if fault is not None:
            wrong.append(f"{name} {fault}")
    return wrong


def _fault(value: str, least: int) -> str | None:
    """What is wrong with a secret, without telling it."""
    expected = f"expected at least {least} random characters"
    if not value:
        return f"is missing or empty, {expected}"
    if len(value) < least:
        return f"has {len(value)} characters, {expected}"
    if other := {*value} - ALPHABET:
        return f"holds {len(other)} kinds of characters that cannot stand in a URL, expected letters, digits and -_.~ alone"
    rest = value.lower()
    for word in OBVIOUS:
        rest = rest.replace(word, "")
    if len({*value}) < DISTINCT or len({*rest}) < DISTINCT:
        return f"is one that anybody would try, {expected}"
    return None


def _wrong_places(values: Mapping[str, str]) -> list[str]:
    wrong = []
    for name in PORTS:
        if not (values[name].isdigit() and 1 <= int(values[name]) <= 65535):
            wrong.append(f"{name} is {values[name]!r}, expected a port, such as {PORTS[name]}")
    ports = [values[name] for name in PORTS]
    if len({*ports}) < len(ports):
        wrong.append(f"{', '.join(PORTS)} are {', '.join(ports)}, expected four different ones")
    for name in ADDRESSES:
        if values[name] and not re.fullmatch(r"https?://[\w.-]+(:\d+)?", values[name]):
            wrong.append(
                f"{name} is {values[name]!r}, expected a name with https and nothing after it: https://mlflow.example.org"
            )
    return wrong
