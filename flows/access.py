"""Whether Prefect's server answers, and lets this user in."""

from http import HTTPStatus

from prefect.client.base import ServerType
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError

from flows.local_servers import no_answer
from sentiflow.errors import InputError


def require() -> None:
    """Asks the server of Prefect's settings, as PREFECT_API_URL sets it; not Prefect's cloud, which has its own messages.

    Raises:
        InputError: if it does not answer, or asks for another password.
    """
    with get_client(sync_client=True) as client:
        if client.server_type == ServerType.CLOUD:
            return
        address = str(client.api_url).rstrip("/")
        if client.api_healthcheck() is not None:
            raise InputError(no_answer(address))
        try:
            client.api_version()  # for which it asks a password, if it has one
        except PrefectHTTPStatusError as error:
            if error.response.status_code != HTTPStatus.UNAUTHORIZED:
                raise
            raise InputError(
                f"Prefect's server at {address} asks for a password, and got none or a wrong one; put it into "
                "PREFECT_API_AUTH_STRING, as `make member` of its services prints it"
            ) from None
