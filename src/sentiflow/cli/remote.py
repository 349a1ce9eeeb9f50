"""The remote, through which data and models are shared."""

import sys
from typing import Annotated

import typer

from sentiflow.cli.command import in_project
from sentiflow.system import terminal

app = typer.Typer(help="Share data and models through a folder, S3, SSH or WebDAV.")


@app.command("set")
@in_project()
def set_remote(
    url: Annotated[
        str, typer.Argument(help="folder, s3://..., ssh://..., webdav(s)://...; by default a folder next to the project")
    ] = "",
    endpoint: Annotated[str, typer.Option(help="http(s)://host:port of an S3-compatible store")] = "",
    shared: Annotated[
        bool | None,
        typer.Option(help="in .dvc/config, which git shares, or only on this machine; by default as the kind of URL suggests"),
    ] = None,
) -> None:
    """Set the remote, and try it out.

    A URL with a secret in it is refused, since others could read it.

    Example: sentiflow remote set s3://bucket/sentiflow --endpoint https://storage.example.org
    """
    from sentiflow.sharing import remote

    terminal.tell(remote.use(remote.read(url, endpoint, shared=shared)))


@app.command()
@in_project()
def push() -> None:
    """Upload everything that dvc.lock references.

    Example: sentiflow remote push
    """
    from sentiflow.sharing import push_pull

    terminal.tell(push_pull.push())


@app.command()
@in_project()
def pull() -> None:
    """Download everything that dvc.lock references.

    Example: sentiflow remote pull
    """
    from sentiflow.sharing import push_pull

    terminal.tell(push_pull.pull())


@app.command()
@in_project()
def check(
    commit: Annotated[str, typer.Argument(help="whose dvc.lock and .dvc files are checked")] = "HEAD",
    pushed: Annotated[
        str | None, typer.Option(hidden=True, help="for git's pre-push hook: the git remote; the commits come from stdin")
    ] = None,
) -> None:
    """Check that the remote has every file of a commit.

    Example: sentiflow remote check HEAD~1
    """
    from sentiflow.sharing import check_remote

    if pushed is None:
        terminal.tell(check_remote.check_commit(commit))
    elif checked := check_remote.check_pushed(sys.stdin, pushed):
        print(terminal.printable(checked), file=sys.stderr)


@app.command()
@in_project()
def repair(dry_run: Annotated[bool, typer.Option("--dry-run", help="report only, and change nothing")] = False) -> None:
    """Find damaged files, and restore them.

    It reads the cache, the remote and this folder; a file is restored from where it is intact.

    Example: sentiflow remote repair --dry-run
    """
    from sentiflow.sharing import check_data

    terminal.tell(check_data.check(heal=not dry_run))
