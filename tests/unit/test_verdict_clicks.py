"""Verdicts that readers click on the page of a study."""

from __future__ import annotations

import re

import httpx
import pytest
import sqlalchemy as sa
from dashboards import Dashboard, token

from node.ledger.clicked_verdicts import current_verdicts
from node.ledger.tables import event, job, notice, result, verdict
from node.studies.attributes import SEGMENTATIONS, STRUCTURED_REPORTS


def page_of(dashboard: Dashboard, browser: httpx.Client) -> str:
    answer = browser.get(f"/study/{dashboard.uid}")
    assert answer.status_code == 200
    return answer.text


def lesions(dashboard: Dashboard, browser: httpx.Client) -> list[str]:
    """Tracking UIDs that the page offers for a verdict."""
    uids = re.findall(r'name="lesion" value="([^"]+)"', page_of(dashboard, browser))
    return list(dict.fromkeys(uids))


def click(dashboard: Dashboard, browser: httpx.Client, said: str, **fields: str) -> httpx.Response:
    data = {"csrf": token(browser, f"/study/{dashboard.uid}"), "verdict": said, **fields}
    return browser.post(f"/job/{dashboard.job_id}/verdict", data=data)


def given(dashboard: Dashboard) -> dict[str, str]:
    with dashboard.engine.connect() as connection:
        verdicts = current_verdicts(connection, [dashboard.job_id]).get(dashboard.job_id, {})
    return {lesion: row.verdict for lesion, row in verdicts.items()}


@pytest.mark.thorough
def test_a_reader_judges_each_lesion_and_what_was_missed(dashboard: Dashboard):
    browser = dashboard.browser("rita")
    first, second = lesions(dashboard, browser)
    for said, fields in (
        ("accepted", {"lesion": first}),
        ("rejected", {"lesion": second}),
        ("nothing missed", {"lesion": ""}),
        ("added", {"slice": "3"}),
    ):
        answer = click(dashboard, browser, said, **fields)
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"/study/{dashboard.uid}#view-{dashboard.job_id}",
        )
    # a missed lesion contradicts that nothing was missed
    assert given(dashboard) == {first: "accepted", second: "rejected", "slice 3": "added"}
    shown = page_of(dashboard, dashboard.browser("vera"))
    assert "slice 3" in shown
    assert "/verdict" not in shown
    with dashboard.engine.connect() as connection:
        acts = connection.execute(sa.select(notice.c.who, notice.c.detail).where(notice.c.detail.contains("verdict")))
        assert [who for who, _ in acts] == ["rita"] * 4
        rows = connection.execute(sa.select(verdict)).all()
        assert connection.scalar(sa.select(event.c.kind).where(event.c.kind == "verdicts")) is not None
    assert "rita" not in str(rows)


@pytest.mark.thorough
def test_the_last_click_counts_and_is_withdrawn_by_its_reader_only(dashboard: Dashboard):
    browser = dashboard.browser("rita")
    first, _ = lesions(dashboard, browser)
    row = {"source": "1.2.3", "job_id": dashboard.job_id, "lesion": first, "kind": "segmentation", "reader": "other"}
    with dashboard.engine.begin() as connection:
        connection.execute(verdict.insert().values(**row, verdict="edited", given_at=1.0, dice=0.5))
    assert "Dice 0.50" in page_of(dashboard, browser)
    assert click(dashboard, browser, "withdrawn", lesion=first).status_code == 409  # it is of another reader
    for said in ("accepted", "rejected", "rejected"):
        assert click(dashboard, browser, said, lesion=first).status_code == 303
        assert given(dashboard) == {first: said}
    assert click(dashboard, browser, "withdrawn", lesion=first).status_code == 303
    assert given(dashboard) == {first: "edited"}
    assert click(dashboard, browser, "withdrawn", lesion=first).status_code == 409


def test_what_is_no_verdict_is_refused(dashboard: Dashboard):
    browser = dashboard.browser("rita")
    first, _ = lesions(dashboard, browser)
    for said, fields in (
        ("accepted", {"lesion": "1.2.3"}),
        ("edited", {"lesion": first}),
        ("nothing missed", {"lesion": first}),
        ("added", {"slice": "0"}),
        ("added", {"slice": "1e3"}),
        ("", {}),
    ):
        assert click(dashboard, browser, said, **fields).status_code == 400, (said, fields)
    assert given(dashboard) == {}


def test_who_only_makes_images_reports_nothing_to_judge(dashboard: Dashboard):
    browser = dashboard.browser("rita")
    assert "Nothing missed" in page_of(dashboard, browser)
    with (
        dashboard.engine.begin() as connection
    ):  # a part of a series, denoised: derived images and a report of the part
        connection.execute(sa.delete(result).where(result.c.sop_class_uid.in_(SEGMENTATIONS)))
        connection.execute(sa.update(job).values(outcome="partial"))
        connection.execute(
            sa.update(result).where(~result.c.sop_class_uid.startswith(STRUCTURED_REPORTS)).values(kind="derived j2k")
        )
    assert "Nothing missed" not in page_of(dashboard, browser)
    assert "Missed here" not in page_of(dashboard, browser)
    assert click(dashboard, browser, "added", slice="1").status_code == 409
    assert given(dashboard) == {}


def test_operators_are_no_readers_and_readers_no_operators(dashboard: Dashboard):
    otto, rita = dashboard.browser("otto"), dashboard.browser("rita")
    assert click(dashboard, otto, "nothing missed").status_code == 403
    assert "Nothing missed" not in page_of(dashboard, otto)
    assert "Retry" not in page_of(dashboard, rita)
    assert rita.post(f"/job/{dashboard.job_id}/retry", data={"csrf": token(rita)}).status_code == 403
