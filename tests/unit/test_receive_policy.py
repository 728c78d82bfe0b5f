"""Who may call, and what is accepted: decisions without a socket."""

from __future__ import annotations

import pytest
from pydicom.uid import (
    MPEG4HP41,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from node.config import parse
from node.errors import ConfigError
from node.receive.association_slots import Kind, Limit
from node.receive.policy import TRANSFER_SYNTAXES, Policy, is_storage, supported_contexts

CALLERS = """
[ae]
max_associations = 2
callers = [
  { title = "CT1", address = "10.1.2.0/24" },
  { title = "PACS", address = "10.9.9.9" },
  { title = "ANYWHERE" },
  { title = "SIX", address = "fd00::/8" },
]
"""


def answer(text: str, calling: str, address: str, called: str = "AINODE") -> object:
    policy = Policy.of(parse(text).ae)
    rejection = policy.rejection(calling=calling, called=called, address=address)
    return rejection and (rejection.result, rejection.source, rejection.reason)


@pytest.mark.parametrize(
    ("calling", "address", "expected"),
    [
        ("CT1", "10.1.2.77", None),
        ("CT1 ", "::ffff:10.1.2.77", None),
        ("CT1", "10.1.3.77", (1, 1, 3)),
        ("ct1", "10.1.2.77", (1, 1, 3)),
        ("PACS", "10.9.9.9", None),
        ("PACS", "10.9.9.8", (1, 1, 3)),
        ("ANYWHERE", "192.0.2.1", None),
        ("SIX", "fd00::1%eth0", None),
        ("STRANGER", "10.1.2.77", (1, 1, 3)),
    ],
)
def test_callers_are_known_by_title_and_address(calling: str, address: str, expected: object) -> None:
    assert answer(CALLERS, calling, address) == expected


def test_without_callers_everyone_may_call_but_only_our_title() -> None:
    assert answer("", "X", "10.0.0.1") is None
    assert answer("", "X", "10.0.0.1", called="OTHER") == (1, 1, 7)
    assert answer("[ae]\nrequire_called_title = false", "X", "10.0.0.1", called="OTHER") is None


def test_limits_are_those_of_the_first_entry_for_the_peer() -> None:
    callers = '[{ title = "A", address = "10.1.0.0/16", max_associations = 3 }, { title = "A" }]'
    policy = Policy.of(parse(f"[ae]\nmax_associations = 9\ncallers = {callers}").ae)
    everybody = Limit(Kind.ASSOCIATIONS, "", 9)
    assert policy.limits("A ", "10.1.2.3") == [[Limit(Kind.OF_TITLE, "A", 3, in_fleet=True), everybody]]
    assert policy.limits("A", "10.2.2.3") == [[Limit(Kind.OF_TITLE, "A", 7), everybody]]  # a share of this machine


def test_reserved_associations_are_taken_first_and_left_out_of_those_of_everybody() -> None:
    callers = '[{ title = "A", reserved_associations = 2 }, { title = "B" }]'
    policy = Policy.of(parse(f"[ae]\nmax_associations = 10\ncallers = {callers}").ae)
    everybody = Limit(Kind.ASSOCIATIONS, "", 8)
    of_a = Limit(Kind.OF_TITLE, "A", 8)
    assert policy.limits("A", "10.0.0.1") == [[of_a, Limit(Kind.RESERVED, "A", 2)], [of_a, everybody]]
    assert policy.limits("B", "10.0.0.1") == [[Limit(Kind.OF_TITLE, "B", 6), everybody]]
    with pytest.raises(ConfigError, match="10 associations are reserved; max_associations must be greater"):
        parse('[ae]\nmax_associations = 10\ncallers = [{ title = "A", reserved_associations = 10 }]')


def test_connections_count_by_address_and_those_of_no_caller_together() -> None:
    policy = Policy.of(parse("[ae]\nconnections_per_address = 5").ae)
    assert policy.connection_limits("::ffff:10.0.0.1") == [Limit(Kind.CONNECTIONS, "10.0.0.1", 5)]
    assert policy.connection_limits("fd00::1:2:3:4") == policy.connection_limits("fd00::9:9:9:9")
    named = Policy.of(parse('[ae]\ncallers = [{ title = "A", address = "10.1.0.0/16" }]').ae)
    assert named.connection_limits("10.1.2.3") == [Limit(Kind.CONNECTIONS, "10.1.2.3", 32)]
    assert named.connection_limits("10.2.2.3") == named.connection_limits("10.3.3.3")
    assert named.connection_limits("10.2.2.3")[0].owner == ""
    assert Policy.of(parse("[ae]\nconnections_per_address = 0").ae).connection_limits("10.0.0.1") == []


def test_an_address_that_is_none_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"ae.callers.0.address = '10\.1\.2\.300'"):
        parse('[ae]\ncallers = [{ title = "A", address = "10.1.2.300" }]')


@pytest.mark.parametrize(
    "uid",
    [
        CTImageStorage,
        "1.2.840.10008.5.1.4.1.1.88.34",  # Comprehensive 3D SR
        "1.2.840.10008.5.1.4.1.1.3",  # retired Ultrasound Multi-frame
        "1.2.840.10008.5.1.4.1.1.99999.1",  # newer than our tables
        "1.2.840.10008.5.1.4.34.7",  # RT Beams Delivery Instruction: storage under another root
        "1.3.12.2.1107.5.9.1",  # private
    ],
)
def test_storage_classes_standard_retired_new_and_private_are_accepted(uid: str) -> None:
    assert is_storage(uid)


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.31",  # Modality Worklist
        "1.2.840.10008.5.1.4.1.2.2.1",  # Study Root Query/Retrieve FIND
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol: no patient's study
        "1.2.840.10008.1.3.10",  # DICOMDIR
        "1.2.840.10008.5.1.4.1.1.201.2",  # Inventory FIND
        "1.2.840.10008.5.1.1.9",  # print
    ],
)
def test_other_services_are_not_taken_for_storage(uid: str) -> None:
    assert not is_storage(uid)


def test_every_transfer_syntax_in_use_is_accepted() -> None:
    wanted = {
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        RLELossless,
        JPEGBaseline8Bit,
        JPEGExtended12Bit,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
        HTJ2KLossless,
        MPEG4HP41,
        "1.2.840.10008.1.2.4.107",  # HEVC
    }
    assert wanted <= set(TRANSFER_SYNTAXES)
    assert "1.2.840.10008.1.2.4.94" not in TRANSFER_SYNTAXES  # JPIP: the pixels are elsewhere


def test_lossless_comes_before_lossy_and_else_the_sender_s_order_counts() -> None:
    proposed = [JPEGBaseline8Bit, JPEGLosslessSV1, ExplicitVRLittleEndian, ImplicitVRLittleEndian, "1.2.3.4"]
    (context,) = supported_contexts([(CTImageStorage, proposed)])
    assert context.transfer_syntax == [
        JPEGLosslessSV1,
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        JPEGBaseline8Bit,
    ]


def test_a_class_with_unknown_transfer_syntaxes_only_is_not_supported() -> None:
    assert (
        supported_contexts([(CTImageStorage, ["1.2.3.4"]), ("1.2.840.10008.5.1.4.31", [ImplicitVRLittleEndian])]) == []
    )


def test_storage_commitment_is_supported_in_both_roles() -> None:
    (context,) = supported_contexts([("1.2.840.10008.1.20.1", [ImplicitVRLittleEndian])])
    assert (context.scu_role, context.scp_role) == (True, True)


def test_what_the_node_does_not_offer_no_caller_may_use():
    for callers in ("[]", '[{ title = "A" }]'):
        ae = parse(f"[ae]\ncallers = {callers}").ae
        assert "workitems" in Policy.of(ae).admission("A", "10.0.0.1").services
        services = Policy.of(ae, frozenset({"workitems"})).admission("A", "10.0.0.1").services
        assert services == {"store", "commitment", "mpps", "availability", "content"}
