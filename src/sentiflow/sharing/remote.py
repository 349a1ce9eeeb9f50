"""Set and test the remote, through which data and models are shared: a folder, S3, SSH or WebDAV.

Settings that are valid on every machine go to .dvc/config, which is in git. A local folder, a loopback address and a user name
go to .dvc/config.local, which git ignores. Secrets are refused: in .dvc/config everyone with the repository could read them,
and on the command line every user of this machine.
"""

import ipaddress
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sentiflow.pipeline import objects
from sentiflow.pipeline.stores import RefusedError
from sentiflow.sharing.remote_settings import CONFIG, OWN_CONFIG, configured, secrets_in
from sentiflow.system import urls
from sentiflow.system.errors import InputError, UnavailableError

SHARED, OWN = "shared", "here"  # names of the remote in .dvc/config and of that in .dvc/config.local
TIMEOUT = 60.0  # timeout of the test in seconds
# The libraries' default timeouts for an unreachable host are half an hour (SSH) or minutes (S3).
OPTIONS = {"s3": {"connect_timeout": "10", "read_timeout": "60"}, "ssh": {"timeout": "30"}, "webdav": {}, "webdavs": {}}
KINDS = "a folder, s3://bucket/path, ssh://user@host[:port]/path, webdav://host/path or webdavs://host/path"


@dataclass(frozen=True)
class Setting:
    """Settings of a remote.

    shared: options for .dvc/config; None to leave that file unchanged.
    own: options for .dvc/config.local.
    """

    name: str
    shared: dict[str, str] | None
    own: dict[str, str]


def read(url: str, endpoint: str = "", *, shared: bool | None = None) -> Setting:
    """Settings for a URL.

    Args:
        endpoint: URL of an S3-compatible store.
        shared: whether the settings go to .dvc/config; by default if they are valid on every machine.
    """
    if endpoint and not url.startswith("s3://"):
        raise InputError(f"--endpoint {urls.without_secrets(endpoint)} is only for s3:// URLs; leave it out")
    if "://" not in url:
        return _folder(url, bool(shared))
    kind, host, path, query, fragment = urlsplit(url)
    user, _, address = host.rpartition("@")
    if ":" in user or query or fragment or (user and kind == "s3"):
        raise InputError(
            f"the URL contains a secret ({urls.without_secrets(url)}); leave it out, set the remote, and store the secret "
            "on this machine only: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment for S3, otherwise "
            f"`dvc remote modify --local {SHARED} password ...` (or keyfile, token; docs/remotes.md)"
        )
    if kind not in OPTIONS:
        hint = {"file": "; give the plain path", "http": "; write webdav://", "https": "; write webdavs://"}.get(kind, "")
        raise InputError(f"expected {KINDS}, got {url}{hint}")
    if not address or not path.strip("/"):
        raise InputError(f"{url} lacks the {'path' if address else 'host'}; expected {KINDS}")
    options = {"url": f"{kind}://{address}{path.rstrip('/')}", "verify": "true"} | OPTIONS[kind]
    if endpoint:
        options["endpointurl"] = _endpoint(endpoint)
    own = {"user": user} if user else {}  # each member may have another user name
    if shared is None:
        shared = not _is_loopback(urlsplit(endpoint or options["url"]).hostname)
    return Setting(SHARED, options, own) if shared else Setting(OWN, None, options | own)


def _folder(path: str, shared: bool) -> Setting:
    if re.match(r"[\w.-]+@[\w.-]+:", path):
        raise InputError(f"expected ssh://user@host/path for a folder on another machine, got {path}")
    here = Path.cwd()
    place = path or f"../{here.name}-remote"
    folder = Path(os.path.normpath(here / Path(place).expanduser()))
    if folder.is_relative_to(here):
        raise InputError(f"{place} is inside the project, where git would see it; choose a folder outside")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{place} is a file, expected a folder")
    if not folder.parent.is_dir():
        raise InputError(f"the folder {folder.parent} of {place} does not exist; is it mounted? Otherwise create it first")
    options = {"url": place, "verify": "true"}
    return Setting(SHARED, options, {}) if shared else Setting(OWN, None, options)


def _endpoint(endpoint: str) -> str:
    kind, host, path, query, fragment = urlsplit(endpoint)
    if kind not in ("http", "https") or not host or "@" in host or query or fragment or path.strip("/"):
        raise InputError(f"--endpoint: expected http://host:port or https://host[:port], got {urls.without_secrets(endpoint)}")
    return endpoint.rstrip("/")


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def use(setting: Setting) -> str:
    """Write the settings and test the remote. Returns a summary for the user.

    Raises:
        RefusedError: if authentication fails; the settings stay.
        InputError: if the remote is unusable for another reason, or .dvc/config contains a secret; the settings are restored.
    """
    if CONFIG.exists() and (found := secrets_in(CONFIG.read_text(encoding="utf-8"))):
        raise InputError(
            f"{CONFIG} is in git and contains {', '.join(found)}; remove it (dvc remote modify --unset NAME OPTION), "
            "store it on this machine only (dvc remote modify --local NAME OPTION ...), and change the secret if it was pushed"
        )
    try:
        with configured(setting.name, setting.shared, setting.own), objects.opened() as project:
            remote = project.remote()
            _with_timeout(remote.try_out, remote.name)
    except RefusedError as error:
        raise RefusedError(f"{error}. The remote is set; run the same command again to test it") from None
    except InputError as error:
        raise type(error)(f"{error}. The previous settings were restored") from None
    name = remote.name[:1].upper() + remote.name[1:]
    scope = f"for this machine ({OWN_CONFIG})" if setting.shared is None else f"for everyone: commit {CONFIG}"
    return f"{name} is set {scope}. Next: sentiflow remote push"


def _with_timeout(attempt: Callable[[], None], name: str) -> None:
    """Run in a daemon thread, which does not keep the process alive."""
    result: Future[None] = Future()

    def run() -> None:
        try:
            attempt()
            result.set_result(None)
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        result.result(TIMEOUT)
    except TimeoutError:
        raise UnavailableError(f"{name} did not respond within {TIMEOUT:.0f} s; check that it runs and is reachable") from None
