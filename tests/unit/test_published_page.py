"""The page *Rules* shows what each machine has of the published configuration, and values only to operators."""

from __future__ import annotations

from pathlib import Path

from dashboards import Dashboard
from published import publish


def test_operators_see_which_value_differs_on_which_machine_and_others_only_that_it_does(
    dashboard: Dashboard, tmp_path: Path
):
    assert "Published configuration" not in dashboard.browser("otto").get("/rules").text
    file = publish(dashboard.engine, tmp_path)
    seen, seen_by_others = (dashboard.browser(name).get("/rules").text for name in ("otto", "vera"))
    for page in (seen, seen_by_others):
        assert f"{file.path}: version 1, 1 shared value differs" in page
    assert "series.quiet_seconds: 20.0, 45.0" in seen
    assert "quiet_seconds" not in seen_by_others
