"""The audit against a service on this machine that answers as OSV does, and against none."""

import http.server
import json
import subprocess
import sys
import threading

import pytest

FLAW = {
    "id": "GHSA-0000-0000-0001",
    "summary": "Anyone may read it.",
    "affected": [
        {
            "package": {"name": "six", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.18.0"}]}],
        }
    ],
}
LOCK = "six==1.17.0 \\\n    --hash=sha256:" + "0" * 64 + "\nidna==3.10 \\\n    --hash=sha256:" + "1" * 64 + "\n"


class Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((asked["package"]["name"], asked["version"]))
        answer = self.server.answer or json.dumps({"vulns": [FLAW]} if asked["package"]["name"] == "six" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        server.asked, server.answer = [], None
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "requirements.lock").write_text(LOCK)
    ignore(tmp_path)
    return tmp_path


def ignore(folder, text=""):
    (folder / "pyproject.toml").write_text(f"[tool.sentiflow.audit.ignore]\n{text}\n")


def audit(folder, port):
    command = [sys.executable, "-m", "sentiflow.cli.audit", "--service", f"http://127.0.0.1:{port}/v1/query"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_known_vulnerability_is_told_and_fails_unless_it_is_ignored_with_a_reason(folder, service):
    ended = audit(folder, service.server_port)
    assert ended.returncode == 1
    assert "six 1.17.0: GHSA-0000-0000-0001: Anyone may read it. (put right in: 1.18.0)" in ended.stdout
    assert "2 of 2 locked packages looked up" in ended.stdout
    assert sorted(service.asked) == [("idna", "3.10"), ("six", "1.17.0")]

    ignore(folder, '"GHSA-0000-0000-0001" = "nothing here reads it"')
    ended = audit(folder, service.server_port)
    assert ended.returncode == 0, ended.stderr
    assert "ignored: GHSA-0000-0000-0001: nothing here reads it" in ended.stdout
    assert "0 known vulnerabilities" in ended.stdout


def test_a_vulnerability_is_not_ignored_without_a_reason(folder):
    ignore(folder, '"GHSA-0000-0000-0001" = " "')
    ended = audit(folder, 9)
    assert ended.returncode == 1
    assert "ignores GHSA-0000-0000-0001 without a reason" in ended.stderr


def test_a_service_that_is_away_or_answers_nonsense_is_one_message(folder, service):
    service.answer = b"<html>a proxy's page</html>"
    for ended in (audit(folder, 9), audit(folder, service.server_port)):
        assert ended.returncode == 1
        assert ended.stderr.startswith("error: http://127.0.0.1:")
        assert "so nothing is known of the locked packages" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert ended.stdout == ""
