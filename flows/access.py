"""Whether a Prefect server answers, and lets this user in."""

from http import HTTPStatus

import requests

from sentiflow.errors import InputError


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
                "PREFECT_API_AUTH_STRING, as `make member` of its services prints it"
            ) from None


def no_answer(address: str) -> InputError:
    return InputError(
        f"no Prefect server answers at {address}, where PREFECT_API_URL points; start it, correct the address, or "
        "`unset PREFECT_API_URL` so that one is started here"
    )


def answers(address: str) -> bool:
    """Whether a Prefect server answers there."""
    try:
        return bool(requests.get(f"{address}/health", timeout=10).json() is True)
    except requests.RequestException:
        return False


def lets_in(address: str, password: str | None) -> bool:
    """Whether it does so to whoever has this password: user:password, or none."""
    auth = None if password is None else (password.partition(":")[0], password.partition(":")[2])
    try:
        return requests.get(f"{address}/admin/version", auth=auth, timeout=10).ok
    except requests.RequestException:
        return False
