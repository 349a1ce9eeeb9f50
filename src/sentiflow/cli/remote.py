"""Commands for the remote, through which data and models are shared."""

import sys
from typing import Annotated

import typer

from sentiflow.cli.command import in_project
from sentiflow.system import terminal

app = typer.Typer(help="Share data and models through a folder, S3, SSH or WebDAV.")
hooks_app = typer.Typer()


@app.command("set")
@in_project()
def set_remote(
    url: Annotated[
        str, typer.Argument(help="Folder, s3://, ssh:// or webdav(s):// URL; by default a folder next to this one.")
    ] = "",
    endpoint: Annotated[str, typer.Option(help="URL of an S3-compatible store, http(s)://host:port.")] = "",
    shared: Annotated[bool | None, typer.Option(help="Share the settings through git; by default depends on the URL.")] = None,
) -> None:
    """Set and test the remote.

    A URL that contains a secret is refused, because other users could read it.

    \b
    Examples:
      sentiflow remote set /mnt/team/models --shared
      sentiflow remote set s3://bucket/sentiflow --endpoint https://s3.example.org
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
    commit: Annotated[str, typer.Argument(help="Commit whose dvc.lock and .dvc files are checked.")] = "HEAD",
    pushed: Annotated[str | None, typer.Option(hidden=True, help="For the pre-push hook: git remote; commits on stdin.")] = None,
) -> None:
    """Check that the remote has every file of a commit.

    Example: sentiflow remote check HEAD~1
    """
    from sentiflow.sharing import check_remote

    if pushed is None:
        terminal.tell(check_remote.check([commit]))
    elif checked := check_remote.check_pushed(sys.stdin, pushed):
        print(terminal.printable(checked), file=sys.stderr)


@app.command()
@in_project()
def repair(dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report, without changing anything.")] = False) -> None:
    """Find and repair damaged files.

    Checks the cache, the remote and this folder. A damaged file is replaced by an intact copy.

    Example: sentiflow remote repair --dry-run
    """
    from sentiflow.sharing import check_data

    terminal.tell(check_data.check(repair=not dry_run))


@hooks_app.command()
@in_project()
def hooks() -> None:
    """Install git's pre-push hook.

    The hook refuses a push of commits whose data the remote lacks.

    Example: sentiflow hooks
    """
    from sentiflow.sharing import hooks

    print(f"Wrote {hooks.install()}. To push without the check: git push --no-verify")
