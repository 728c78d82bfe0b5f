"""The latest studies, as the list of studies and ``ainode status`` show them, on both databases."""

from __future__ import annotations

import postgres
import sqlalchemy as sa

from node.ledger.engine import begin_immediate
from node.ledger.study_progress import latest_studies, progress_of
from node.ledger.tables import series


@postgres.BOTH
def test_the_latest_studies_are_in_the_order_of_their_last_images_however_many_series_they_have(engine: sa.Engine):
    of = {"modality": "CT", "instances": 1, "first_at": 1.0, "state": "RECEIVING", "generation": 0}
    last = [("1.1", 100.0), ("1.3", 5.0), ("1.2", 50.0)]
    rows = [
        {**of, "study_instance_uid": study, "series_instance_uid": f"{study}.{number}", "last_at": at - number / 100}
        for study, at in last
        for number in range(20)
    ]
    with begin_immediate(engine) as connection:
        connection.execute(sa.insert(series), rows)
        for limit, studies in ((1, ["1.1"]), (2, ["1.1", "1.2"]), (9, ["1.1", "1.2", "1.3"])):
            assert latest_studies(connection, limit) == studies
        assert latest_studies(connection, None) == ["1.1", "1.2", "1.3"]
        assert [progress.images for progress in progress_of(connection, ["1.2", "1.1"])] == [20, 20]
        assert progress_of(connection, []) == []
