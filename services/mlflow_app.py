"""MLflow's server, with every cross-origin request refused.

By itself MLflow lets pages of any port of this machine read and write, whatever MLFLOW_SERVER_CORS_ALLOWED_ORIGINS is. Here that
setting is the complete list. `mlflow server` finds the apps by their names in pyproject.toml, and imports this module before the
server's environment is complete, so MLflow's own apps are imported when they are created.
"""

from fastapi import FastAPI
from mlflow.server.security_utils import CORS_BLOCKED_MSG, get_allowed_origins_from_env
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class OnlyOwnOrigins:
    """ASGI middleware that refuses requests with the Origin of another site."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        self.app, self.origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        refusal = PlainTextResponse(CORS_BLOCKED_MSG, 403)
        await (self.app if origin in (None, *self.origins) else refusal)(scope, receive, send)


def create_app() -> FastAPI:
    """For `sentiflow ui`."""
    from mlflow.server.fastapi_app import create_fastapi_app

    return _protected(create_fastapi_app())


def create_team_app() -> FastAPI:
    """For a team: MLflow's `basic-auth`."""
    from mlflow.server.auth import create_app as create_auth_app

    return _protected(create_auth_app())


def _protected(app: FastAPI) -> FastAPI:
    app.add_middleware(OnlyOwnOrigins, origins=get_allowed_origins_from_env() or [])
    return app
