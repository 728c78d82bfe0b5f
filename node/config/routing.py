"""``[[rules]]`` and ``[destinations.NAME]``: analysis of series and delivery of results."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from node.config.characteristics import CHARACTERISTICS
from node.config.condition import Option, parse_condition, parse_hours
from node.config.network import Ae, AeTls
from node.config.table import AeTitle, Name, Table, suggest
from node.outcome import Outcome

ObjectKind = Literal[
    "seg",
    "labelmap",
    "sr",
    "derived",
    "derived j2k",
    "key images",
    "pdf",
    "presentation state",
    "key object selection",
    "parametric map",
    "rtstruct",
]
Language = Literal["en", "de", "fr", "es", "zh", "ja"]
"""RFC 5646: English, German, French, Spanish, Chinese, Japanese."""
DEFAULT_OBJECTS: tuple[ObjectKind, ...] = ("seg", "sr", "derived")

FORWARD = "(originals)"
"""Name in place of a pipeline for decisions and jobs that forward images; no pipeline can have it."""
Wanted = Option | tuple[Option, ...]
Preference = str | dict[str, Wanted]
PREFERENCES = ("axial", "coronal", "sagittal", "thinnest", "most images")
"""Criteria of ``prefer`` other than conditions."""


class DestinationTls(Table):
    """TLS to a Storage SCP. Files that are not given are those of ``[ae.tls]``."""

    enabled: bool = False
    """Use TLS."""
    certificate: str = ""
    """PEM file with our client certificate."""
    key: str = ""
    """PEM file with the private key of the certificate."""
    ca: str = ""
    """PEM file with the authorities of the destination's certificate."""
    crl: str = ""
    """PEM file with the revocation lists of these authorities."""
    check_host: bool = True
    """Require that the certificate names ``host``."""

    @classmethod
    def towards_callers(cls, ours: AeTls) -> DestinationTls:
        """Return the settings for associations to our callers: the same certificate and authorities."""
        return cls(
            enabled=ours.enabled,
            certificate=ours.certificate,
            key=ours.key,
            ca=ours.ca,
            crl=ours.crl,
            check_host=False,
        )


class Destination(Table):
    """A receiver of results: a Storage SCP, a STOW-RS service, a folder, or a system that takes HL7 messages.

    One of ``host``, ``url``, ``folder`` and ``hl7`` says which.
    """

    title: AeTitle = ""
    """AE title of a Storage SCP."""
    host: str = ""
    """Host name or address of a Storage SCP."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """DICOM port of a Storage SCP."""
    url: str = ""
    """Base URL of a DICOMweb service, to which ``/studies`` is appended (STOW-RS)."""
    token_file: str = ""
    """File with the bearer token for ``url``; read at each delivery, so it can be renewed."""
    ca_file: str = ""
    """PEM file with the authority of the certificate of ``url``; empty: the system's authorities."""
    folder: str = ""
    """An existing folder; objects are written to ``STUDY/SERIES/SOP.dcm`` in it."""
    hl7: str = ""
    """``HOST:PORT`` of an HL7 version 2 receiver (MLLP), which gets each report as a message ORU^R01."""
    application: str = ""
    """Receiving application of HL7 messages (MSH-5)."""
    facility: str = ""
    """Receiving facility of HL7 messages (MSH-6)."""
    tls: DestinationTls = DestinationTls()
    commitment: bool = False
    """Request Storage Commitment; a delivery is *confirmed* by its report only."""
    commitment_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Repeat the request when no report arrives within this time."""
    find: bool = False
    """Confirm by querying the instances (C-FIND, QIDO-RS); with ``commitment``: only when no report arrives."""
    outcomes: tuple[Annotated[Outcome, Field(strict=False)], ...] = tuple(Outcome)
    """Outcomes whose objects are sent to this destination."""
    objects: tuple[ObjectKind, ...] = DEFAULT_OBJECTS
    """Kinds of objects to send."""
    language: Language = "en"
    """Language of the impression in reports, PDF pages and messages."""
    withdraw_replaced: Literal["auto"] | bool = "auto"
    """Send a rejection note (IHE IOCM) for results that a newer one replaces; ``auto``: unless the destination refuses
    them or is a ``folder``."""
    first_retry_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Delay before the second attempt; doubled for each further one."""
    max_retry_seconds: Annotated[float, Field(gt=0)] = 900.0
    """Longest delay between two attempts; attempts never end."""
    alarm_after_hours: Annotated[float, Field(gt=0)] = 24.0
    """Report a delivery that is still pending after this time."""

    @classmethod
    def of_node(cls, ours: Ae) -> Destination:
        """Return this node as a destination for callers on this machine."""
        host = "127.0.0.1" if ours.address == "0.0.0.0" else ours.address  # noqa: S104 - only compared
        return cls(title=ours.title, host=host, port=ours.port, tls=DestinationTls.towards_callers(ours.tls))

    @property
    def place(self) -> str:
        """Description of the place, for messages."""
        return self.url or self.folder or self.hl7 or f"{self.title} at {self.host}:{self.port}"

    @property
    def hl7_address(self) -> tuple[str, int]:
        """Host and port of ``hl7``. Raises ``ValueError`` when it is not ``HOST:PORT``."""
        host, _, port = self.hl7.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"hl7 = {self.hl7!r}: give HOST:PORT")
        return host.strip("[]"), int(port)

    @model_validator(mode="after")
    def _one_kind(self) -> Destination:
        if [bool(self.host), bool(self.url), bool(self.folder), bool(self.hl7)].count(True) != 1:
            raise ValueError("give one of host (C-STORE), url (STOW-RS), folder and hl7 (HL7 version 2)")
        if self.host and not (self.title and self.port):
            raise ValueError("title and port are required with host")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url = {self.url!r}: give an address that begins with https:// or http://")
        if self.tls.enabled and not (self.host or self.hl7):
            raise ValueError("tls.enabled is for host (C-STORE) and hl7; for url write https://")
        if (self.commitment and not self.host) or (self.find and not (self.host or self.url)):
            raise ValueError("commitment needs host; find needs host or url; remove it")
        return self

    @model_validator(mode="after")
    def _hl7_takes_reports(self) -> Destination:
        if self.hl7:
            _ = self.hl7_address
            if "objects" in self.model_fields_set and self.objects != ("sr",):
                raise ValueError('objects: an HL7 receiver gets reports only; remove the key, or write ["sr"]')
        elif self.application or self.facility:
            raise ValueError("application and facility are for hl7; remove them")
        return self

    @property
    def kinds(self) -> frozenset[str]:
        """``objects`` by the names of ``node.results``; the report refers to the segmentation that is sent with it."""
        if self.hl7:
            return frozenset({"sr alone"})
        report = "sr" if "seg" in self.objects else "sr on labelmap" if "labelmap" in self.objects else "sr alone"
        return frozenset(report if kind == "sr" else kind for kind in self.objects)


class Selection(Table):
    """Conditions for series, and preferences among several matching ones."""

    match: dict[str, Wanted] = Field(default_factory=dict)
    """Conditions that must all be met; ``node.config.condition`` defines the values."""
    unless: dict[str, Wanted] = Field(default_factory=dict)
    """Conditions of which none may be met."""
    prefer: tuple[Preference, ...] = ()
    """Criteria by which only the best of several matching series of a study is taken, the most important first."""

    @property
    def asks_for_characteristics(self) -> bool:
        """Whether a condition is on what the whole series shows, and not on one attribute."""
        tables = (self.match, self.unless, *(one for one in self.prefer if isinstance(one, dict)))
        return any(path in CHARACTERISTICS for table in tables for path in table)

    @field_validator("match", "unless")
    @classmethod
    def _conditions(cls, table: dict[str, Wanted]) -> dict[str, Wanted]:
        for path, wanted in table.items():
            parse_condition(path, wanted)
        return table

    @field_validator("prefer")
    @classmethod
    def _preferences(cls, prefer: tuple[Preference, ...]) -> tuple[Preference, ...]:
        for preference in prefer:
            if isinstance(preference, dict):
                cls._conditions(preference)
            elif preference not in PREFERENCES:
                hint = suggest(preference, PREFERENCES)
                raise ValueError(f"{preference!r}{hint}: use a table of conditions, or one of {', '.join(PREFERENCES)}")
        return prefer


class Companion(Selection):
    """Another series of the same study that the pipeline may use."""

    required: bool = True
    """Whether the outcome is *not applicable* without it; otherwise the pipeline runs without it."""


class PriorTable(Table):
    """Source of the prior report with which a new analysis is compared."""

    source: Name
    """Name of a ``[destinations.NAME]`` that answers C-FIND and C-GET or C-MOVE."""
    days: Annotated[int, Field(ge=1)] = 730
    """Maximum age of a prior study."""
    move_title: AeTitle = ""
    """For a ``source`` without C-GET: destination AE title of C-MOVE, known there with ``move_port``."""
    move_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port that is open while objects are retrieved by C-MOVE."""

    @model_validator(mode="after")
    def _moves_somewhere(self) -> PriorTable:
        if bool(self.move_title) != bool(self.move_port):
            raise ValueError("give both move_title and move_port (C-MOVE), or neither (C-GET)")
        return self


class Rule(Selection):
    """Pipelines for matching series, and destinations of their results."""

    name: str
    """Name in traces and reports."""
    senders: tuple[str, ...] = ()
    """AE titles (with wildcards), addresses or networks of the sender; empty: any."""
    hours: str = ""
    """Local time at which the first image was received, such as ``22:00-06:00``; empty: any."""
    companions: dict[Name, Companion] = Field(default_factory=dict)
    """Other series of the study to wait for."""
    deadline_seconds: Annotated[float, Field(gt=0)] = 1800.0
    """Longest wait for companions after the series is complete."""
    prior: PriorTable | None = None
    """Compare with this node's report on a prior study of the patient."""
    pipelines: tuple[Name, ...] = ()
    """Names of ``[pipelines.NAME]``."""
    shadow: tuple[Name, ...] = ()
    """Names of ``[pipelines.NAME]`` that are tried on the same series; no destination receives their results."""
    destinations: tuple[Name, ...] = ()
    """Names of ``[destinations.NAME]`` that receive the results."""
    send: tuple[Name, ...] = ()
    """Names of ``[destinations.NAME]`` to which the images are forwarded unchanged."""
    priority: Literal["low", "medium", "high"] = "medium"
    """Order in the queues; a STAT request (0074,1200 HIGH or 0040,1003 STAT) counts as high."""
    quiet_seconds: Annotated[float, Field(gt=0)] | None = None
    """``[series] quiet_seconds`` for series that match this rule; the longest of several rules applies."""
    prefer_seconds: Annotated[float, Field(ge=0)] | None = None
    """Wait of ``prefer`` after the study's last image when no other series is expected; absent: the quiet period."""

    @property
    def asks_for_characteristics(self) -> bool:
        """Also of its companions."""
        companions = any(one.asks_for_characteristics for one in self.companions.values())
        return companions or super().asks_for_characteristics

    @model_validator(mode="after")
    def _does_something(self) -> Rule:
        if not self.pipelines and not self.shadow and not self.send:
            raise ValueError(f"rule {self.name!r} does nothing: give it pipelines, or send for the images themselves")
        if self.send and (self.prefer or self.companions):
            raise ValueError(f"rule {self.name!r}: send takes every series that matches; give prefer its own rule")
        return self

    @field_validator("senders")
    @classmethod
    def _senders(cls, senders: tuple[str, ...]) -> tuple[str, ...]:
        for sender in senders:
            if "/" in sender:
                ip_network(sender)
            elif not 0 < len(sender.strip()) <= 16:
                raise ValueError(f"{sender!r}: give an AE title (1 to 16 characters), an address or a network")
        return senders

    @field_validator("hours")
    @classmethod
    def _hours(cls, hours: str) -> str:
        if hours:
            parse_hours(hours)
        return hours
