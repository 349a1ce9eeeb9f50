import os

from sentiflow.cli import environment

environment.prepare()
os.environ |= {f"GIT_{role}_NAME": "Ann" for role in ("AUTHOR", "COMMITTER")}
os.environ |= {f"GIT_{role}_EMAIL": "ann@example.org" for role in ("AUTHOR", "COMMITTER")}
