"""The shipped units: valid, hardened alike, and naming commands that exist."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from node.__main__ import main
from node.roles import ROLES

FOLDER = Path(__file__).parents[2] / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
ALL_IN_ONE = "ainode.service"
PAGES = [FOLDER / "README.md", *sorted(FOLDER.parent.glob("docs/*.md")), FOLDER.parent / "README.md"]
LINES = sorted(
    {
        line
        for page in PAGES
        for line in re.findall(
            r"(?:^    |`)((?:systemctl|journalctl|systemd-run|systemd-analyze) [^`\n]+)",
            page.read_text("utf-8"),
            re.MULTILINE,
        )
    }
)
"""What the pages have people type to systemd."""
WITH_PYTORCH = {"ainode.service", "ainode-worker@.service"}
FOR_NAMESPACES = {
    "Delegate",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelTunables",
    "RestrictNamespaces",
    "SystemCallFilter",
}
"""In what they differ from the others, so that their models can be set apart."""


def settings(unit: Path) -> list[tuple[str, str]]:
    """The ``Key=value`` lines in their order; a key may stand several times."""
    lines = (line.strip() for line in unit.read_text(encoding="utf-8").splitlines())
    return [
        (key, value) for key, equals, value in (line.partition("=") for line in lines if line[:1].isalpha()) if equals
    ]


def command(unit: Path) -> list[str]:
    (line,) = [value for key, value in settings(unit) if key == "ExecStart"]
    return shlex.split(line)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units as on a machine where the program is installed."""
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace(command(unit)[0], "/bin/true")
        (tmp_path / unit.name.replace("@.", "@0.")).write_text(text, encoding="utf-8")
    return tmp_path


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    line = ["systemd-analyze", "--no-pager", *map(str, arguments)]
    return subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command_that_exists(unit: Path) -> None:
    program, verb, *arguments = command(unit)
    assert Path(program).name == "ainode"
    context = main.commands[verb].make_context(verb, list(arguments))
    role = context.params["only"]
    assert (role is None) == (unit.name == ALL_IN_ONE)
    if role is not None:
        assert role in ROLES
        assert unit.stem == f"ainode-{role}" + "@" * unit.stem.endswith("@")


def test_every_role_has_its_unit() -> None:
    assert {unit.stem.rstrip("@").removeprefix("ainode-") for unit in UNITS if unit.name != ALL_IN_ONE} == set(ROLES)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_a_unit(unit: Path, installed: Path) -> None:
    done = analyze("verify", installed / unit.name.replace("@.", "@0."))
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_stays_as_locked_down_as_it_is(unit: Path, installed: Path) -> None:
    path = installed / unit.name.replace("@.", "@0.")
    # Tenths of systemd's exposure level. It counts that a model's process may make namespaces of its own.
    limit = 32 if unit.name in WITH_PYTORCH else 15
    done = analyze("security", "--offline=true", f"--threshold={limit}", path)
    assert done.returncode == 0, done.stdout


def test_all_units_share_one_hardening() -> None:
    def common(unit: Path) -> list[tuple[str, str]]:
        pairs = settings(unit)
        return pairs[pairs.index(("User", "ainode")) : pairs.index(("SystemCallErrorNumber", "EPERM"))]

    kinds = {tuple(common(unit)): unit.name in WITH_PYTORCH for unit in UNITS}
    assert sorted(kinds.values()) == [False, True]
    models, others = sorted(map(set, kinds), key=lambda kind: ("RestrictNamespaces", "yes") in kind)
    assert {key for key, _ in models ^ others} == FOR_NAMESPACES
    refusing = {unit.name for unit in UNITS if ("MemoryDenyWriteExecute", "yes") in settings(unit)}
    assert refusing == {unit.name for unit in UNITS} - WITH_PYTORCH


def test_the_owner_of_the_configuration_decides_whether_the_node_may_write_it() -> None:
    for unit in UNITS:
        pairs = settings(unit)
        assert ("ProtectSystem", "strict") in pairs
        assert [value for key, value in pairs if key == "ReadWritePaths"] == ["-/etc/ainode"]


def test_the_units_say_ready_and_are_watched() -> None:
    for unit in UNITS:
        values = dict(settings(unit))
        assert (values["Type"], values["NotifyAccess"], values["Restart"]) == ("notify", "main", "always")
        assert int(values["WatchdogSec"]) > 30


def test_a_reload_is_the_signal_that_the_supervisor_obeys() -> None:
    for unit in UNITS:
        assert dict(settings(unit))["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_the_install_notes_name_every_unit() -> None:
    notes = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [unit.name for unit in UNITS if unit.stem not in notes] == []


@pytest.mark.parametrize("line", LINES)
def test_a_line_for_systemd_has_verb_options_and_units_that_exist(line: str) -> None:
    program, *words = shlex.split(line)
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (Debian package systemd)")
    known = subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout
    options = [word for word in words if word.startswith("-")]
    assert [word for word in options if not re.search(rf"(?<![\w-]){re.escape(word.partition('=')[0])}\b", known)] == []
    names = [word for word in words if not word.startswith("-")]
    if program == "systemd-run":
        assert Path(names[-2]).name == "ainode"
        assert names[-1] in main.commands
        return
    if program != "journalctl":
        assert re.search(rf"^  {re.escape(names.pop(0))}\b", known, re.MULTILINE)
    shipped = {re.sub("@.*", "@", unit.stem) for unit in UNITS}
    wanted = [re.sub("@.*", "@", name) for name in names if name != "UNIT"]
    if program == "journalctl":
        del wanted[1:]  # the first is that of -u, the other is looked for
    others = {"podman.socket"}
    assert [name for name in wanted if not fnmatch.filter(shipped | others, name)] == []


def test_the_pages_have_lines_for_systemd() -> None:
    assert len(LINES) > 8
