"""What an account may or may not do at MLflow's server: one function per row of the table in docs/services.md."""

import uuid

import requests

EXPERIMENT, MODEL, HISTORY = "sentiflow", "sentiflow", "sentiflow-champions"
V2, V3 = "/api/2.0/mlflow", "/api/3.0/mlflow"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"


class Account:
    """Sends requests as one account."""

    def __init__(self, address, name, password):
        self.address, self.name, self.auth = address, name, (name, password)

    def ask(self, method, path, content=None, *, data=None):
        """The answer to a request whose path is sent as it is."""
        request = requests.Request(method, self.address, json=content, data=data, auth=self.auth).prepare()
        request.url = self.address + path  # else dots in it are resolved here
        with requests.Session() as session:
            return session.send(request, timeout=120)

    def post(self, path, /, **content):
        return self.ask("POST", f"{V2}/{path}", content)

    def get(self, path):
        return self.ask("GET", f"{V2}/{path}")

    def put(self, path, data=b"planted"):
        return self.ask("PUT", f"{PROXY}/{path}", data=data)


def is_refused(answer):
    """403, or a request that MLflow finds invalid before it asks for permissions."""
    invalid = ("Invalid path", "Invalid model version source", "Invalid source")
    return answer.status_code == 403 or (answer.status_code == 400 and any(each in answer.text for each in invalid))


class Publication:
    """A run with a file, a model and a version; `answers` are the server's, up to the first that is not a success."""

    def __init__(self, account, experiment, *, complete=True):
        self.account, self.experiment, self.answers = account, experiment, []
        self.run = self.model = self.version = None
        for step in (self._begin, self._log, self._upload, self._add_model, self._register, *[self._complete] * complete):
            self.answers += step()
            if not self.answers[-1].ok:
                break

    def _begin(self):
        tags = [{"key": "mlflow.user", "value": self.account.name}]
        made = self.account.post("runs/create", experiment_id=self.experiment, run_name="probe", tags=tags)
        self.run = made.json()["run"]["info"]["run_id"] if made.ok else None
        return [made]

    def _log(self):
        metrics = [{"key": "score", "value": 0.5, "timestamp": 1, "step": 0}]
        return [self.account.post("runs/log-batch", run_id=self.run, metrics=metrics)]

    def _upload(self):
        return [self.account.put(f"{self.experiment}/{self.run}/artifacts/predictions/test.txt")]

    def _add_model(self):
        made = self.account.post("logged-models", experiment_id=self.experiment, name="probe", source_run_id=self.run)
        self.model = made.json()["model"]["info"]["model_id"] if made.ok else None
        if not made.ok:
            return [made]
        ready = {"model_id": self.model, "status": "LOGGED_MODEL_READY"}
        return [
            made,
            self.account.put(f"{self.experiment}/models/{self.model}/artifacts/MLmodel"),
            self.account.ask("PATCH", f"{V2}/logged-models/{self.model}", ready),
        ]

    def _register(self):
        source = {"source": f"models:/{self.model}", "model_id": self.model, "run_id": self.run}
        made = self.account.post("model-versions/create", name=MODEL, **source)
        self.version = made.json()["model_version"]["version"] if made.ok else None
        return [made]

    def _complete(self):
        tags = [{"key": "sentiflow.complete", "value": "true"}]
        end = {"run_id": self.run, "status": "FINISHED", "end_time": 2}
        return [self.account.post("runs/log-batch", run_id=self.run, tags=tags), self.account.post("runs/update", **end)]

    def remove(self, account):
        """The answers to its removal by an account."""
        return [
            account.ask("DELETE", f"{V2}/model-versions/delete", {"name": MODEL, "version": self.version}),
            account.ask("DELETE", f"{V2}/logged-models/{self.model}"),
            account.post("runs/delete", run_id=self.run),
        ]


def read(who, other):
    return [
        who.get(f"experiments/get-by-name?experiment_name={EXPERIMENT}"),
        who.get(f"runs/get?run_id={other.run}"),
        who.get(f"model-versions/get?name={MODEL}&version={other.version}"),
        who.ask("GET", f"{PROXY}?path={other.experiment}/{other.run}/artifacts"),
        who.ask("GET", f"{PROXY}/{other.experiment}/{other.run}/artifacts/predictions/test.txt"),
        who.ask("GET", f"/get-artifact?run_uuid={other.run}&path=predictions/test.txt"),
    ]


def publish(who, other):
    made = Publication(who, other.experiment)
    if made.version:
        made.remove(who)
    return made.answers


def judge(who, other):
    artifacts, fresh = f"{other.experiment}/{other.run}/artifacts", uuid.uuid4().hex
    return [
        who.put(f"{artifacts}/verdicts/page.md"),
        who.put(f"{artifacts}/verdicts/page.md"),
        who.put(f"{artifacts}/predictions/test-{fresh}.txt"),
        who.post("model-versions/set-tag", name=MODEL, version=other.version, key="verdict", value="passes"),
        who.post("runs/log-metric", run_id=other.run, key="usage/latency_ms", value=1.0, timestamp=3),
        who.ask("PATCH", f"{V2}/model-versions/update", {"name": MODEL, "version": other.version, "description": "judged"}),
    ]


def promote(who, other):
    tags = [{"key": "by", "value": who.name}, {"key": "replaced", "value": "none"}]  # an entry that does not count
    source = f"models:/{MODEL}/{other.version}"
    alias = {"name": MODEL, "alias": "probe"}
    return [
        who.post("model-versions/create", name=HISTORY, source=source, run_id=other.run, tags=tags),
        who.post("model-versions/set-tag", name=HISTORY, version="1", key="applied", value="true"),
        who.post("registered-models/alias", **alias, version=other.version),
        who.ask("DELETE", f"{V2}/registered-models/alias", alias),
    ]


def remove_interrupted(who, other):
    return Publication(other.account, other.experiment, complete=False).remove(who)


def remove_own(who, other):
    own = Publication(who, other.experiment)
    return own.remove(who) if own.version else own.answers


def change_published_run(who, other):
    run = {"run_id": other.run}
    metric = {"key": "score", "value": 1.0, "timestamp": 3}
    tags = [{"key": "sentiflow.publisher", "value": "planted"}]
    return [
        who.post("runs/set-tag", **run, key="mlflow.user", value=who.name),
        who.post("runs/set-tag", runId=other.run, key="planted", value="x"),
        who.post("runs/delete-tag", **run, key="sentiflow.complete"),
        who.post("runs/log-batch", **run, tags=tags),
        who.post("runs/log-metric", **run, **metric),
        who.post("runs/log-metric", run_uuid=other.run, **metric),
        who.post("runs/log-parameter", **run, key="planted", value="x"),
        who.post("runs/log-inputs", **run, datasets=[]),
        who.post("runs/outputs", **run, models=[{"model_id": other.model, "step": 1}]),
        who.post("runs/log-model", **run, model_json="{}"),
        who.post("runs/update", **run, run_name="planted"),
        who.post("runs/update", **run, status="FAILED"),
        who.post("runs/delete", **run),
        who.ask("POST", "/ajax-api/2.0/mlflow/runs/delete", run),
        who.post("runs/restore", **run),
    ]


def change_published_artifacts(who, other):
    run, model = f"{other.experiment}/{other.run}/artifacts", f"{other.experiment}/models/{other.model}/artifacts"
    logged = f"{V2}/logged-models/{other.model}"
    return [
        *(who.put(f"{run}/{name}") for name in ("planted", "predictions/test.txt", "predictions/%252e/test.txt", "predictions/")),
        *(who.put(f"{run}/predictions//{name}") for name in ("test.txt", "%2e%2e/planted", "..%252fplanted")),
        *(who.put(f"{model}/{name}") for name in ("MLmodel", "planted")),
        who.put(f"{other.experiment}/planted"),
        who.put("..%2f..%2fplanted"),
        who.put(f"{other.experiment}/%2e%2e/%2e%2e/planted"),
        who.ask("DELETE", f"{PROXY}/{run}/predictions/test.txt"),
        who.ask("DELETE", f"{PROXY}/{other.experiment}"),
        who.ask("POST", f"/api/2.0/mlflow-artifacts/mpu/create/{run}/planted", {"path": "planted", "num_parts": 1}),
        who.ask("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={other.run}&path=planted", data=b"x"),
        who.post("artifacts/presigned-upload-url", run_id=other.run, path="planted"),
        who.ask("PATCH", logged, {"model_id": other.model, "status": "LOGGED_MODEL_UPLOAD_FAILED"}),
        who.ask("PATCH", f"{logged}/tags", {"model_id": other.model, "tags": [{"key": "planted", "value": "x"}]}),
        who.ask("POST", f"{logged}/params", {"model_id": other.model, "params": [{"key": "planted", "value": "x"}]}),
        who.ask("DELETE", f"{logged}/tags/planted"),
        who.ask("DELETE", logged),
    ]


def change_registry(who, other):
    version = {"name": MODEL, "version": other.version}
    answers = [
        who.ask("DELETE", f"{V2}/model-versions/delete", version),
        who.post("model-versions/set-tag", **version, key="sentiflow.sha256", value="0" * 64),
        who.ask("DELETE", f"{V2}/model-versions/delete-tag", {**version, "key": "verdict"}),
        who.post("model-versions/transition-stage", **version, stage="Archived", archive_existing_versions=False),
        who.post("registered-models/create", name="planted"),
    ]
    for name in (MODEL, HISTORY):
        answers += [
            who.ask("DELETE", f"{V2}/registered-models/delete", {"name": name}),
            who.post("registered-models/rename", name=name, new_name="planted"),
            who.ask("PATCH", f"{V2}/registered-models/update", {"name": name, "description": "planted"}),
            who.post("registered-models/set-tag", name=name, key="planted", value="x"),
        ]
    return answers


def change_history(who, other):
    entry = {"name": HISTORY, "version": "1"}
    made = {"name": HISTORY, "source": f"models:/{MODEL}/{other.version}", "run_id": other.run}
    forged = {"key": "by", "value": other.account.name}
    return [
        who.ask("DELETE", f"{V2}/model-versions/delete", entry),
        who.ask("PATCH", f"{V2}/model-versions/update", {**entry, "description": "planted"}),
        who.post("model-versions/set-tag", **entry, key="by", value=who.name),
        who.post("model-versions/create", **made, tags=[forged]),
        who.post("model-versions/create", **made, tags=[forged, {"key": "by", "value": who.name}]),
        who.post("model-versions/create", **made),
        who.post("registered-models/alias", **entry, alias="planted"),
    ]


def change_experiments(who, other):
    this = {"experiment_id": other.experiment}
    return [
        who.post("experiments/create", name="planted"),
        who.post("experiments/create", name="planted", artifact_location="file:///tmp/planted"),
        who.post("experiments/update", **this, new_name="planted"),
        who.post("experiments/delete", **this),
        who.post("experiments/restore", **this),
        who.post("experiments/set-experiment-tag", **this, key="planted", value="x"),
    ]


def register_elsewhere(who, other):
    sources = (
        "file:///etc",
        "/etc",
        "s3://mlflow/1",
        "http://127.0.0.1:1/model",
        "mlflow-artifacts:/0/x",
        f"mlflow-artifacts:/{other.experiment}/../0",
        f"runs:/{other.run}/../../x",
        "models:/planted/1",
        f"models:/{MODEL}/1\n",
    )
    return [who.post("model-versions/create", name=MODEL, source=source) for source in sources]


def read_outside(who, other):
    run = f"run_uuid={other.run}"
    return [
        who.ask("GET", f"/get-artifact?{run}&path=../../../../etc/passwd"),
        who.ask("GET", f"/get-artifact?{run}&path=..%252f..%252fetc%252fpasswd"),
        who.ask("GET", f"/get-artifact?{run}&path=/etc/passwd"),
        who.ask("GET", f"/get-artifact?{run}&path=file:///etc/passwd"),
        who.ask("GET", f"/model-versions/get-artifact?name={MODEL}&version={other.version}&path=../../x"),
        who.ask("GET", f"/ajax-api/2.0/mlflow/logged-models/{other.model}/artifacts/files?artifact_file_path=../../x"),
        who.ask("GET", f"{PROXY}/{other.experiment}/..%2f..%2fetc/passwd"),
        who.ask("GET", f"{PROXY}?path=../.."),
        who.ask("GET", f"{PROXY}?path=0"),
    ]


def manage_accounts(who, other):
    password = uuid.uuid4().hex
    return [
        who.post("users/create", username="planted", password=password),
        who.ask("PATCH", f"{V2}/users/update-password", {"username": "admin", "password": password}),
        who.ask("PATCH", f"{V2}/users/update-admin", {"username": who.name, "is_admin": True}),
        who.ask("DELETE", f"{V2}/users/delete", {"username": other.account.name}),
        who.ask("POST", f"{V3}/roles/create", {"workspace": "default", "name": "planted"}),
        who.ask("GET", "/signup"),
    ]


def use_other_features(who, other):
    events = [{"entity": "REGISTERED_MODEL", "action": "CREATED"}]
    value = [{"key": "api_key", "value": "planted"}]
    return [
        who.post("webhooks", name="planted", url="http://127.0.0.1:1/", events=events),
        who.ask("POST", f"{V3}/gateway/secrets/create", {"secret_name": "planted", "secret_value": value, "provider": "openai"}),
        who.ask("POST", "/gateway/planted/mlflow/invocations", {}),
        who.ask("POST", "/ajax-api/2.0/mlflow/gateway-proxy", {"gateway_path": "http://127.0.0.1:1/"}),
        who.ask("GET", "/ajax-api/3.0/mlflow/assistant/config"),
        who.ask("POST", "/ajax-api/3.0/jobs/", {"function_fullname": "os.getcwd", "params": {}}),
        who.ask("POST", f"{V3}/prompt-optimization/jobs", {"experiment_id": other.experiment}),
        who.ask("POST", f"{V3}/scorers/register", {"experiment_id": other.experiment, "name": "x", "serialized_scorer": "{}"}),
        who.ask("POST", "/ajax-api/3.0/mlflow/scorer/invoke", {"experiment_id": other.experiment}),
        who.ask("POST", "/v1/traces", data=b""),
        who.ask("POST", f"{V3}/traces", {}),
        who.ask("GET", "/ajax-api/2.0/mlflow/get-trace-artifact?request_id=x"),
        who.ask("POST", f"{V3}/datasets/create", {"name": "planted", "experiment_ids": [other.experiment]}),
        who.ask("POST", "/ajax-api/2.0/mlflow/runs/create-promptlab-run", {"experiment_id": other.experiment}),
        who.ask("POST", "/ajax-api/3.0/mlflow/mcp-servers", {"name": "planted"}),
    ]


ACTIONS = {
    "read runs, versions and artifacts of the project": read,
    "publish a run with its artifacts and model, and register it": publish,
    "judge a version: tags, description, files in `verdicts`, predictions on a new test set": judge,
    "promote and roll back": promote,
    "remove an interrupted publication of any account": remove_interrupted,
    "remove a run and version that the account published itself": remove_own,
    "change or remove a published run": change_published_run,
    "overwrite or remove artifacts or the model of a published run": change_published_artifacts,
    "remove or rename registered models, remove versions of others, change their hash": change_registry,
    "change or remove entries of the champion history, or add one in another's name": change_history,
    "create, change or remove experiments": change_experiments,
    "register files from outside the artifact store": register_elsewhere,
    "read files outside the project's artifacts": read_outside,
    "manage accounts, roles and passwords": manage_accounts,
    "use webhooks, the AI gateway, the assistant, jobs, scorers, traces, prompts or data sets": use_other_features,
}
