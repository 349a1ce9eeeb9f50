"""Whether each service answers whoever may ask it, and refuses everybody else."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import boto3
import psycopg
import requests
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from services.postgresql import ROLES, Cluster
from services.secrets import Secrets, generated

TIMEOUT = 30.0  # seconds for an answer, on a busy machine
BUCKETS = {"artifacts": "mlflow", "remote": "dvc"}  # of the storage services
FOREIGN = "evil.example"


@dataclass(frozen=True)
class Check:
    """One question to a service and what came of it."""

    service: str
    who: str
    expected: str
    found: str

    @property
    def is_well(self) -> bool:
        return self.found == self.expected


def ill(secrets: Secrets, cluster: Cluster) -> set[str]:
    """The services that do not answer those who may ask."""
    wrong = set()
    for question in _questions(secrets, cluster):
        if question.service not in wrong and question.ask(question.password) != "answers":
            wrong.add(question.service)
    return wrong


def checks(secrets: Secrets, cluster: Cluster) -> list[Check]:
    """Every service, asked with its password, without one and with a wrong one."""
    found = []
    for question in _questions(secrets, cluster):
        found += [
            Check(question.service, f"{question.who}the right password", "answers", question.ask(question.password)),
            Check(question.service, f"{question.who}no password", "refuses", question.ask(None)),
            Check(question.service, f"{question.who}a wrong password", "refuses", question.ask(generated())),
        ]
    password = secrets["MLFLOW_ADMIN_PASSWORD"]
    found.append(Check("mlflow", f"the right password, Host: {FOREIGN}", "refuses", page(_runs(secrets), password, FOREIGN)))
    return found


@dataclass(frozen=True)
class _Question:
    service: str
    who: str
    ask: Callable[[str | None], str]
    password: str


def _questions(secrets: Secrets, cluster: Cluster) -> Iterator[_Question]:
    for role in ROLES:
        yield _Question(
            "postgresql", f"{role}, ", partial(_database, cluster, role), secrets[f"{role.upper()}_DATABASE_PASSWORD"]
        )
    for service, bucket in BUCKETS.items():
        ask = partial(storage, secrets.local(service), bucket, secrets[f"{service.upper()}_KEY_ID"])
        yield _Question(service, "", ask, secrets[f"{service.upper()}_SECRET"])
    yield _Question("mlflow", "admin, ", partial(page, _runs(secrets)), secrets["MLFLOW_ADMIN_PASSWORD"])
    yield _Question("prefect", "", partial(page, f"{secrets.local('prefect')}/api/admin/version"), secrets["PREFECT_PASSWORD"])


def _runs(secrets: Secrets) -> str:
    return f"{secrets.local('mlflow')}/api/2.0/mlflow/experiments/search?max_results=1"


def _database(cluster: Cluster, role: str, password: str | None) -> str:
    try:
        with contextlib.closing(cluster.connect(role, password)) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        told = str(error).lower()
        return "refuses" if "authentication failed" in told or "no password supplied" in told else "does not answer"
    return "answers"


def storage(address: str, bucket: str, key: str, secret: str | None) -> str:
    """What an S3 storage does about a list of a bucket's objects."""
    if secret is None:
        found = page(f"{address}/{bucket}?list-type=2&max-keys=1", None)
        return "refuses" if found == "says 400" else found  # what rclone says of a request that is not signed at all
    once = Config(connect_timeout=TIMEOUT, read_timeout=TIMEOUT, retries={"total_max_attempts": 1})
    client = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id=key, aws_secret_access_key=secret, region_name="us-east-1", config=once
    )
    try:
        client.list_objects_v2(Bucket=bucket, MaxKeys=1)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return "refuses" if status in (401, 403) else f"says {status}"
    except BotoCoreError:
        return "does not answer"
    return "answers"


def page(address: str, password: str | None, host: str | None = None) -> str:
    """What a server does about a request, with the password of `admin`; under the name of another host where one is given."""
    headers = {} if host is None else {"Host": host}
    try:
        with requests.Session() as session:
            session.trust_env = False  # no password of the user's own, and no proxy to this machine
            answer = session.get(
                address, auth=None if password is None else ("admin", password), headers=headers, timeout=TIMEOUT
            )
    except requests.RequestException:
        return "does not answer"
    if answer.ok:
        return "answers"
    return "refuses" if answer.status_code in (401, 403) else f"says {answer.status_code}"
