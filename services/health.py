"""Health checks: each service must answer with its password, and refuse requests without one or with a wrong one."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import boto3
import psycopg
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from services.postgresql import ROLES, Cluster
from services.secrets import Secrets, generated

TIMEOUT = 30.0  # seconds, on a busy machine
BUCKETS = {"artifacts": "mlflow", "remote": "dvc"}  # of the storage services
FOREIGN = "evil.example"


@dataclass(frozen=True)
class Check:
    """Outcome of one request to a service."""

    service: str
    request: str
    expected: str
    found: str

    @property
    def passed(self) -> bool:
        return self.found == self.expected


def failing(secrets: Secrets, cluster: Cluster) -> set[str]:
    """Services that do not answer with their password."""
    return {probe.service for probe in _probes(secrets, cluster) if probe.send(probe.password) != "answers"}


def checks(secrets: Secrets, cluster: Cluster) -> list[Check]:
    """Requests to every service with its password, without one and with a wrong one."""
    found = []
    for probe in _probes(secrets, cluster):
        found += [
            Check(probe.service, f"{probe.account}the right password", "answers", probe.send(probe.password)),
            Check(probe.service, f"{probe.account}no password", "refuses", probe.send(None)),
            Check(probe.service, f"{probe.account}a wrong password", "refuses", probe.send(generated())),
        ]
    by_foreign_host = _http(_experiments(secrets), secrets["MLFLOW_ADMIN_PASSWORD"], headers={"Host": FOREIGN})
    found.append(Check("mlflow", f"the right password, Host: {FOREIGN}", "refuses", by_foreign_host))
    return found


@dataclass(frozen=True)
class _Probe:
    service: str
    account: str
    send: Callable[[str | None], str]  # takes the password, returns what the service does
    password: str


def _probes(secrets: Secrets, cluster: Cluster) -> Iterator[_Probe]:
    for role in ROLES:
        yield _Probe("postgresql", f"{role}, ", partial(_database, cluster, role), secrets.database(role))
    for service, bucket in BUCKETS.items():
        send = partial(_storage, secrets.local(service), bucket, secrets[f"{service.upper()}_KEY_ID"])
        yield _Probe(service, "", send, secrets[f"{service.upper()}_SECRET"])
    yield _Probe("mlflow", "admin, ", partial(_http, _experiments(secrets)), secrets["MLFLOW_ADMIN_PASSWORD"])
    yield _Probe("prefect", "", partial(_http, f"{secrets.local('prefect')}/api/admin/version"), secrets["PREFECT_PASSWORD"])


def _experiments(secrets: Secrets) -> str:
    return f"{secrets.local('mlflow')}/api/2.0/mlflow/experiments/search?max_results=1"


def _database(cluster: Cluster, role: str, password: str | None) -> str:
    try:
        with contextlib.closing(cluster.connect(role, password)) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        reason = str(error).lower()
        return "refuses" if "authentication failed" in reason or "no password supplied" in reason else "does not answer"
    return "answers"


def _storage(address: str, bucket: str, key: str, secret: str | None) -> str:
    if secret is None:
        found = _http(f"{address}/{bucket}?list-type=2&max-keys=1", None)
        return "refuses" if found == "responds 400" else found  # rclone's response to an unsigned request
    once = Config(connect_timeout=TIMEOUT, read_timeout=TIMEOUT, retries={"total_max_attempts": 1})
    client = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1", config=once
    )
    try:
        client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except ClientError as error:
        return _meaning(error.response["ResponseMetadata"]["HTTPStatusCode"])
    except BotoCoreError:
        return "does not answer"
    return "answers"


def _http(url: str, password: str | None, **options: Any) -> str:
    try:
        return _meaning(request("GET", url, password, **options).status_code)
    except requests.RequestException:
        return "does not answer"


def _meaning(status: int) -> str:
    if status < 400:
        return "answers"
    return "refuses" if status in (401, 403) else f"responds {status}"


def request(method: str, url: str, password: str | None, **options: Any) -> requests.Response:
    """Sends an HTTP request to a service on this machine, as `admin` if there is a password."""
    with requests.Session() as session:
        session.trust_env = False  # neither the user's ~/.netrc nor a proxy
        auth = None if password is None else ("admin", password)
        return session.request(method, url, auth=auth, timeout=TIMEOUT, **options)
