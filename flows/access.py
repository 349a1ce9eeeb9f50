"""Access to Prefect servers: addresses, health, and the password of the servers that this checkout starts.

Prefect checks neither Host nor, for WebSockets, Origin. Without a password any web page that is open in a browser on this machine
could read and start everything, through DNS rebinding or a WebSocket.
"""

import contextlib
import os
import re
import time
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import requests

from sentiflow.system.errors import InputError
from services import secrets, supervise

# The lock is held while this checkout's server runs. In a copy of the folder it is free.
LOCK, ADDRESS = Path(".prefect/server.lock"), Path(".prefect/address")
STARTING = 180.0  # seconds for a server to create its tables and answer, on a busy machine
PASSWORD = Path(".prefect/password")  # `user:password`, the form of Prefect's settings and login page


def require() -> None:
    """Requires that the server at PREFECT_API_URL answers and accepts our password. Skips Prefect Cloud."""
    from prefect.client.base import ServerType  # here: importing Prefect takes seconds, which the other functions avoid
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    with get_client(sync_client=True) as client:
        if client.server_type == ServerType.CLOUD:
            return
        address = str(client.api_url).rstrip("/")
        if client.api_healthcheck() is not None:
            raise unreachable(address)
        require_protected(address)
        try:
            client.api_version()  # unlike the health check it needs the password
        except PrefectHTTPStatusError as error:
            if error.response.status_code != HTTPStatus.UNAUTHORIZED:
                raise
            raise InputError(
                f"authentication failed at the Prefect server {address}: missing or wrong password; set "
                "PREFECT_API_AUTH_STRING as `sentiflow services member` printed it, or to the content of "
                f"{PASSWORD} in the project that started the server"
            ) from None


def unreachable(address: str) -> InputError:
    return InputError(
        f"no Prefect server answers at {address}, which PREFECT_API_URL names; start it, correct the address, or "
        "`unset PREFECT_API_URL` to start one here"
    )


def password() -> str:
    """Password of the servers that this checkout starts; generated when first used."""
    if not PASSWORD.exists():
        PASSWORD.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another process was faster
            secrets.create(PASSWORD, f"admin:{secrets.generated()}\n")
    secrets.require_private(PASSWORD)
    found = PASSWORD.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(r"[!-~]+:[!-~]+", found):  # Prefect takes an empty one for none
        raise InputError(f"{PASSWORD} must be one line `user:password` in ASCII; delete it, and the next start generates one")
    return found


def generated() -> str | None:
    """The password in the file; None if there is no file."""
    return password() if PASSWORD.exists() else None


def is_generated(password: str | None) -> bool:
    """Whether it is the password in the file."""
    return password is not None and password == generated()


def require_protected(address: str) -> None:
    """Raises InputError if a Prefect server on this machine accepts requests without a password."""
    if urlsplit(address).hostname in ("127.0.0.1", "localhost") and accepts(address, None):
        raise InputError(
            f"the Prefect server at {address} requires no password, so any web page in a browser on this machine could use it; "
            "stop it and try again, or start it with PREFECT_SERVER_API_AUTH_STRING=user:password and set "
            "PREFECT_API_AUTH_STRING to the same"
        )


def password_of(address: str, *candidates: str | None) -> str | None:
    """The first candidate that the Prefect server accepts; None if it accepts none of them."""
    require_protected(address)
    return next((each for each in candidates if each and accepts(address, each)), None)


def configured_address() -> str:
    """PREFECT_API_URL in normal form; empty if it is not set."""
    return os.environ.get("PREFECT_API_URL", "").rstrip("/").replace("//localhost:", "//127.0.0.1:")


def own_server() -> str | None:
    """Address of the Prefect server that this checkout runs; None if it runs none. Waits for one that is starting."""
    until = time.monotonic() + STARTING
    while not supervise.is_free(LOCK):
        holder, address = _recorded()
        # The address of another holder is outdated: another checkout may use the port now.
        if holder == LOCK.read_text(encoding="utf-8").strip() and answers(address):
            return address
        if time.monotonic() > until:
            raise InputError(f"the Prefect server of this project runs, but does not answer after {STARTING:.0f} s; stop it")
        time.sleep(0.5)
    return None


def record_address(address: str) -> None:
    """Records the address for other commands of this checkout. Called in the process that becomes the server."""
    ADDRESS.write_text(f"{os.getppid()} {address}\n", encoding="utf-8")


def last_port(default: int) -> int:
    """Port of this checkout's last server."""
    return urlsplit(_recorded()[1]).port or default


def _recorded() -> tuple[str, str]:
    """Process id of the lock's holder, and address."""
    if not ADDRESS.exists():
        return "", ""
    holder, _, address = ADDRESS.read_text(encoding="utf-8").strip().partition(" ")
    return holder, address


def answers(address: str) -> bool:
    """Whether a Prefect server runs at this address."""
    try:
        return bool(requests.get(f"{address}/health", timeout=10).json() is True)
    except requests.RequestException:
        return False


def accepts(address: str, password: str | None) -> bool:
    """Whether a Prefect server accepts this password, `user:password` or none."""
    user, _, secret = (password or "").partition(":")
    auth = (user, secret) if password else None
    try:
        return requests.get(f"{address}/admin/version", auth=auth, timeout=10).ok
    except requests.RequestException:
        return False
