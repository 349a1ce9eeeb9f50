"""Looks every package of requirements.lock up for known vulnerabilities, with pip-audit, at a service on the network.

What is known and cannot be put right stands in pyproject.toml, under `[tool.sentiflow.audit.ignore]`, each with its reason.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from sentiflow.pipeline import repro
from sentiflow.system import terminal
from sentiflow.system.errors import InputError, UnavailableError

LOCK = Path("requirements.lock")
PROJECT = Path("pyproject.toml")
SERVICE = "https://api.osv.dev/v1/query"
SECONDS = 15  # for one answer


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sentiflow.cli.audit", description="Look the locked packages up for known vulnerabilities."
    )
    parser.add_argument("--service", default=SERVICE, help=f"where to ask, in the way of OSV; {SERVICE} where none is given")
    arguments = parser.parse_args()
    with repro.errors_told():
        if audit(arguments.service or SERVICE):
            sys.exit(1)


def audit(service: str = SERVICE) -> int:
    """Prints what the service knows of the locked packages.

    Returns:
        The number of vulnerabilities that are not on the list of those to ignore.

    Raises:
        InputError: if there is no lock, or an entry of the list has no reason.
        UnavailableError: if the service does not answer.
    """
    ignored = to_ignore(PROJECT)
    if not LOCK.exists():
        raise InputError(f"no {LOCK} in {Path.cwd()}; run this from the top folder of the project")
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--timeout", str(SECONDS)]
    options += [word for name in ignored for word in ("--ignore-vuln", name)]
    command = [sys.executable, "-P", "-m", "pip_audit", "--vulnerability-service", "osv", "--osv-url", service, *options]
    ended = subprocess.run([*command, "--requirement", str(LOCK)], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        said = (ended.stderr.strip().splitlines() or [f"pip-audit ended with status {ended.returncode}"])[-1]
        raise UnavailableError(
            f"{service} gave no answer that can be read, so nothing is known of the locked packages ({said[:300]}); try again "
            "with a network, or name another service in the way of OSV: make audit SERVICE=URL"
        ) from None
    found = [(package, flaw) for package in packages for flaw in package.get("vulns", [])]
    for package, flaw in found:
        terminal.tell(_line(package, flaw))
    for name, reason in ignored.items():
        terminal.tell(f"ignored: {name}: {reason}")
    asked = sum("vulns" in package for package in packages)
    terminal.tell(f"{asked} of {len(packages)} locked packages looked up at {service}: {len(found)} known vulnerabilities.")
    return len(found)


def to_ignore(project: Path) -> dict[str, str]:
    """Vulnerabilities to pass over, each with the reason.

    Raises:
        InputError: if one has no reason.
    """
    listed = tomllib.loads(project.read_text(encoding="utf-8"))["tool"]["sentiflow"]["audit"]["ignore"]
    for name, reason in listed.items():
        if not isinstance(reason, str) or not reason.strip():
            raise InputError(f"{project} ignores {name} without a reason; write why it cannot be put right, or remove it")
    return dict(listed)


def _line(package: dict[str, Any], flaw: dict[str, Any]) -> str:
    fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
    return f"{package['name']} {package['version']}: {flaw['id']}: {flaw['description'][:160]} (put right in: {fixed})"


if __name__ == "__main__":
    main()
