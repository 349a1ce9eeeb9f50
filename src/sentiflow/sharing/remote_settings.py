"""Settings of the remote in .dvc/config, which is in git, and in .dvc/config.local, which may contain secrets."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from dvc.config import Config

from sentiflow.pipeline.objects import dvc_errors_told
from sentiflow.pipeline.stores import RefusedError

CONFIG, OWN_CONFIG = Path(".dvc/config"), Path(".dvc/config.local")
# Secret options of all kinds of DVC remotes.
SECRETS = re.compile(
    r"password|passphrase|token|access_key_id|secret_access_key|session_token|account_key|sas_token|"
    r"connection_string|client_secret|oss_key_id|oss_key_secret|custom_auth_header|sse_customer_key|bearer_token_command"
)


@contextlib.contextmanager
def configured(name: str, shared: Mapping[str, str] | None, own: Mapping[str, str]) -> Iterator[None]:
    """Set the default remote. The previous settings are restored if the block fails, except if only authentication failed.

    Args:
        name: of the remote.
        shared: options for .dvc/config; None to leave that file unchanged.
        own: options for .dvc/config.local; existing options of this remote are kept if its host is unchanged.
    """
    files = {file: file.read_bytes() if file.exists() else None for file in (CONFIG, OWN_CONFIG)}
    OWN_CONFIG.touch(mode=0o600)  # before DVC writes to it: it may contain passwords later
    try:
        with dvc_errors_told():
            config = Config(dvc_dir=str(CONFIG.parent), validate=False)
            old = config["remote"].get(name, {}).get("url", "")
            with config.edit("local", validate=False) as local:
                kept = local["remote"].get(name, {}) if _host(old) == _host((shared or own).get("url", "")) else {}
                local["remote"][name] = {**kept, **own}
                local["core"]["remote"] = name
                if shared is not None:
                    del local["core"]["remote"]  # it would override that of .dvc/config
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
    return urlsplit(url).netloc.rpartition("@")[2] if "://" in url else url


def secrets_in(config: str) -> list[str]:
    r"""Names of options in the text of a .dvc/config that must not be in git: passwords, keys, tokens, URLs with a password.

    >>> secrets_in("['remote \"a\"']\n    url = ssh://ann:pw@host/x\n    password = pw\n")
    ['url', 'password']
    """
    options = re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(\S.*)$", config, re.MULTILINE)
    with_password = re.compile(r"[^/]+://[^/@:]*:[^/@]*@")
    return [name for name, value in options if SECRETS.fullmatch(name) or (name == "url" and with_password.match(value))]
