"""Set the place that data and models are shared through: a folder, S3, SSH or WebDAV; and try it out.

What means the same on every machine goes to .dvc/config, which git shares. What does not - a folder, an address of this machine
alone, a user's name - goes to .dvc/config.local, which git ignores. Secrets are taken by neither: whoever can read the
repository could read them, and whoever lists this machine's processes could read them in the command.
"""

import ipaddress
import logging
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sentiflow.pipeline import objects
from sentiflow.pipeline.stores import RefusedError
from sentiflow.sharing.remote_settings import CONFIG, OWN_CONFIG, configured, secrets_in
from sentiflow.system import urls
from sentiflow.system.errors import InputError, UnavailableError

log = logging.getLogger("sentiflow")

SHARED, OWN = "shared", "here"  # the remote of .dvc/config, and that of .dvc/config.local
PATIENCE = 60.0  # seconds for a remote to be tried out
# Without these the libraries wait for half an hour (SSH) or for minutes (S3) for a host that does not answer.
OPTIONS = {"s3": {"connect_timeout": "10", "read_timeout": "60"}, "ssh": {"timeout": "30"}, "webdav": {}, "webdavs": {}}
KINDS = "a folder, s3://bucket/path, ssh://user@host[:port]/path, webdav://host/path or webdavs://host/path"
HOW = (
    "leave it out, set the remote, and give the secret to this machine alone: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
    f"environment for S3, else `dvc remote modify --local {SHARED} password ...` (or keyfile, token; docs/remotes.md)"
)


@dataclass(frozen=True)
class Setting:
    """What is to be written where.

    shared: options for .dvc/config; None where nothing goes there.
    own: options for .dvc/config.local.
    """

    name: str
    shared: dict[str, str] | None
    own: dict[str, str]


def read(url: str, endpoint: str = "", *, shared: bool | None = None) -> Setting:
    """What a URL asks for.

    Args:
        shared: whether git is to share it; None decides by whether it means the same on every machine.
    """
    if endpoint and not url.startswith("s3://"):
        raise InputError(f"received --endpoint {urls.without_secrets(endpoint)} with another URL than s3://; leave it out")
    if "://" not in url:
        return _folder(url, bool(shared))
    kind, host, path, query, fragment = urlsplit(url)
    user, _, address = host.rpartition("@")
    if ":" in user or query or fragment or (user and kind == "s3"):
        raise InputError(f"received a URL with a secret in it ({urls.without_secrets(url)}), and git would share that; {HOW}")
    if kind not in OPTIONS:
        instead = {"file": "give the plain path", "http": "write webdav://", "https": "write webdavs://"}.get(kind, "")
        raise InputError(f"received {url}, expected {KINDS}{f'; {instead}' if instead else ''}")
    if not address or not path.strip("/"):
        raise InputError(f"received {url}, which lacks the {'path' if address else 'host'}; expected {KINDS}")
    options = {"url": f"{kind}://{address}{path.rstrip('/')}", "verify": "true"} | OPTIONS[kind]
    if endpoint:
        options["endpointurl"] = _endpoint(endpoint)
    own = {"user": user} if user else {}  # another one may go by another name
    of_this_machine = any(_is_loopback(urlsplit(each).hostname) for each in (endpoint or options["url"],))
    if shared if shared is not None else not of_this_machine:
        return Setting(SHARED, options, own)
    return Setting(OWN, None, options | own)


def _folder(path: str, shared: bool) -> Setting:
    if re.match(r"[\w.-]+@[\w.-]+:", path):
        raise InputError(f"received {path}; a place on another machine is written ssh://user@host/path")
    here = Path.cwd()
    place = path or f"../{here.name}-remote"
    meant = Path(os.path.normpath(here / Path(place).expanduser()))
    if meant.is_relative_to(here):
        raise InputError(f"received {place}, which lies inside the project, where git would see it; choose a folder outside")
    if meant.exists() and not meant.is_dir():
        raise InputError(f"received {place}, which is a file; expected a folder")
    if not meant.parent.is_dir():
        raise InputError(f"received {place}, but there is no {meant.parent}; is it mounted? Otherwise make that folder first")
    options = {"url": place, "verify": "true"}
    return Setting(SHARED, options, {}) if shared else Setting(OWN, None, options)


def _endpoint(endpoint: str) -> str:
    kind, host, path, query, fragment = urlsplit(endpoint)
    if kind not in ("http", "https") or not host or "@" in host or query or fragment or path.strip("/"):
        raise InputError(
            f"received --endpoint {urls.without_secrets(endpoint)}, expected http://host:port or https://host[:port]"
        )
    return endpoint.rstrip("/")


def _is_loopback(host: str | None) -> bool:
    if host is None or host == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def use(setting: Setting) -> str:
    """Writes the settings, and tries out the remote; gives what was done, in words.

    Raises:
        RefusedError: if it does not let this user in; it stays set.
        InputError: if it cannot be used otherwise, or git tracks a secret; what was set before stays.
    """
    if CONFIG.exists() and (found := secrets_in(CONFIG.read_text(encoding="utf-8"))):
        raise InputError(
            f"{CONFIG}, which git tracks, holds {', '.join(found)}; take it out (dvc remote modify --unset NAME OPTION), "
            "give it to this machine alone (dvc remote modify --local NAME OPTION ...), and change the secret if it was pushed"
        )
    try:
        with configured(setting.name, setting.shared, setting.own), objects.opened() as project:
            remote = project.remote()
            _in_time(remote.try_out, remote.name)
    except RefusedError as error:
        raise RefusedError(f"{error}. The remote is set, and the same command tries it again") from None
    except InputError as error:
        raise type(error)(f"{error}. What was set before stays") from None
    if setting.shared is None:
        return f"{_capital(remote.name)} is set for this machine ({OWN_CONFIG}). Next: sentiflow remote push"
    return f"{_capital(remote.name)} is set for everybody: commit {CONFIG}. Next: sentiflow remote push"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _in_time(attempt: Any, name: str) -> None:
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            attempt()
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not ended:
        raise UnavailableError(f"{name} did not answer within {PATIENCE:.0f} s; check that it runs and is within reach")
    if ended[0] is not None:
        raise ended[0]
