"""Refusals in the ledger, on both databases: an image is one row, however often it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa

from node.ledger.association_endings import broken_off
from node.ledger.engine import begin_immediate, ledger_url, open_ledger
from node.ledger.refusals import Refused, record_refusals, refused_of, rejections_of
from node.ledger.tables import series


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres.cluster() as url:
        yield url


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_both_ledgers_keep_a_refusal_once_and_open_its_series_again(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = ledger_url("", tmp_path) if kind == "sqlite" else request.getfixturevalue("server")
    ledger = open_ledger(url)
    refusal = Refused(
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_instance_uid="1.2.3.4",
        association_id="a1",
        calling_ae="CT1",
        peer_address="10.0.0.1",
        status=0xA700,
        reason="disk",
        position=(1.0, 2.0, 3.0),
        at=100.0,
    )
    complete = {"modality": "CT", "instances": 1, "first_at": 1.0, "last_at": 1.0, "state": "COMPLETE", "generation": 1}
    with begin_immediate(ledger) as connection:
        connection.execute(sa.insert(series).values(study_instance_uid="1.2", series_instance_uid="1.2.3", **complete))
        record_refusals(connection, [refusal, refusal.unnamed(), refusal.unnamed()])
        record_refusals(connection, [replace(refusal, association_id="a2", at=101.0)])  # tried again
    with ledger.connect() as connection:
        assert [(r.sop_instance_uid, r.association_id, r.images) for r in refused_of(connection, "1.2", "1.2.3")] == [
            ("", "a1", 2),
            ("1.2.3.4", "a2", 1),
        ]
        assert refused_of(connection, "1.2", "1.2.9") == []
        assert rejections_of(connection, "1.2", "1.2.3") == []
        assert broken_off(connection, "1.2", "1.2.3") == []
        (row,) = connection.execute(sa.select(series)).all()
    assert (row.state, row.refused_at) == ("RECEIVING", 101.0)
    postgres.drop_tables(ledger)
    ledger.dispose()
