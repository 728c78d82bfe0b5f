"""What is read of an HL7 message; and that whatever else comes is refused in bounded time and memory."""

from __future__ import annotations

import time
from contextlib import suppress

import hl7
import pytest
from hl7_orders import STUDY, merge, order, update
from hl7apy.parser import parse_message
from hypothesis import given
from hypothesis import strategies as st

from node.config import Orders
from node.ledger.new_orders import NewPatientChange, OrderMessage
from node.ledger.order_keys import OrderKeys, OrderState, is_same_patient, names_same_order
from node.ledger.order_messages import Receipt
from node.orders.acknowledgment import acknowledgment
from node.orders.hl7_text import Hl7Error, header_of, parse_hl7
from node.orders.order_message import order_message_of

SETTINGS = Orders()
IMAGING = (
    r"MSH|^~\&|RIS|H|A||20260101||OMI^O23^OMI_O23|7|P|2.5.1||||||UNICODE UTF-8"
    "\rPID|1||X^^^OTHER&1.2&ISO^PI~PAT9^^^HOSP&1.9&ISO^MR\rORC|NW|P9^RIS\rTQ1|1||||||||A^ASAP^HL70485\r"
    f"OBR|1|P9^RIS||X^Y^L{'|' * 40}MRBRAIN^MR of the brain^L\r"
    f"IPC|ACC9^HOSP^1.3^ISO|RP1^RIS|{STUDY}^RIS|SPS1^RIS|MR\rORC|CA|P10^RIS|F10\rOBR|2|P10^RIS|F10|XY\r"
)


def read(message: str | bytes, settings: Orders = SETTINGS) -> OrderMessage:
    return order_message_of(parse_hl7(message.encode() if isinstance(message, str) else message), settings)


def test_an_order_is_read_as_other_libraries_read_it():
    text = order(study=STUDY)
    (request,) = read(text).orders
    other, third = hl7.parse(text), parse_message(text, find_groups=False)
    assert request.keys == OrderKeys(
        study_instance_uid=STUDY, accession=str(other.segment("OBR")[18]), placer="P1", filler="F1",
        patient_id=third.pid.pid_3.cx_1.value, patient_issuer="HOSP",
    )  # fmt: skip
    assert (request.procedure_code, request.procedure) == ("CTCHEST", third.obr.obr_4.ce_2.value)
    assert (request.priority, request.reason, request.state) == ("STAT", "Solitary nodule", OrderState.ACTIVE)


def test_an_imaging_order_has_its_numbers_in_ipc_and_each_order_its_own():
    first, second = read(IMAGING).orders
    assert first.keys == OrderKeys(
        study_instance_uid=STUDY, accession="ACC9", accession_issuer="HOSP&1.3&ISO", placer="P9", patient_id="X",
        patient_issuer="OTHER&1.2&ISO",
    )  # fmt: skip
    assert (first.priority, first.procedure_code, first.procedure) == ("HIGH", "MRBRAIN", "MR of the brain")
    assert (second.state, second.keys.filler, second.keys.accession) == (OrderState.CANCELED, "F10", "")
    (named, _) = read(IMAGING, Orders(patient_id_authority="1.9")).orders
    assert (named.keys.patient_id, named.keys.patient_issuer) == ("PAT9", "HOSP&1.9&ISO")


@pytest.mark.parametrize(
    ("stated", "means"),
    [("S", "STAT"), ("A", "HIGH"), ("R", "ROUTINE"), ("TS10", "MEDIUM"), ("stat", "STAT"), ("XY", ""), ("", "")],
)
def test_priorities_are_those_of_dicom(stated: str, means: str):
    assert read(order(priority=stated)).orders[0].priority == means


def test_merges_and_updates_name_patients_and_nothing_else():
    assert read(merge("1", "NEW^^^HOSP^MR", "OLD^^^HOSP^MR")).changes == (
        NewPatientChange(patient_id="NEW", patient_issuer="HOSP", prior_id="OLD", prior_issuer="HOSP"),
    )
    assert read(update("2", "NEW^^^HOSP^MR")).changes == (NewPatientChange(patient_id="NEW", patient_issuer="HOSP"),)
    report = read(order(kind="ORU^R01"))
    assert (report.orders, len(report.reports)) == ((), 1)


@pytest.mark.parametrize(
    ("declared", "codec", "text"),
    [
        ("UNICODE UTF-8", "utf-8", "Prüfung 検査"),
        ("8859/1", "latin-1", "Prüfung"),
        ("8859/15", "iso8859_15", "Prüfung €"),
        ("ISO IR87", "iso2022_jp", "胸部単純"),
        ("~ISO IR87", "iso2022_jp", "胸部単純"),
        ("GB 18030-2000", "gb18030", "胸部平扫"),
        ("", "utf-8", "Prüfung"),
        ("", "latin-1", "Prüfung"),
    ],
)
def test_character_sets_of_msh_18(declared: str, codec: str, text: str):
    message = order(set=declared, procedure=f"C1^{text}^L").replace("Müller", "X").encode(codec)
    assert read(message).orders[0].procedure == text


def test_escapes_are_text_and_forge_nothing():
    (request,) = read(order(procedure=r"C1^left \T\ right\.br\\X41\ \F\ ok^L")).orders
    assert request.procedure == "left & right A | ok"


@pytest.mark.parametrize(
    ("content", "answer", "why"),
    [
        (b"", "AR", "no segment MSH"),
        (b"GET / HTTP/1.1\r\n", "AR", "no segment MSH"),
        (b"MSH|||||", "AR", "five different delimiters"),
        (order(set="UNICODE UTF-16").encode(), "AR", "MSH-18 names a character set"),
        (order(set="UNICODE UTF-8").encode("latin-1"), "AE", "not UNICODE UTF-8, which MSH-18 states"),
        (order(set="ASCII").encode(), "AE", "not ASCII"),
        (order(kind="SIU^S12").encode(), "AR", "MSH-9 is none of"),
        (order(placer="", filler="", accession="").encode(), "AE", "without placer, filler"),
        (order().split("ORC")[0].encode(), "AE", "no segment ORC or OBR"),
        ((order() + order("2")).encode(), "AR", "one segment MSH"),
        ((order() + "OBX|1\r" * 10_001).encode(), "AR", "more than 10000 segments"),
        ((order() + "ORC|NW|P2\r" * 201).encode(), "AR", "more than 200 orders"),
        (order(accession="9" * 300).encode(), "AE", "more than 255 characters"),
        (merge("1", "NEW^^^HOSP^MR", "").encode(), "AE", "PID-3 or MRG-1 has no ID"),
        (merge("1", "A^^^HOSP^MR", "A^^^HOSP^MR").encode(), "AE", "MRG-1 names the patient of PID-3"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_a_reason_without_its_values(content: bytes, answer: str, why: str):
    with pytest.raises(Hl7Error, match=why) as refused:
        read(content)
    assert refused.value.answer == answer
    assert "Müller" not in str(refused.value)
    assert "PAT1" not in str(refused.value)


@given(st.binary(max_size=400), st.integers(0, 300), st.integers(0, 300))
def test_any_bytes_in_a_message_are_read_or_refused_and_always_answered(noise: bytes, begin: int, length: int):
    content = order().encode()
    content = content[:begin] + noise + content[begin + length :]
    header = header_of(content)
    acknowledgment(Receipt(id="0" * 64, sender="", control_id="x", kind="", peer_address="", answer="AE"), header)
    try:
        said = read(content)
    except Hl7Error:
        return
    for request in said.orders:
        assert request.keys.numbers
        assert all(len(value) <= 1024 for value in (*vars(request.keys).values(), request.procedure, request.reason))


@pytest.mark.parametrize("filling", ["|", "^", "&", "~", "\\", "\\X41\\", "OBR|1|P\r", "ORC\r", "\r"])
def test_a_megabyte_of_delimiters_takes_little_time(filling: str):
    content = (order() + "OBR|1|P|F|" + filling * (1_000_000 // len(filling))).encode()
    began = time.process_time()
    with suppress(Hl7Error):
        read(content)
    assert time.process_time() - began < 2.0


def test_an_acknowledgment_names_the_message_and_escapes_its_text():
    receipt = Receipt(
        id="ab" * 32,
        sender="RIS^HOSPITAL",
        control_id="C|1",
        kind="",
        peer_address="",
        answer="AE",
        reason="a|b",
        received_at=0.0,
    )
    answer = parse_message(acknowledgment(receipt, header_of(order().encode())).decode(), find_groups=False)
    assert (answer.msh.msh_5.value, answer.msh.msh_3.value) == ("RIS", "AINODE")
    assert answer.msa.msa_1.value == "AE"
    assert r"C\F\1" in answer.msa.msa_2.to_er7()
    assert acknowledgment(receipt, None) == acknowledgment(receipt, None)


def test_numbers_match_only_within_one_issuer_and_one_patient():
    images = OrderKeys(accession="A1", accession_issuer="HOSP", patient_id="P", patient_issuer="HOSP")
    same = OrderKeys(accession="A1", accession_issuer="hosp&1.2", patient_id="P", patient_issuer="")
    assert names_same_order(same, images)
    assert is_same_patient(same, images)
    assert not names_same_order(OrderKeys(accession="A1", accession_issuer="OTHER"), images)
    assert not is_same_patient(OrderKeys(patient_id="P", patient_issuer="OTHER"), images)
    assert not is_same_patient(OrderKeys(patient_id="Q"), images)
    assert not is_same_patient(OrderKeys(accession="A1"), images), "an accession number alone is nobody's"
    assert is_same_patient(OrderKeys(study_instance_uid="1.2"), OrderKeys(study_instance_uid="1.2", patient_id="P"))
    assert not is_same_patient(
        OrderKeys(study_instance_uid="1.2", patient_id="Q"), OrderKeys(study_instance_uid="1.2", patient_id="P")
    )
