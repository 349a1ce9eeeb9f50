"""Whether a Prefect server answers, and where those that are started here do; their password.

Prefect checks neither Host nor, for WebSockets, Origin. Without a password any web page that is open in a browser on this machine
could read and start everything, by DNS rebinding or over a WebSocket.
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

# The lock is held while the server of this checkout runs. In a copy of the folder nobody holds it.
LOCK, ADDRESS = Path(".prefect/server.lock"), Path(".prefect/address")
STARTING = 180.0  # seconds for a server to make its tables and answer, on a busy machine
PASSWORD = Path(".prefect/password")  # `user:password`, as Prefect's settings and its login page take it


def require() -> None:
    """Asks the server of Prefect's settings, as PREFECT_API_URL sets it; not Prefect's cloud, which has its own messages."""
    from prefect.client.base import ServerType  # here: Prefect takes seconds to load, which the other questions need not wait for
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    with get_client(sync_client=True) as client:
        if client.server_type == ServerType.CLOUD:
            return
        address = str(client.api_url).rstrip("/")
        if client.api_healthcheck() is not None:
            raise no_answer(address)
        require_protected(address)
        try:
            client.api_version()  # for which it asks a password, if it has one
        except PrefectHTTPStatusError as error:
            if error.response.status_code != HTTPStatus.UNAUTHORIZED:
                raise
            raise InputError(
                f"Prefect's server at {address} asks for a password, and got none or a wrong one; put it into "
                "PREFECT_API_AUTH_STRING, as `sentiflow services member` of its services prints it, or as it is in "
                f"{PASSWORD} of the project that started it"
            ) from None


def no_answer(address: str) -> InputError:
    return InputError(
        f"no Prefect server answers at {address}, where PREFECT_API_URL points; start it, correct the address, or "
        "`unset PREFECT_API_URL` so that one is started here"
    )


def password() -> str:
    """The password of the servers that are started here, generated at first use."""
    if not PASSWORD.exists():
        PASSWORD.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):  # another process was first
            secrets.create(PASSWORD, f"admin:{secrets.generated()}\n")
    secrets.require_private(PASSWORD)
    found = PASSWORD.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(r"[!-~]+:[!-~]+", found):  # an empty password would be none
        raise InputError(f"{PASSWORD} must hold one line `user:password` in ASCII; delete it, and the next start generates one")
    return found


def generated() -> str | None:
    """The password in the file; None if there is no file."""
    return password() if PASSWORD.exists() else None


def is_generated(password: str | None) -> bool:
    """Whether it is the one in the file."""
    return password is not None and password == generated()


def require_protected(address: str) -> None:
    """Raises InputError if a Prefect server on this machine asks for no password."""
    if urlsplit(address).hostname in ("127.0.0.1", "localhost") and lets_in(address, None):
        raise InputError(
            f"the Prefect server at {address} asks for no password, so any web page in a browser on this machine could use it; "
            "end it and run this again, or start it with PREFECT_SERVER_API_AUTH_STRING=user:password, and set "
            "PREFECT_API_AUTH_STRING to the same"
        )


def password_of(address: str, *candidates: str | None) -> str | None:
    """The first of the passwords that the Prefect server accepts; None if it accepts none of them."""
    require_protected(address)
    return next((each for each in candidates if each and lets_in(address, each)), None)


def named() -> str:
    """Address of PREFECT_API_URL as addresses are written here; empty if it is not set."""
    return os.environ.get("PREFECT_API_URL", "").rstrip("/").replace("//localhost:", "//127.0.0.1:")


def own_server() -> str | None:
    """Address of the Prefect server that this checkout runs; None if it runs none. Waits for one that is starting."""
    until = time.monotonic() + STARTING
    while not supervise.is_free(LOCK):
        holder, address = _recorded()
        # An address of another holder is of a former server: the port may be used by another checkout now.
        if holder == LOCK.read_text(encoding="utf-8").strip() and answers(address):
            return address
        if time.monotonic() > until:
            raise InputError(f"the Prefect server of this project runs, but does not answer after {STARTING:.0f} s; end it")
        time.sleep(0.5)
    return None


def record_address(address: str) -> None:
    """Keeps the address for the other commands of this checkout. Called by the server's process, before it becomes the server."""
    ADDRESS.write_text(f"{os.getppid()} {address}\n", encoding="utf-8")


def last_port(default: int) -> int:
    """Port of the server that this checkout ran last."""
    return urlsplit(_recorded()[1]).port or default


def _recorded() -> tuple[str, str]:
    """Process id of the lock's holder, and address."""
    if not ADDRESS.exists():
        return "", ""
    holder, _, address = ADDRESS.read_text(encoding="utf-8").strip().partition(" ")
    return holder, address


def answers(address: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        return bool(requests.get(f"{address}/health", timeout=10).json() is True)
    except requests.RequestException:
        return False


def lets_in(address: str, password: str | None) -> bool:
    """Whether it accepts this password, `user:password` or none."""
    auth = None if password is None else (password.partition(":")[0], password.partition(":")[2])
    try:
        return requests.get(f"{address}/admin/version", auth=auth, timeout=10).ok
    except requests.RequestException:
        return False
