"""The page of the audit trail: newest first, a page at a time, for operators, without Patient IDs."""

from __future__ import annotations

from pathlib import Path

import pytest
from dashboards import Dashboard, Serve

from node.operate.audit.message import (
    INSTANCES_TRANSFERRED,
    SERIOUS_FAILURE,
    URI,
    AuditEvent,
    Participant,
    Query,
    Study,
    message,
)
from node.operate.audit.reading import AuditPage, read_page
from node.operate.audit.trail import Trail

NUMBER = 250


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    fill(path)
    return path


def fill(path: Path) -> None:
    Trail(path).append(
        [
            message(
                AuditEvent(
                    event=INSTANCES_TRANSFERRED,
                    at=1000.0 + number,
                    outcome=SERIOUS_FAILURE if number == 7 else 0,
                    detail=f"transfer <{number}> \N{GREEK SMALL LETTER ALPHA}" * (900 if number % 50 == 0 else 1),
                    participants=[Participant(user=f"CT{number % 3}", address="10.1.2.3")],
                    query=Query(about="https://pacs/studies?PatientID=SECRET-7", type=URI, identifier=""),
                    studies=[Study(study_instance_uid=f"1.2.{number}", patient_id="SECRET-7", classes={"1.2.3": 4})],
                ),
                "node",
            )
            for number in range(NUMBER)
        ]
    )


def walk(path: Path, text: str = "", count: int = 40) -> list[AuditPage]:
    pages = [read_page(path, text, None, count)]
    while pages[-1].older is not None:
        pages.append(read_page(path, text, pages[-1].older, count))
    return pages


@pytest.mark.parametrize("count", [1, 40, 1000])
def test_every_message_is_on_one_page_newest_first(trail: Path, count: int):
    pages = walk(trail, count=count)
    assert [entry.at for page in pages for entry in page.entries] == [999.0 + NUMBER - n for n in range(NUMBER)]
    assert all(page.unreadable == 0 for page in pages)


def test_a_search_finds_user_study_and_event_in_all_pages(trail: Path):
    for text, number in (("ct1", 83), ("1.2.249", 1), ("instances transferred", NUMBER), ("<7>", 1), ("SECRET", 0)):
        assert sum(len(page.entries) for page in walk(trail, text)) == number, text
    (failed,) = (entry for page in walk(trail) for entry in page.entries if entry.failed)
    assert failed.detail.startswith("transfer <7>")


def test_a_line_that_was_changed_is_counted_and_hides_no_other(trail: Path):
    lines = trail.read_bytes().splitlines(keepends=True)
    lines[100] = b"overwritten\n"
    trail.write_bytes(b"".join(lines) + b"cut sho")
    pages = walk(trail)
    assert sum(page.unreadable for page in pages) == 2
    assert sum(len(page.entries) for page in pages) == NUMBER - 1


def test_no_file_yet_is_an_empty_page(tmp_path: Path):
    assert read_page(tmp_path / "audit.log", "", None, 10) == AuditPage(entries=(), unreadable=0, older=None)


@pytest.mark.thorough
def test_operators_alone_see_the_trail_and_no_patient_id(serve: Serve):
    with serve() as dashboard:
        fill(dashboard.spool.folder / "audit.log")
        page = dashboard.browser("otto").get("/audit?q=CT1")
        assert page.status_code == 200
        assert "transfer &lt;247&gt;" in page.text
        assert "SECRET-7" not in page.text
        assert dashboard.browser("vera").get("/audit").status_code == 403
        assert 'href="/audit"' not in dashboard.browser("vera").get("/").text
        assert dashboard.browser("otto").get("/audit?before=x").status_code == 400
        assert recorded(dashboard) == ["read the audit trail"]


def recorded(dashboard: Dashboard) -> list[str]:
    from node.ledger.tables import notice

    with dashboard.engine.connect() as connection:
        rows = connection.execute(notice.select().where(notice.c.who == "otto"))
        return [row.detail for row in rows if row.detail]
