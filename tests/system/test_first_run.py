"""``ainode init``: a configuration that holds what was answered, and nothing of before is lost."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from node.__main__ import main
from node.check import check
from node.config import AeTls, Config, load
from node.init.files import shipped
from node.init.viewers import VIEWERS
from node.tls import server_context
from node.web.users import matches, read_users


def init(folder: Path, *more: str, typed: str | None = None, yes: bool = True) -> Result:
    flags = ["--pacs-title", "ARCHIVE", "--pacs-host", "127.0.0.9", "--storage", str(folder / "data")]
    line = ["init", "--config", str(folder / "config.toml"), *([*flags, "--yes"] if yes else []), *more]
    return CliRunner().invoke(main, line, input=typed)


def written(folder: Path) -> Config:
    return load(folder / "config.toml")


def test_flags_make_a_configuration_and_the_neighbours_are_told(tmp_path: Path):
    done = init(tmp_path, "--title", "AI1", "--port", "104", "--commitment", "--pipelines", "nodule")
    assert done.exit_code == 0, done.output
    config = written(tmp_path)
    assert (config.ae.title, config.ae.port, config.storage.folder) == ("AI1", 104, tmp_path / "data")
    assert set(config.destinations) == {"pacs"}
    pacs = config.destinations["pacs"]
    assert (pacs.title, pacs.host, pacs.port, pacs.commitment) == ("ARCHIVE", "127.0.0.9", 104, True)
    assert [(rule.name, rule.pipelines) for rule in config.rules] == [("chest CT", ("nodule",))]
    assert set(config.pipelines) == {"nodule"}
    for line in (
        "Enter on the PACS",
        "AE title AI1",
        "Segmentation Storage",
        "Storage Commitment Push Model",
        "scanner",
    ):
        assert line in done.output


def test_the_transcript_of_the_page_has_the_lines_of_a_run(tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs" / "install.md").read_text(encoding="utf-8")
    asked, said = page.split("    $ ainode init ")[1].split("\n\n## ")[0].split("\n", 1)
    done = CliRunner().invoke(main, ["init", *asked.split(), "--config", str(tmp_path / "config.toml")])
    assert done.exit_code == 0, done.output

    def shape(text: str) -> list[str]:
        places = re.sub(r"\b(host|at) [\w.-]+|/\S+", "X", text)
        return [line.strip() for line in places.splitlines() if line.strip()]

    assert shape(done.output) == shape(said)


def test_questions_are_asked_and_their_defaults_taken(tmp_path: Path):
    typed = f"\n\n{tmp_path / 'data'}\nARCHIVE\npacs.example\n\ny\n\n\nadmin\nlong enough\nlong enough\n\n\n\n"
    done = init(tmp_path, typed=typed, yes=False)
    assert done.exit_code == 0, done.output
    config = written(tmp_path)
    assert (config.ae.title, config.ae.port) == ("AINODE", 11112)
    assert config.web.viewer_url == ""
    assert set(config.pipelines) == {"nodule", "tumor", "denoise", "brain"}
    assert config.destinations["pacs"].commitment
    assert config.web.enabled
    user = read_users(tmp_path / "data" / "web-users")["admin"]
    assert matches(user, "long enough")
    assert "long enough" not in done.output
    assert not config.ae.tls.enabled
    assert not (tmp_path / "tls").exists()


def test_questions_and_reports_are_in_the_language_of_the_administrator(tmp_path: Path):
    typed = f"\n\n{tmp_path / 'data'}\nARCHIVE\npacs.example\n\nvielleicht\nja\n\n\n\n\nNein\n"
    line = ["init", "--config", str(tmp_path / "config.toml")]
    done = CliRunner().invoke(main, line, input=typed, env={"LC_ALL": "de_DE.UTF-8"})
    assert done.exit_code == 0, done.output
    assert "[j/N]" in done.output
    assert "bitte ja oder nein antworten" in done.output
    pacs = written(tmp_path).destinations["pacs"]
    assert (pacs.commitment, pacs.language) == (True, "de")


def test_a_certificate_and_units_are_made_for_who_answers_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.executable", "/srv/ainode/bin/python")
    (tmp_path / "units").mkdir()
    typed = f"\n\n{tmp_path / 'data'}\nARCHIVE\npacs.example\n\n\n\n\n\ntest\ny\n"
    done = init(tmp_path, "--unit-folder", str(tmp_path / "units"), typed=typed, yes=False)
    assert done.exit_code == 0, done.output
    assert written(tmp_path).ae.tls.enabled
    assert (tmp_path / "units" / "ainode.service").exists()


def test_an_answer_that_will_not_do_is_told_at_once_and_asked_again(tmp_path: Path):
    typed = (
        f"MUCH TOO LONG A TITLE\nAI1\n70000\nmany\n104\n{tmp_path / 'data'}\nARCHIVE\npacs.example\n\n\nxx\nen\n"
        "nodul\nnodule\nno one\nadmin\nshort\nlong enough\nlong enough\nohif\nohif.example\nhttps://ohif.example/\n\n\n"
    )
    done = init(tmp_path, typed=typed, yes=False)
    assert done.exit_code == 0, done.output
    assert done.output.count("Error: ") == 8
    config = written(tmp_path)
    assert (config.ae.title, config.ae.port, set(config.pipelines)) == ("AI1", 104, {"nodule"})
    assert set(read_users(tmp_path / "data" / "web-users")) == {"admin"}
    assert config.web.viewer_url == "https://ohif.example/viewer?StudyInstanceUIDs={study}"


def test_a_flag_that_will_not_do_is_told_before_any_question(tmp_path: Path):
    done = init(tmp_path, "--port", "70000", yes=False)
    assert done.exit_code == 2
    assert "ae.port = 70000" in done.output
    assert "AE title of this node" not in done.output


@pytest.mark.parametrize("name", VIEWERS)
def test_the_viewer_is_written_as_the_page_on_the_dashboard_and_the_comment_have_it(tmp_path: Path, name: str):
    address = {
        "ohif": "https://ohif.example.org/",
        "weasis": "https://pacs.example.org/dicom-web",
    }.get(name, "https://orthanc.example.org")
    done = init(tmp_path, "--viewer", name, "--viewer-address", address)
    assert done.exit_code == 0, done.output
    url = written(tmp_path).web.viewer_url
    assert f"the page of a study will have a link to {url}" in done.output
    docs = Path(__file__).parents[2] / "docs" / "dashboard.md"
    (row,) = (line for line in docs.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}` |"))
    assert f"| `{url}` |" in row
    assert f'"{url}"' in shipped("config.toml").read_text(encoding="utf-8")


def test_comments_of_the_shipped_file_stay(tmp_path: Path):
    init(tmp_path)
    assert "# AE title of this node" in (tmp_path / "config.toml").read_text()


def test_an_existing_file_is_replaced_only_by_force(tmp_path: Path):
    (tmp_path / "config.toml").write_text("# mine\n")
    done = init(tmp_path)
    assert done.exit_code == 2
    assert "exists and was not changed; use --force" in done.output
    assert (tmp_path / "config.toml").read_text() == "# mine\n"
    assert init(tmp_path, "--force").exit_code == 0
    assert written(tmp_path).destinations


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--port", "70000"), "ae.port = 70000"),
        (("--title", "MUCH TOO LONG A TITLE"), "ae.title"),
        (("--pipelines", "nodul"), "pipelines nodul: not shipped; choose from nodule, tumor, denoise, brain"),
        (("--web-user", "admin"), "--web-password-file is needed"),
        (("--viewer", "ohif"), "--viewer-address is needed with --yes and --viewer"),
        (("--viewer-address", "https://ohif.example"), "name it with --viewer"),
        (("--viewer", "ohif", "--viewer-address", "javascript:alert(1)"), "must begin with https:// or http://"),
        (("--viewer", "ohif", "--viewer-address", "https://a/?x={y}"), "have neither ? nor #"),
        (("--viewer", "horos"), "'horos' is not one of 'ohif', 'orthanc-ohif', 'orthanc-stone', 'orthanc-explorer-2',"),
    ],
)
def test_an_answer_that_will_not_do_writes_nothing(tmp_path: Path, more: tuple[str, ...], words: str):
    done = init(tmp_path, *more)
    assert done.exit_code == 2
    assert words in done.output
    assert list(tmp_path.iterdir()) == []


def test_without_a_keyboard_the_pacs_must_be_named(tmp_path: Path):
    done = CliRunner().invoke(main, ["init", "--config", str(tmp_path / "c.toml"), "--yes"])
    assert done.exit_code == 2
    assert "--pacs-title is needed with --yes" in done.output


def test_a_test_authority_makes_a_node_that_can_speak_tls(tmp_path: Path):
    done = init(tmp_path, "--test-ca")
    assert done.exit_code == 0, done.output
    tls = written(tmp_path).ae.tls
    assert tls.enabled
    assert isinstance(server_context(AeTls.model_validate(tls.model_dump())), ssl.SSLContext)
    verify = ["openssl", "verify", "-CAfile", tls.ca, tls.certificate]
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 0
    assert Path(tls.key).stat().st_mode & 0o077 == 0
    key = Path(tls.ca).with_suffix(".key")
    assert f"move {key} to another machine" in done.output
    (reminder,) = (result for result in check(written(tmp_path), pipelines=()) if result.name == "tls")
    assert (reminder.word, str(key) in reminder.remedy) == ("note", True)
    key.unlink()
    (moved,) = (result for result in check(written(tmp_path), pipelines=()) if result.name == "tls")
    assert moved.word == "ok"


def test_a_request_leaves_tls_off_until_it_is_signed(tmp_path: Path):
    done = init(tmp_path, "--csr")
    assert done.exit_code == 0, done.output
    request = ["openssl", "req", "-verify", "-noout", "-in", str(tmp_path / "tls" / "ainode.csr")]
    assert subprocess.run(request, capture_output=True, check=False).returncode == 0
    assert not written(tmp_path).ae.tls.enabled
    (tmp_path / "config.toml").unlink()
    key = (tmp_path / "tls" / "ainode.key").read_bytes()
    assert "ainode.key exists and was not changed" in init(tmp_path, "--csr").output
    assert (tmp_path / "tls" / "ainode.key").read_bytes() == key


def test_units_are_written_for_this_program_and_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.executable", "/srv/ainode/bin/python")
    units = tmp_path / "units"
    units.mkdir()
    done = init(tmp_path, "--port", "104", "--install-units", "--unit-folder", str(units))
    assert done.exit_code == 0, done.output
    text = (units / "ainode.service").read_text()
    assert f"--config {tmp_path / 'config.toml'}" in text
    assert "/opt/ainode/.venv" not in text
    more = (units / "ainode.service.d" / "init.conf").read_text()
    assert f"ReadWritePaths={tmp_path / 'data'}" in more
    assert "CAP_NET_BIND_SERVICE" in more
    assert f"wrote {units / 'ainode.service'}" in done.output


def test_the_configuration_of_the_debian_package_is_replaced_until_it_is_edited(tmp_path: Path):
    (tmp_path / "config.toml").write_bytes(shipped("config.toml").read_bytes())
    assert init(tmp_path).exit_code == 0
    before = (tmp_path / "config.toml").read_bytes()
    assert init(tmp_path).exit_code == 2
    assert (tmp_path / "config.toml").read_bytes() == before


def test_units_of_the_debian_package_are_adapted_and_not_covered_by_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.executable", "/srv/ainode/bin/python")
    packaged, units = tmp_path / "lib", tmp_path / "units"
    packaged.mkdir()
    units.mkdir()
    monkeypatch.setattr("node.init.files.PACKAGED", packaged)
    assert init(tmp_path, "--install-units", "--unit-folder", str(units)).exit_code == 0
    for unit in list(units.glob("*.service")):
        unit.rename(packaged / unit.name)
    assert init(tmp_path, "--force", "--port", "104", "--install-units", "--unit-folder", str(units)).exit_code == 0
    assert not list(units.glob("*.service"))
    assert "CAP_NET_BIND_SERVICE" in (units / "ainode.service.d" / "init.conf").read_text()


@pytest.mark.parametrize(
    ("python", "more", "hidden"),
    [
        ("/home/me/node/.venv/bin/python", (), "/home/me/node/.venv/bin/python"),
        ("/srv/ainode/bin/python", ("--config", "/root/config.toml"), "/root/config.toml"),
        ("/srv/ainode/bin/python", ("--storage", "/home/data"), "/home/data"),
    ],
)
def test_units_that_could_not_read_their_files_are_refused_before_anything_is_written(
    python: str, more: tuple[str, ...], hidden: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.executable", python)
    done = init(tmp_path, "--install-units", "--unit-folder", str(tmp_path), *more)
    assert done.exit_code != 0
    assert f"services cannot read {hidden} (ProtectHome=yes)" in done.output
    assert list(tmp_path.iterdir()) == []
