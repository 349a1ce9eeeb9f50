"""Whether a Prefect server answers, and the password of those that are started here.

Prefect checks neither Host nor, for WebSockets, Origin. Without a password any web page that is open in a browser on this machine
could read and start everything, by DNS rebinding or over a WebSocket.
"""

import contextlib
import re
from http import HTTPStatus
from pathlib import Path

import requests

from sentiflow.errors import InputError
from services import secrets

PASSWORD = Path(".prefect/password")  # `user:password`, as Prefect's settings and its login page take it


def require() -> None:
    """Asks the server of Prefect's settings, as PREFECT_API_URL sets it; not Prefect's cloud, which has its own messages.

    Raises:
        InputError: if it does not answer, or asks for another password.
    """
    from prefect.client.base import ServerType  # here: Prefect takes seconds to load, which the other questions need not wait for
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError

    with get_client(sync_client=True) as client:
        if client.server_type == ServerType.CLOUD:
            return
        address = str(client.api_url).rstrip("/")
        if client.api_healthcheck() is not None:
            raise no_answer(address)
        try:
            client.api_version()  # for which it asks a password, if it has one
        except PrefectHTTPStatusError as error:
            if error.response.status_code != HTTPStatus.UNAUTHORIZED:
                raise
            raise InputError(
                f"Prefect's server at {address} asks for a password, and got none or a wrong one; put it into "
                f"PREFECT_API_AUTH_STRING, as `make member` of its services prints it, or as it is in {PASSWORD} of the project "
                "that started it"
            ) from None


def no_answer(address: str) -> InputError:
    return InputError(
        f"no Prefect server answers at {address}, where PREFECT_API_URL points; start it, correct the address, or "
        "`unset PREFECT_API_URL` so that one is started here"
    )


def password() -> str:
    """The password of the servers that are started here, generated at first use.

    Raises:
        InputError: if others can read the file, or it holds something else.
    """
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


def password_of(address: str, *candidates: str | None) -> str | None:
    """The first of the passwords that a Prefect server accepts; None if none is right, or no server answers.

    Raises:
        InputError: if it asks for none.
    """
    if not answers(address):
        return None
    if lets_in(address, None):
        raise InputError(
            f"the Prefect server at {address} asks for no password, so any web page in a browser on this machine could use it; "
            "end it and run this again, or start it with PREFECT_SERVER_API_AUTH_STRING=user:password, and set "
            "PREFECT_API_AUTH_STRING to the same"
        )
    return next((each for each in candidates if each and lets_in(address, each)), None)


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
