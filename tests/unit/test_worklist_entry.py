"""Which entry of a worklist is the order of a study."""

from __future__ import annotations

from typing import Any

import pytest
from worklists import entry

from node.config import parse
from node.errors import ConfigError
from node.ledger.order_keys import OrderKeys
from node.orders.worklist_entry import EntrySelection, QueryKey, choose, entry_of, identifier, searches

IMAGES = OrderKeys(study_instance_uid="1.2.3", accession="A1", patient_id="PAT1", patient_issuer="HOSP")
DAY = "20260102"


def selected(
    by: QueryKey, *changes: dict[str, Any], images: OrderKeys = IMAGES, modality: str = "CT"
) -> EntrySelection:
    return choose([entry_of(entry(**changed)) for changed in changes], by, images, DAY, modality)


@pytest.mark.parametrize(
    ("keys", "day", "expected"),
    [
        ({}, DAY, ["accession", "study", "patient"]),
        ({"accession": "A*"}, DAY, ["study", "patient"]),
        ({"accession": "", "patient_id": "P?"}, DAY, ["study"]),
        ({"patient_id": "P\\Q"}, DAY, ["accession", "study"]),
        ({}, "", ["accession", "study"]),
        ({}, "2026*", ["accession", "study"]),
        ({}, "20260101-", ["accession", "study"]),
    ],
)
def test_values_that_match_others_are_not_searched(keys: dict[str, str], day: str, expected: list[str]):
    assert searches(OrderKeys(**{**vars(IMAGES), **keys}), day) == expected


def test_a_search_has_one_key_and_asks_for_no_name():
    wanted = identifier(QueryKey.ACCESSION, IMAGES, DAY)
    assert (wanted.AccessionNumber, wanted.PatientID, wanted.StudyInstanceUID) == ("A1", "", "")
    assert not {"PatientName", "PatientBirthDate", "RequestingPhysician", "SpecificCharacterSet"} & set(wanted.dir())
    by_patient = identifier(QueryKey.PATIENT, OrderKeys(patient_id="Müller"), DAY)
    assert by_patient.SpecificCharacterSet == "ISO_IR 192"
    assert by_patient.ScheduledProcedureStepSequence[0].ScheduledProcedureStepStartDate == DAY


def test_steps_of_one_procedure_are_one_order_and_two_procedures_are_two():
    study = {"StudyInstanceUID": "1.2.3"}
    same = selected(QueryKey.ACCESSION, study, study | {"Modality": "MR"})
    assert len(same.orders) == 1
    two = selected(QueryKey.ACCESSION, {}, {"RequestedProcedureID": "RP2", "RequestedProcedurePriority": "ROUTINE"})
    assert [order.priority for order in two.orders] == ["STAT", "ROUTINE"]


@pytest.mark.parametrize("by", [QueryKey.ACCESSION, QueryKey.PATIENT])
@pytest.mark.parametrize("changed", [{"PatientID": "PAT2"}, {"PatientID": ""}, {"IssuerOfPatientID": "OTHER"}])
def test_another_patient_is_never_taken(by: QueryKey, changed: dict[str, str]):
    assert selected(by, changed).orders == ()


def test_another_accession_number_is_never_taken():
    for by in QueryKey:
        assert selected(by, {"AccessionNumber": "A2", "StudyInstanceUID": "1.2.3"}).orders == ()


def test_by_patient_and_day_the_day_and_the_modality_count_and_the_study_is_the_link():
    images = OrderKeys(study_instance_uid="1.2.3", patient_id="PAT1")
    selection = selected(
        QueryKey.PATIENT, {}, {"Modality": "MR"}, {"ScheduledProcedureStepStartDate": "20260103"}, images=images
    )
    (order,) = selection.orders
    assert order.keys.study_instance_uid == "1.2.3"
    two = selected(QueryKey.PATIENT, {}, {"AccessionNumber": "A2"}, images=images)
    assert (two.orders, len(two.ambiguous)) == ((), 2)


def test_an_entry_that_says_little_or_nonsense_is_read():
    order = entry_of(entry(RequestedProcedurePriority="soon", RequestedProcedureCodeSequence=[])).order
    assert (order.priority, order.procedure_code) == ("", "")
    without = entry(RequestedProcedureDescription="", RequestedProcedureCodeSequence=[])
    assert entry_of(without).order.procedure == "CT thorax plain"


def test_the_worklist_needs_a_title():
    with pytest.raises(ConfigError, match="title is required with host"):
        parse('[orders.worklist]\nhost = "ris"\n')
