"""``[[rules]]`` and ``[destinations.NAME]``: what happens to a series, and where its results go."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from node.config.condition import Option, parse_condition, parse_hours
from node.config.network import Ae, AeTls
from node.config.table import AeTitle, Name, Table, suggest


class Outcome(StrEnum):
    """The explicit outcomes of an analysis, as radiologists, the dashboard and the ledger read them."""

    FINDINGS = "findings"
    """Something is present."""
    NO_FINDINGS = "no findings"
    """Nothing of what was looked for is present."""
    INDETERMINATE = "indeterminate"
    """The pipeline cannot tell."""
    MEASURED = "measured"
    """Structures were outlined, nothing is claimed."""
    PARTIAL = "partial"
    """Only a part was analysed, whatever was found."""
    DERIVED = "derived"
    """Only new images were made."""
    NOT_APPLICABLE = "not applicable"
    FAILED = "failed"


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
]
DEFAULT_OBJECTS: tuple[ObjectKind, ...] = ("seg", "sr", "derived")

FORWARD = "(originals)"
"""Stands for a pipeline in decisions and jobs that send the images themselves; no pipeline can have this name."""
Wanted = Option | tuple[Option, ...]
Preference = str | dict[str, Wanted]
PREFERENCES = ("axial", "coronal", "sagittal", "thinnest", "most images")
"""What a series can be preferred for, beside conditions."""


class DestinationTls(Table):
    """TLS to a Storage SCP. Files that are not given are those of ``[ae.tls]``."""

    enabled: bool = False
    """Speak TLS with it."""
    certificate: str = ""
    """PEM file with the certificate that we show."""
    key: str = ""
    """PEM file with its private key."""
    ca: str = ""
    """PEM file with the authorities that may have signed its certificate."""
    crl: str = ""
    """PEM file with their revocation lists."""
    check_host: bool = True
    """Its certificate must name ``host``."""

    @classmethod
    def towards_callers(cls, ours: AeTls) -> DestinationTls:
        """To peers that call us, when we call them: the same certificate and authorities."""
        return cls(
            enabled=ours.enabled,
            certificate=ours.certificate,
            key=ours.key,
            ca=ours.ca,
            crl=ours.crl,
            check_host=False,
        )


class Destination(Table):
    """Where objects go: a Storage SCP (``host``), a STOW-RS service (``url``) or a folder (``folder``)."""

    title: AeTitle = ""
    """AE title of a Storage SCP."""
    host: str = ""
    """Its name or address."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Its DICOM port."""
    url: str = ""
    """Instead of a Storage SCP: base URL of a DICOMweb service, to which ``/studies`` is added (STOW-RS)."""
    token_file: str = ""
    """File with the bearer token for ``url``; read at each delivery, so that it can be renewed."""
    ca_file: str = ""
    """PEM file with the authority that signed the certificate of ``url``; empty: those of the system."""
    folder: str = ""
    """Instead of a Storage SCP: an existing folder; objects go to ``STUDY/SERIES/SOP.dcm`` below it."""
    tls: DestinationTls = DestinationTls()
    commitment: bool = False
    """Ask for Storage Commitment; only its answer makes a delivery *confirmed*."""
    commitment_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Ask again when the answer does not arrive within this time."""
    find: bool = False
    """Confirm by asking for the stored instances (C-FIND, QIDO-RS); with ``commitment``: when that is not answered."""
    outcomes: tuple[Annotated[Outcome, Field(strict=False)], ...] = tuple(Outcome)
    """Outcomes whose objects are sent here."""
    objects: tuple[ObjectKind, ...] = DEFAULT_OBJECTS
    """Kinds of objects that are sent here."""
    withdraw_replaced: Literal["auto"] | bool = "auto"
    """Send a rejection note (IHE IOCM) on results that a newer one replaces; ``auto``: where it takes such notes, not
    to a ``folder``."""
    first_retry_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Delay before the second attempt; doubled each time."""
    max_retry_seconds: Annotated[float, Field(gt=0)] = 900.0
    """Longest delay between two attempts; there is no last attempt."""
    alarm_after_hours: Annotated[float, Field(gt=0)] = 24.0
    """A delivery that is not done after this time is an alarm."""

    @classmethod
    def of_node(cls, ours: Ae) -> Destination:
        """This node itself, as its callers on this machine reach it."""
        host = "127.0.0.1" if ours.address == "0.0.0.0" else ours.address  # noqa: S104 - only compared
        return cls(title=ours.title, host=host, port=ours.port, tls=DestinationTls.towards_callers(ours.tls))

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return self.url or self.folder or f"{self.title} at {self.host}:{self.port}"

    @model_validator(mode="after")
    def _one_kind(self) -> Destination:
        if [bool(self.host), bool(self.url), bool(self.folder)].count(True) != 1:
            raise ValueError("give one of host (C-STORE), url (STOW-RS) and folder")
        if self.host and not (self.title and self.port):
            raise ValueError("give title and port beside host")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url = {self.url!r}: give an address that begins with https:// or http://")
        if self.tls.enabled and not self.host:
            raise ValueError("tls.enabled is for host (C-STORE); for url write https://")
        if (self.commitment and not self.host) or (self.find and self.folder):
            raise ValueError("commitment needs host; find needs host or url; remove it")
        return self

    @property
    def kinds(self) -> frozenset[str]:
        """``objects`` as ``node.results`` makes them: the report is the one on the segmentation that goes with it."""
        report = "sr" if "seg" in self.objects else "sr on labelmap" if "labelmap" in self.objects else "sr alone"
        return frozenset(report if kind == "sr" else kind for kind in self.objects)


class Selection(Table):
    """Which series are meant, and in which order they are liked when there are several."""

    match: dict[str, Wanted] = Field(default_factory=dict)
    """Conditions that must all hold; the language of values is that of ``node.config.condition``."""
    unless: dict[str, Wanted] = Field(default_factory=dict)
    """Conditions of which none may hold."""
    prefer: tuple[Preference, ...] = ()
    """Of several matching series of a study only the best goes on; what comes first weighs most."""

    @field_validator("match", "unless")
    @classmethod
    def _conditions(cls, table: dict[str, Wanted]) -> dict[str, Wanted]:
        for path, wanted in table.items():
            parse_condition(path, wanted)
        return table

    @field_validator("prefer")
    @classmethod
    def _preferences(cls, prefer: tuple[Preference, ...]) -> tuple[Preference, ...]:
        for one in prefer:
            if isinstance(one, dict):
                cls._conditions(one)
            elif one not in PREFERENCES:
                hint = suggest(one, PREFERENCES)
                raise ValueError(f"{one!r}{hint}: use a table of conditions, or of {', '.join(PREFERENCES)}")
        return prefer


class Companion(Selection):
    """Another series of the same study that the pipeline may look at."""

    required: bool = True
    """Without it the outcome is *not applicable*; else the pipeline runs without it."""


class PriorTable(Table):
    """Where the earlier analysis that a new one is compared with comes from."""

    source: Name
    """Name of a ``[destinations.NAME]`` that answers C-FIND and C-GET."""
    days: Annotated[int, Field(ge=1)] = 730
    """How far back an earlier study may lie."""
    move_title: AeTitle = ""
    """Where ``source`` has no C-GET: AE title under which it sends to ``move_port`` when asked to (C-MOVE)."""
    move_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port that is opened while images are fetched by C-MOVE."""

    @model_validator(mode="after")
    def _moves_somewhere(self) -> PriorTable:
        if bool(self.move_title) != bool(self.move_port):
            raise ValueError("give both move_title and move_port (C-MOVE), or none (C-GET)")
        return self


class Rule(Selection):
    """Series that match go through the pipelines; their results to the destinations."""

    name: str
    """Shown in traces and reports."""
    senders: tuple[str, ...] = ()
    """AE titles (with wildcards), addresses or networks that sent the images; empty: any."""
    hours: str = ""
    """Local time of day when the first image came, such as ``22:00-06:00``; empty: any."""
    companions: dict[Name, Companion] = Field(default_factory=dict)
    """Other series of the study to wait for."""
    deadline_seconds: Annotated[float, Field(gt=0)] = 1800.0
    """Longest wait for companions after the series itself is complete."""
    prior: PriorTable | None = None
    """Compare with this node's report on an earlier study of the patient."""
    pipelines: tuple[Name, ...] = ()
    """Names of ``[pipelines.NAME]``."""
    destinations: tuple[Name, ...] = ()
    """Names of ``[destinations.NAME]`` that get the results."""
    send: tuple[Name, ...] = ()
    """Names of ``[destinations.NAME]`` that get the images themselves, as they were received."""
    priority: Literal["low", "medium", "high"] = "medium"
    """Order in the queues; a STAT request (0074,1200 HIGH or 0040,1003 STAT) counts as high."""
    quiet_seconds: Annotated[float, Field(gt=0)] | None = None
    """``[series] quiet_seconds`` for what matches this rule; the longest of several matching rules holds."""
    prefer_seconds: Annotated[float, Field(ge=0)] | None = None
    """``prefer`` chooses this long after the last image of the study when nothing says that another series is coming;
    absent: the quiet period."""

    @model_validator(mode="after")
    def _does_something(self) -> Rule:
        if not self.pipelines and not self.send:
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
