"""``[destinations.NAME]``: where results go, and what is sent there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from node.config.hl7_message import Hl7Message
from node.config.network import Ae, AeTls
from node.config.table import AeTitle, KeepDays, Name, Table
from node.outcome import Outcome
from node.translation import gettext

ObjectKind = Literal[
    "seg",
    "labelmap",
    "image seg",
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
FhirVersion = Literal["R4", "R5"]
Language = Literal["en", "de", "fr", "es", "zh", "ja"]
"""RFC 5646: English, German, French, Spanish, Chinese, Japanese."""
DeidentifyOption = Literal[
    "clean pixel data",
    "clean recognizable visual features",
    "clean descriptors",
    "modified dates",
    "patient characteristics",
    "device identity",
]
"""Options of PS3.15 E.3 as ``node.deidentify.profile`` applies them."""
_NAMING_PATIENTS = {"pdf", "key images", "presentation state"}
"""Kinds with the patient's name, or text beside it, on what is shown."""
_SHOWING_SURFACES = {"parametric map", "rtstruct"}
"""Kinds that may show the surface of a head and that cannot be cut."""
DEFAULT_OBJECTS: tuple[ObjectKind, ...] = ("seg", "sr", "derived")


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


def scp_place(title: str, host: str, port: int) -> str:
    """Description of the place of a service class provider, for messages."""
    return gettext("{title} at {address}", title=title, address=f"{host}:{port}")


class Destination(Table):
    """A receiver of results: a Storage SCP, a STOW-RS service, a folder, a system with HL7 messages, or a FHIR server.

    One of ``host``, ``url``, ``folder``, ``hl7`` and ``fhir`` says which.
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
    """File with the bearer token for ``url`` or ``fhir``; read at each delivery, so it can be renewed."""
    ca_file: str = ""
    """PEM file with the authority of the certificate of ``url`` or ``fhir``; empty: the system's authorities."""
    folder: str = ""
    """An existing folder; objects are written to ``STUDY/SERIES/SOP.dcm`` in it."""
    hl7: str = ""
    """``HOST:PORT`` of an HL7 version 2 receiver (MLLP), which gets each report as a message ORU^R01."""
    application: str = ""
    """Receiving application of HL7 messages (MSH-5)."""
    facility: str = ""
    """Receiving facility of HL7 messages (MSH-6)."""
    message: Hl7Message = Hl7Message()
    """How HL7 messages to it differ from the usual ones."""
    fhir: str = ""
    """Base URL of a FHIR server, which gets each report as a transaction."""
    fhir_version: FhirVersion = "R4"
    """Release of FHIR in which it gets them."""
    token_url: str = ""
    """Token endpoint for ``fhir`` (OAuth 2.0 client credentials, RFC 6749 4.4); empty: no such token."""
    client_id: str = ""
    """Name of this node at the token endpoint."""
    client_secret_file: str = ""
    """File with the secret of ``client_id``."""
    scope: str = ""
    """Scope of the token; empty: that of the endpoint."""
    tls: DestinationTls = DestinationTls()
    commitment: bool = False
    """Request Storage Commitment; a delivery is *confirmed* by its report only."""
    commitment_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Repeat the request when no report arrives within this time."""
    find: bool = False
    """Confirm by querying the instances (C-FIND, QIDO-RS); with ``commitment``: only when no report arrives."""
    retrieve: Literal["move", "get"] = "move"
    """How ``ainode fetch`` gets images from a Storage SCP: it sends them to the receiver (C-MOVE), or back on the
    association of the request (C-GET)."""
    outcomes: tuple[Annotated[Outcome, Field(strict=False)], ...] = tuple(Outcome)
    """Outcomes whose objects are sent to this destination."""
    objects: tuple[ObjectKind, ...] = DEFAULT_OBJECTS
    """Kinds of objects to send."""
    language: Language = "en"
    """Language of the impression in reports, PDF pages and messages."""
    deidentify: Literal["", "basic"] = ""
    """De-identify everything that is sent there: ``basic`` is the Basic Profile of PS3.15 annex E."""
    deidentify_options: tuple[DeidentifyOption, ...] = ()
    """Options of the profile."""
    results_to: tuple[Name, ...] = ()
    """Destinations of the results that come back from it, under the identity of the patient (``returned:``)."""
    results_within_hours: Annotated[float, Field(ge=0)] = 24.0
    """Report series that were sent to it of which no result has come back after this time; 0: never."""
    withdraw_replaced: Literal["auto"] | bool = "auto"
    """Send a rejection note (IHE IOCM) for results that a newer one replaces; ``auto``: unless the destination refuses
    them or is a ``folder``."""
    first_retry_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Delay before the second attempt; doubled for each further one. One that is down is asked as often as this."""
    max_retry_seconds: Annotated[float, Field(gt=0)] = 900.0
    """Longest delay between two attempts; attempts never end."""
    keep_days: KeepDays = "default"
    """Delete results that were sent there this many days after the last event of their study; the longest of several
    destinations applies, and no result goes before the images of its series."""
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
        return self.url or self.folder or self.hl7 or self.fhir or scp_place(self.title, self.host, self.port)

    @property
    def hl7_address(self) -> tuple[str, int]:
        """Host and port of ``hl7``. Raises ``ValueError`` when it is not ``HOST:PORT``."""
        host, _, port = self.hl7.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(f"hl7 = {self.hl7!r}: give HOST:PORT")
        return host.strip("[]"), int(port)

    @model_validator(mode="after")
    def _one_kind(self) -> Destination:
        if [bool(kind) for kind in (self.host, self.url, self.folder, self.hl7, self.fhir)].count(True) != 1:
            raise ValueError("give one of host (C-STORE), url (STOW-RS), folder, hl7 (HL7 version 2) and fhir (FHIR)")
        if self.host and not (self.title and self.port):
            raise ValueError("title and port are required with host")
        for key, address in (("url", self.url), ("fhir", self.fhir), ("token_url", self.token_url)):
            if address and not address.startswith(("http://", "https://")):
                raise ValueError(f"{key} = {address!r}: give an address that begins with https:// or http://")
        if self.tls.enabled and not (self.host or self.hl7):
            raise ValueError("tls.enabled is for host (C-STORE) and hl7; for url write https://")
        if (self.commitment and not self.host) or (self.find and not (self.host or self.url or self.fhir)):
            raise ValueError("commitment needs host; find needs host, url or fhir; remove it")
        if self.retrieve == "get" and not self.host:
            raise ValueError('retrieve = "get" (C-GET) needs host; remove it')
        return self

    @model_validator(mode="after")
    def _messages_are_reports(self) -> Destination:
        if self.takes_reports_only and "objects" in self.model_fields_set and self.objects != ("sr",):
            kind = "an HL7 receiver" if self.hl7 else "a FHIR server"
            raise ValueError(f'objects: {kind} gets reports only; remove the key, or write ["sr"]')
        if self.hl7:
            _ = self.hl7_address
        elif self.application or self.facility or self.message != Hl7Message():
            raise ValueError("application, facility and message are for hl7; remove them")
        of_token = (self.token_url, self.client_id, self.client_secret_file)
        if any(of_token) and not (self.fhir and all(of_token) and not self.token_file):
            raise ValueError("token_url, client_id and client_secret_file go together, for fhir, without token_file")
        return self

    @model_validator(mode="after")
    def _deidentified_objects_only(self) -> Destination:
        if not self.deidentify:
            if self.deidentify_options:
                raise ValueError('deidentify_options need deidentify = "basic"; add it, or remove them')
            if self.results_to:
                raise ValueError('results_to is for results under pseudonyms, and needs deidentify = "basic"')
            return self
        if self.takes_reports_only:
            kind = "HL7 messages" if self.hl7 else "FHIR resources"
            raise ValueError(f"deidentify: {kind} are about a named patient; use host, url or folder")
        if self.commitment:
            raise ValueError("deidentify: use find in place of commitment")
        if named := sorted(_NAMING_PATIENTS.intersection(self.objects)):
            raise ValueError(f"deidentify: objects of kind {named[0]!r} name the patient in what they show; remove it")
        uncut = sorted(_SHOWING_SURFACES.intersection(self.objects))
        if uncut and "clean recognizable visual features" in self.deidentify_options:
            raise ValueError(
                f"deidentify_options: objects of kind {uncut[0]!r} may show a face, which cannot be removed from them; "
                "remove them from objects"
            )
        return self

    @property
    def takes_reports_only(self) -> bool:
        """Whether it gets messages that are made of reports, and no DICOM object."""
        return bool(self.hl7 or self.fhir)

    @property
    def kinds(self) -> frozenset[str]:
        """``objects`` by the names of ``node.results``; the report refers to the segmentation that is sent with it."""
        if self.takes_reports_only:
            return frozenset({"sr alone"})
        report = "sr" if "seg" in self.objects else "sr on labelmap" if "labelmap" in self.objects else "sr alone"
        return frozenset(report if kind == "sr" else kind for kind in self.objects)
