import socket
import subprocess

import pytest

from sentiflow.pipeline import objects
from sentiflow.sharing import remote, remote_settings
from sentiflow.system.errors import InputError, UnavailableError


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty DVC project."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    subprocess.run(["git", "init", "-q"], check=True)
    remote_settings.CONFIG.parent.mkdir()
    remote_settings.CONFIG.write_text("[core]\n    analytics = false\n")
    return folder


def test_without_a_url_the_remote_is_a_folder_next_to_the_project_for_this_machine_only(project):
    before = remote_settings.CONFIG.read_text()
    summary = remote.use(remote.read(""))
    assert "for this machine" in summary
    assert remote_settings.CONFIG.read_text() == before
    settings = remote_settings.OWN_CONFIG.read_text()
    assert "url = ../../project-remote" in settings
    assert "verify = true" in settings
    assert (project.parent / "project-remote").is_dir()
    assert not [file for file in (project.parent / "project-remote").rglob("*") if file.is_file()], "the test file was removed"


def test_config_local_is_readable_only_by_its_owner(project):
    remote.use(remote.read(""))
    assert remote_settings.OWN_CONFIG.stat().st_mode & 0o077 == 0


def test_a_mounted_folder_can_be_shared_through_git(project, tmp_path):
    remote.use(remote.read(""))
    summary = remote.use(remote.read(str(tmp_path / "mounted"), shared=True))
    assert "commit .dvc/config" in summary
    assert f"url = {tmp_path}/mounted" in remote_settings.CONFIG.read_text()
    with objects.opened() as opened:
        assert "mounted" in opened.remote().name, "the remote of this machine does not override it"


@pytest.mark.parametrize(
    ("url", "endpoint", "shared"),
    [
        ("s3://bucket/path", "", True),
        ("s3://bucket/path", "https://s3.example.org", True),
        ("s3://bucket/path", "http://127.0.0.1:9000", False),
        ("ssh://ann@example.org:2222/srv/models", "", True),
        ("ssh://localhost/srv/models", "", False),
        ("webdavs://example.org/models", "", True),
        ("webdav://[::1]:8080/models", "", False),
    ],
)
def test_settings_that_are_valid_on_every_machine_go_to_git(url, endpoint, shared):
    setting = remote.read(url, endpoint)
    assert (setting.shared is not None) is shared
    options = setting.shared if shared else setting.own
    assert options["verify"] == "true"
    assert options.get("endpointurl", "") == endpoint
    assert remote.read(url, endpoint, shared=True).shared is not None


def test_a_user_name_is_stored_on_this_machine_only():
    setting = remote.read("ssh://ann@example.org/srv/models")
    assert setting.shared["url"] == "ssh://example.org/srv/models"
    assert setting.own == {"user": "ann"}


@pytest.mark.parametrize(
    "url",
    [
        "ssh://ann:hidden@example.org/srv",
        "webdavs://ann:hidden@example.org/models",
        "s3://hidden@bucket/path",
        "webdavs://example.org/models?token=hidden",
    ],
)
def test_url_with_a_secret_is_refused_without_showing_it(url):
    with pytest.raises(InputError, match=r"leave it out.*dvc remote modify --local") as refused:
        remote.read(url)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "endpoint", "words"),
    [
        ("https://example.org/models", "", "write webdavs://"),
        ("file:///srv/models", "", "the plain path"),
        ("gs://bucket/path", "", "expected a folder, s3://"),
        ("s3://bucket", "", "lacks the path"),
        ("ssh:///srv/models", "", "lacks the host"),
        ("ann@example.org:models", "", "ssh://user@host/path"),
        ("here", "", "is inside the project"),
        ("../../nowhere/there", "", "is it mounted"),
        ("s3://bucket/path", "example.org:9000", "expected http://host:port"),
        ("s3://bucket/path", "http://ann:hidden@example.org", "expected http://host:port"),
        ("ssh://example.org/srv", "http://example.org", "leave it out"),
    ],
)
def test_an_invalid_url_is_refused_with_the_expected_format(url, endpoint, words, project):
    with pytest.raises(InputError, match=words) as refused:
        remote.use(remote.read(url, endpoint))
    assert "hidden" not in str(refused.value)
    assert not remote_settings.OWN_CONFIG.exists()


def test_an_unreachable_remote_restores_the_previous_settings(project):
    remote.use(remote.read(""))
    before = remote_settings.CONFIG.read_bytes(), remote_settings.OWN_CONFIG.read_bytes()
    with pytest.raises(UnavailableError, match=r"The previous settings were restored"):
        remote.use(remote.read("webdav://127.0.0.1:9/models", shared=True))
    assert (remote_settings.CONFIG.read_bytes(), remote_settings.OWN_CONFIG.read_bytes()) == before


def test_a_remote_that_never_responds_ends_in_a_timeout(project, monkeypatch):
    monkeypatch.setattr(remote, "TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections and never responds
        port = silent.getsockname()[1]
        with pytest.raises(UnavailableError, match="did not respond within 1 s"):
            remote.use(remote.read(f"webdav://127.0.0.1:{port}/models"))


def test_password_for_one_host_is_not_sent_to_another(project):
    with remote_settings.configured("shared", {"url": "webdav://a.example.org/models"}, {"user": "ann", "password": "hidden"}):
        pass
    with remote_settings.configured("shared", {"url": "webdav://a.example.org/other"}, {}):
        assert "hidden" in remote_settings.OWN_CONFIG.read_text()
    with remote_settings.configured("shared", {"url": "webdav://b.example.org/models"}, {}):
        assert "hidden" not in remote_settings.OWN_CONFIG.read_text()


def test_a_secret_in_the_tracked_configuration_is_refused(project):
    remote_settings.CONFIG.write_text("['remote \"a\"']\n    url = webdav://example.org/x\n    password = hidden\n")
    with pytest.raises(InputError, match="is in git and contains password") as refused:
        remote.use(remote.read(""))
    assert "hidden" not in str(refused.value)
