"""MLflow's server, closed to the pages of other origins.

MLflow itself lets the pages of every port of this machine read and write, whatever MLFLOW_SERVER_CORS_ALLOWED_ORIGINS says. Here
that setting is the complete list. `mlflow server` finds the apps by their names in pyproject.toml, and imports this module before
the environment of the server is complete, so MLflow's own apps are imported when they are created.
"""

from fastapi import FastAPI
from mlflow.server.security_utils import CORS_BLOCKED_MSG, get_allowed_origins_from_env
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class OnlyOwnOrigins:
    """Refuses every request that a browser sends for a page of another origin."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        self.app, self.origins = app, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = Headers(scope=scope).get("origin") if scope["type"] == "http" else None
        refused = PlainTextResponse(CORS_BLOCKED_MSG, 403)
        await (self.app if origin in (None, *self.origins) else refused)(scope, receive, send)


def create_app() -> FastAPI:
    """For `sentiflow ui`."""
    from mlflow.server.fastapi_app import create_fastapi_app

    return _closed(create_fastapi_app())


def create_team_app() -> FastAPI:
    """For a team: MLflow's `basic-auth`."""
    from mlflow.server.auth import create_app as with_accounts

    return _closed(with_accounts())


def _closed(app: FastAPI) -> FastAPI:
    app.add_middleware(OnlyOwnOrigins, origins=get_allowed_origins_from_env() or [])
    return app
