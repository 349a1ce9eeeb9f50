"""Which remote is set, and how: in .dvc/config, which git tracks, or in .dvc/config.local, which has what is secret."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dvc.config import Config

from sentiflow.pipeline.objects import dvc_errors_told
from sentiflow.pipeline.stores import RefusedError

CONFIG, OWN_CONFIG = Path(".dvc/config"), Path(".dvc/config.local")  # of these git tracks the first
# Options of a remote that are secrets, of any kind that DVC knows.
SECRETS = re.compile(
    r"password|passphrase|token|access_key_id|secret_access_key|session_token|account_key|sas_token|"
    r"connection_string|client_secret|oss_key_id|oss_key_secret|custom_auth_header|sse_customer_key|bearer_token_command"
)


@contextlib.contextmanager
def configured(name: str, shared: Mapping[str, str] | None, own: Mapping[str, str]) -> Iterator[None]:
    """Makes a remote of this name the default; what was set before is back if the block fails, unless a password is all it lacks.

    Args:
        shared: options for .dvc/config, which git tracks; None leaves that file as it is.
        own: options for .dvc/config.local, which git ignores; they are added to those that stand there for this remote, if it
            is still on the same host.
    """
    files = {file: file.read_bytes() if file.exists() else None for file in (CONFIG, OWN_CONFIG)}
    OWN_CONFIG.touch(mode=0o600)  # before DVC writes into it: it may come to hold passwords
    try:
        with dvc_errors_told():
            config = Config(dvc_dir=str(CONFIG.parent), validate=False)
            old = config["remote"].get(name, {}).get("url", "")
            with config.edit("local", validate=False) as local:
                kept = local["remote"].get(name, {}) if _host(old) == _host((shared or own).get("url", "")) else {}
                local["remote"][name] = {**kept, **own}
                local["core"]["remote"] = name
                if shared is not None:
                    del local["core"]["remote"]  # or it would hide that of .dvc/config
            if shared is not None:
                with config.edit("repo", validate=False) as repo:
                    kept = repo["remote"].get(name, {}) if old == shared["url"] else {}
                    repo["remote"][name] = {**kept, **shared}
                    repo["core"]["remote"] = name
            Config(dvc_dir=str(CONFIG.parent))
        yield
    except BaseException as error:
        if not isinstance(error, RefusedError):
            for file, content in files.items():
                file.unlink(missing_ok=True) if content is None else file.write_bytes(content)
        raise


def _host(url: str) -> str:
    """What a password is for."""
    return urlsplit(url).netloc.rpartition("@")[2] if "://" in url else url


def secrets_in(config: str) -> list[str]:
    r"""Options of a .dvc/config that must not be in git: passwords, keys and tokens, and URLs that hold one.

    >>> secrets_in("['remote \"a\"']\n    url = ssh://ann:pw@host/x\n    password = pw\n")
    ['url', 'password']
    """
    options = re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(\S.*)$", config, re.MULTILINE)
    with_password = re.compile(r"[^/]+://[^/@:]*:[^/@]*@")
    return [name for name, value in options if SECRETS.fullmatch(name) or (name == "url" and with_password.match(value))]
