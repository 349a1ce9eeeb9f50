"""Unauthenticated requests to MLflow's server, Prefect's and a storage."""

import json

import boto3
import requests
from websockets.sync.client import connect

EVIL = "http://evil.example"
GRAPHQL = 'query { mlflowGetExperiment(input: {experimentId: "1"}) { experiment { name } } }'
MLFLOW = {  # method, path, content
    "read experiments": ("GET", "/api/2.0/mlflow/experiments/search?max_results=9", None),
    "read experiments as a page does": ("POST", "/ajax-api/2.0/mlflow/experiments/search", {"max_results": 9}),
    "read versions": ("GET", "/api/2.0/mlflow/model-versions/search", None),
    "read by GraphQL": ("POST", "/graphql", {"query": GRAPHQL}),
    "list artifacts": ("GET", "/api/2.0/mlflow-artifacts/artifacts?path=1", None),
    "list users": ("GET", "/api/2.0/mlflow/users/list", None),
    "open the page": ("GET", "/", None),
    "create a run": ("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0", "run_name": "planted"}),
    "create a model": ("POST", "/api/2.0/mlflow/registered-models/create", {"name": "planted"}),
    "upload an artifact": ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/planted.txt", {"planted": True}),
    "create a user": ("POST", "/api/2.0/mlflow/users/create", {"username": "planted", "password": "planted-planted"}),
}  # fmt: skip
PREFECT = {
    "read runs": ("POST", "/api/flow_runs/filter", {}),
    "read settings": ("GET", "/api/admin/settings", None),
    "create a flow": ("POST", "/api/flows/", {"name": "planted"}),
    "clear the database": ("POST", "/api/admin/database/clear", {"confirm": False}),
}
SOCKETS = ("/api/events/in", "/api/events/out", "/api/logs/out")
ALL_SOCKETS = (*SOCKETS, "/api/task_runs/subscriptions/scheduled", "/api/work_pools/sentiflow/workers/connect")


def ask(address, probe, password=None, **headers):
    """Response to a probe, with the password of `admin` or without credentials."""
    method, path, content = probe
    auth = None if password is None else ("admin", password)
    return requests.request(method, address + path, json=content, auth=auth, headers=headers, timeout=120, allow_redirects=False)


def storage(address, key, secret):
    return boto3.client("s3", endpoint_url=address, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1")


def told_by_prefect(address, protocols, token):
    """Type of the first message of a WebSocket of Prefect after authentication with this token."""
    with connect(address, subprotocols=protocols) as websocket:
        websocket.send(json.dumps({"type": "auth", "token": token}))
        return json.loads(websocket.recv(timeout=60))["type"]
