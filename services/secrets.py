"""Secrets and addresses of a team's services: `.env`, written once, readable by its owner only, validated when read.

Every name begins with SERVICES_, so that no tool that reads `.env` by itself, such as Prefect, takes one for its own setting.
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
PASSWORD, KEY = 12, 32  # minimum lengths, in characters
DISTINCT = 6  # minimum number of different characters
ALPHABET = set(string.ascii_letters + string.digits + "-_.~")  # need no quoting in URLs, settings files and lists
# Parts of well-known passwords and placeholders; a secret must have DISTINCT characters apart from these.
OBVIOUS = (
    "password", "passwort", "passwd", "changeme", "change-me", "change_me", "secret", "example", "default", "admin", "root",
    "user", "postgres", "mlflow", "prefect", "minio", "sentiflow", "services", "qwerty", "letmein", "welcome", "test", "your",
    "todo", "0123456789", "1234567890", "123456789", "12345678", "abcdefgh", "replace",
)  # fmt: skip

SECRETS = {  # minimum length of each
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
ADVICE = "`sentiflow services secrets` writes a file with generated ones"
ADD_BACKUP_KEY = """echo "SERVICES_BACKUP_KEY=$(python3 -c 'import secrets; print(secrets.token_hex(32))')" >> {}"""


@dataclass(frozen=True)
class Secrets:
    """Validated content of `.env`. Services are named mlflow, prefect, remote and artifacts."""

    values: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return self.values[f"SERVICES_{name}"]

    def database(self, role: str) -> str:
        """Password of a database role."""
        return self[f"{role.upper()}_DATABASE_PASSWORD"]

    def port(self, name: str) -> int:
        return int(self[f"{name.upper()}_PORT"])

    def local(self, name: str) -> str:
        """URL of a service on this machine."""
        return f"http://127.0.0.1:{self.port(name)}"

    def address(self, name: str) -> str:
        """URL that members use: the public one of `.env`, else the local one. Not for artifacts."""
        return self[f"{name.upper()}_ADDRESS"] or self.local(name)

    def origins(self, name: str) -> list[str]:
        """Origins of a service's pages."""
        local = [f"http://{host}:{self.port(name)}" for host in ("127.0.0.1", "localhost")]
        return [*local, *filter(None, [self[f"{name.upper()}_ADDRESS"]])]

    def hosts(self, name: str) -> list[str]:
        """Values of `Host` that a service accepts."""
        return [urlsplit(origin).netloc for origin in self.origins(name)]


def write(file: Path = FILE, example: Path = EXAMPLE) -> None:
    """Writes `.env`: the example with generated secrets."""
    lines = []
    for line in example.read_text(encoding="utf-8").splitlines():
        name = line.partition("=")[0]
        lines.append(f"{name}={generated()}" if name in SECRETS else line)
    try:
        create(file, "\n".join(lines) + "\n")
    except FileExistsError:
        raise InputError(
            f"{file} exists already, and nothing was changed, since new secrets would lock out everyone who uses the old ones; "
            "to change one, edit it and restart the services; to start over, move the file away"
        ) from None


def create(file: Path, content: str) -> None:
    """Creates a file that only its owner can read, atomically.

    Raises:
        FileExistsError: if it exists already.
    """
    # O_EXCL on a private name: never follows a link or truncates another file, and the mode is 0600 from the first byte
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
    """Reads and validates the file."""
    if not file.exists():
        raise InputError(f"there is no {file} with the secrets of the services; {ADVICE}")
    require_private(file)
    given = environ.parse(file.read_text(encoding="utf-8"))
    if [name for name in SECRETS if not given.get(name)] == ["SERVICES_BACKUP_KEY"]:
        raise InputError(f"{file} has no SERVICES_BACKUP_KEY, which signs backups; add one: {ADD_BACKUP_KEY.format(file)}")
    values = {**PORTS, **dict.fromkeys(ADDRESSES, ""), **{name: value for name, value in given.items() if value}}
    known = {*SECRETS, *PORTS, *ADDRESSES}
    unknown = [
        f"{name} is not a variable of the services" for name in given if name.startswith("SERVICES_") and name not in known
    ]
    if errors := [*_secret_errors(values), *_address_errors(values), *unknown]:
        raise InputError("\n  ".join([f"{file} cannot be used:", *errors]) + f"\n{EXAMPLE} explains every variable; {ADVICE}")
    return Secrets({name: values[name] for name in known})


def require_private(file: Path) -> None:
    """Raises InputError if anyone but the owner can access the file."""
    mode = stat.S_IMODE(file.stat().st_mode)
    if mode & 0o077:
        raise InputError(
            f"{file} can be read by others than its owner (its mode is {mode:04o}, expected 0600), so it may have leaked; "
            f"chmod 600 {file}, and change its secrets if others use this machine"
        )


def _secret_errors(values: Mapping[str, str]) -> list[str]:
    errors = []
    first: dict[str, str] = {}  # name of the first variable with each value
    for name, minimum in SECRETS.items():
        value = values.get(name, "")
        error = _secret_error(value, minimum)
        if error is None and value in first:
            error = f"has the same value as {first[value]}, expected a different one"
        first.setdefault(value, name)
        if error is not None:
            errors.append(f"{name} {error}")
    return errors


def _secret_error(value: str, minimum: int) -> str | None:
    """What is wrong with a secret; never contains the value."""
    expected = f"expected at least {minimum} random characters"
    if not value:
        return f"is missing or empty, {expected}"
    if len(value) < minimum:
        return f"has {len(value)} characters, {expected}"
    if other := {*value} - ALPHABET:
        return f"has {len(other)} different characters that are not allowed in a URL, expected only letters, digits and -_.~"
    rest = value.lower()
    for word in OBVIOUS:
        rest = rest.replace(word, "")
    if len({*value}) < DISTINCT or len({*rest}) < DISTINCT:
        return f"is easy to guess, {expected}"
    return None


def _address_errors(values: Mapping[str, str]) -> list[str]:
    errors = []
    for name, default in PORTS.items():
        if not (values[name].isdigit() and 1 <= int(values[name]) <= 65535):
            errors.append(f"{name} is {values[name]!r}, expected a port, such as {default}")
    ports = [values[name] for name in PORTS]
    if len({*ports}) < len(ports):
        errors.append(f"{', '.join(PORTS)} are {', '.join(ports)}, expected four different ports")
    for name in ADDRESSES:
        if values[name] and not re.fullmatch(r"https?://[\w.-]+(:\d+)?", values[name]):
            errors.append(f"{name} is {values[name]!r}, expected a URL without a path, such as https://mlflow.example.org")
    return errors
