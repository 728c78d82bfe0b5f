"""What is logged about a study names it, is kept for its page by every process, has an end, and is forgotten."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.log import (
    Json,
    StudyLog,
    Text,
    WarningLog,
    about,
    delete_study_log,
    logged_studies,
    study_lines,
    subject,
    warning_lines,
)

STUDY = "1.2.840.99"


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[logging.Logger]:
    """A logger whose lines about studies are kept in ``logs`` below the test's folder."""
    logger, handler = logging.getLogger("of_a_test"), StudyLog(tmp_path / "logs", lambda _: True)
    logger.addHandler(handler)
    logger.propagate = False
    yield logger
    logger.removeHandler(handler)


def messages(tmp_path: Path, limit: int = 10**6) -> list[str]:
    return [line["message"] for line in study_lines(tmp_path / "logs", STUDY, limit)]


def test_what_is_logged_for_a_study_is_kept_with_it_and_nothing_else(keeper: logging.Logger, tmp_path: Path) -> None:
    with about(STUDY, job="0123456789abcdef"):
        keeper.warning("job %s failed", "0123456789abcdef")
        with about("1.2.3"):
            keeper.warning("of another")
    keeper.warning("of none")
    with about(STUDY):
        keeper.warning("study %s forgotten", STUDY)
    lines = study_lines(tmp_path / "logs", STUDY, 10)
    assert [line["message"] for line in lines] == ["job 0123456789abcdef failed", f"study {STUDY} forgotten"]
    assert (lines[0]["job"], lines[0]["level"], lines[0]["study"]) == ("0123456789abcdef", "WARNING", STUDY)
    assert subject() == {}


def test_a_traceback_is_kept_with_its_line(keeper: logging.Logger, tmp_path: Path) -> None:
    with about(STUDY):
        try:
            int("of a test")
        except ValueError:
            keeper.exception("job broke")
    assert "ValueError: invalid literal" in study_lines(tmp_path / "logs", STUDY, 1)[0]["traceback"]


def test_the_lines_of_a_study_have_an_end_and_the_newest_stay(keeper: logging.Logger, tmp_path: Path) -> None:
    with about(STUDY):
        for number in range(3000):
            keeper.warning("line %d %s", number, "x" * 100)
        keeper.warning("y" * 10**6)
    files = list((tmp_path / "logs").iterdir())
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) < 2 * (64 + 9) * 1024
    lines = messages(tmp_path)
    assert len(lines) > 200
    assert lines[-2].startswith("line 2999 ")
    assert messages(tmp_path, 5) == lines[-5:]


def test_processes_that_log_at_the_same_time_mix_no_lines(tmp_path: Path) -> None:
    code = (
        "import logging, sys\nfrom pathlib import Path\nfrom node.log import StudyLog, about\n"
        f"logging.getLogger().addHandler(StudyLog(Path({str(tmp_path / 'logs')!r}), lambda _: True))\n"
        f"with about({STUDY!r}):\n"
        "    for n in range(50):\n        logging.warning('%s %d %s', sys.argv[1], n, 'x' * 200)"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "abc"]
    assert [process.wait() for process in running] == [0, 0, 0]
    words = [message.split() for message in messages(tmp_path)]
    assert sorted((name, int(n)) for name, n, _ in words) == [(name, n) for name in "abc" for n in range(50)]


def test_a_disk_that_refuses_stops_nothing(
    keeper: logging.Logger, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").rmdir()
    (tmp_path / "logs").write_text("no folder any more")
    keeper.propagate = True
    with about(STUDY):
        keeper.warning("still goes to the log itself")
    assert "still goes to the log itself" in caplog.text
    assert (tmp_path / "logs").read_text() == "no folder any more"


def test_a_torn_line_hides_no_other(keeper: logging.Logger, tmp_path: Path) -> None:
    with about(STUDY):
        keeper.warning("before")
    with (tmp_path / "logs" / f"{STUDY}.jsonl").open("a") as file:
        file.write('{"time": "2026-\n')
    with about(STUDY):
        keeper.warning("after")
    assert messages(tmp_path) == ["before", "after"]


def test_a_forgotten_study_leaves_no_lines(keeper: logging.Logger, tmp_path: Path) -> None:
    with about(STUDY):
        for _ in range(1000):
            keeper.warning("x" * 100)
    delete_study_log(tmp_path / "logs", STUDY)
    assert list((tmp_path / "logs").iterdir()) == []


def test_both_forms_of_the_log_name_the_study_so_that_it_can_be_searched_for() -> None:
    record = logging.LogRecord("node", logging.INFO, "", 1, "job done", (), None)
    with about(STUDY):
        assert json.loads(Json().format(record))["study"] == STUDY
        assert Text().format(record).endswith(f"INFO node: job done (study {STUDY})")
    assert Text().format(record).endswith("job done")


def test_what_a_library_says_of_a_destination_that_is_down_is_not_said_twice() -> None:
    code = (
        "import logging; from node.log import set_up; set_up('INFO', 'text');"
        "logging.getLogger('pynetdicom.transport').error('unable to connect');"
        "logging.getLogger('pynetdicom.acse').error('Association Rejected');"
        "logging.getLogger('pynetdicom.events').error('a handler broke')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "a handler broke" in done.stderr
    assert "unable to connect" not in done.stderr
    assert "Association Rejected" not in done.stderr


HOSTILE = "x\n2026-01-01 00:00:00,000 CRITICAL node: disk is gone\x1b[2J\u2028\u202e\ud800" + "y" * 60_000


def formatted(form: logging.Formatter, text: str, error: BaseException | None = None) -> str:
    exc_info = (type(error), error, error.__traceback__) if error is not None else None
    return form.format(logging.LogRecord("node", logging.WARNING, "", 1, "from %s", (text,), exc_info))  # type: ignore[arg-type]


@pytest.mark.parametrize("form", [Text(), Json()], ids=["text", "json"])
def test_a_peer_can_forge_no_line_steer_no_terminal_and_write_no_page(form: logging.Formatter) -> None:
    with about("1.2\n3"):
        line = formatted(form, HOSTILE)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert len(line) < 5000
    assert "x\\n2026" in line.replace("\\\\", "\\")


def raised(text: str) -> BaseException:
    try:
        try:
            int(text)
        except ValueError as error:
            raise RuntimeError(text) from error
    except RuntimeError as error:
        return error


def test_a_traceback_keeps_its_lines_and_none_of_them_looks_like_a_message() -> None:
    first, *lines = formatted(Text(), "x", raised(HOSTILE)).split("\n")
    assert first.endswith("WARNING node: from x")
    assert len(lines) > 8
    assert all(line.startswith("    ") and line.isprintable() and len(line) < 2000 for line in lines)
    assert not any("2026-01-01" in line[:20] for line in lines if not line.startswith("    "))
    entry = json.loads(formatted(Json(), "x", raised(HOSTILE)))
    assert all(line.isprintable() and len(line) < 2000 for line in entry["traceback"].split("\n"))
    assert len(formatted(Text(), "x", raised("line\n" * 10**5))) < 300_000


def test_a_message_whose_arguments_do_not_fit_is_escaped_too(capsys: pytest.CaptureFixture[str]) -> None:
    record = logging.LogRecord("node", logging.WARNING, "", 1, "%d images", (HOSTILE,), None)
    for form in (Text(), Json()):
        assert form.format(record).isprintable()
    assert capsys.readouterr().err == ""


def test_warnings_of_libraries_and_uncaught_exceptions_go_through_the_log() -> None:
    code = (
        "import threading, warnings; from node.log import log_uncaught, set_up\n"
        "set_up('INFO', 'text'); log_uncaught()\n"
        "warnings.warn('of a library\\n2026 forged \\x1b[2J')\n"
        "def broken(): raise ValueError('of a thread\\n2026 forged \\x1b[2J')\n"
        "thread = threading.Thread(target=broken); thread.start(); thread.join()\n"
        "raise ValueError('of the main thread\\n2026 forged \\x1b[2J')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for words in ("of a library", "of a thread", "of the main thread"):
        assert words in done.stderr
    assert "\x1b" not in done.stderr
    assert not any(line.startswith("2026 forged") for line in done.stderr.splitlines())


def test_only_studies_that_exist_have_a_log(tmp_path: Path) -> None:
    logger, handler = logging.getLogger("of_a_test"), StudyLog(tmp_path / "logs", {STUDY}.__contains__)
    logger.addHandler(handler)
    logger.propagate = False
    for study in (STUDY, "1.2.3", "../../secret", "1.2/3", "1.2\n3", "x" * 300, "\ud800"):
        with about(study):
            logger.warning("an image of %s was refused", study)
    logger.removeHandler(handler)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == [f"{STUDY}.jsonl"]


def test_warnings_and_errors_of_every_study_and_of_none_are_kept_and_have_an_end(tmp_path: Path) -> None:
    logger, handler = logging.getLogger("of_a_test"), WarningLog(tmp_path / "logs")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        logger.warning("before the folder exists")
        (tmp_path / "logs").mkdir()
        logger.info("all is well")
        logger.warning("disk %s", "full\nforged line")
        with about(STUDY):
            logger.error("job failed")
        assert [(line["level"], line["message"], line.get("study")) for line in warning_lines(tmp_path / "logs")] == [
            ("WARNING", "disk full\\nforged line", None),
            ("ERROR", "job failed", STUDY),
        ]
        for number in range(4000):
            logger.warning("line %d %s", number, "x" * 1000)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    kept = warning_lines(tmp_path / "logs")
    assert kept[-1]["message"].startswith("line 3999 ")
    assert 2**20 < sum(path.stat().st_size for path in (tmp_path / "logs").iterdir()) < 2**21 + 2**14
    assert logged_studies(tmp_path / "logs") == [], "retention must not take it for the log of a study"
