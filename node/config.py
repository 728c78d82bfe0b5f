"""``config.toml`` as frozen values. Read once; unknown keys, wrong types and impossible values are errors."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator
from pydicom.datadict import dictionary_VR, keyword_dict, tag_for_keyword

from node.errors import ConfigError

AeTitle = Annotated[
    str, StringConstraints(min_length=1, max_length=16, pattern=r"^[\x20-\x5b\x5d-\x7e]*[\x21-\x5b\x5d-\x7e]$")
]
"""PS3.5 table 6.2-1 AE: at most 16 characters of the default repertoire, no backslash, no trailing space."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
Port = Annotated[int, Field(ge=1, le=65535)]
Outcome = Literal["findings", "no findings", "not applicable", "failed"]


NUMERIC_VRS = frozenset({"IS", "DS", "US", "SS", "UL", "SL", "UV", "SV", "FL", "FD"})
_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
NUMBER_OR_RANGE = re.compile(rf"\s*({_NUMBER})\s*(?:(-)\s*({_NUMBER})?\s*)?")
"""A number, ``low-high`` or ``low-``; groups: first number, dash, second number."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class Caller(_Table):
    """A peer that may open associations."""

    title: AeTitle
    """Calling AE title."""
    address: str = ""
    """IP address or network it must come from (``10.1.2.0/24``); empty: any."""


class Ae(_Table):
    """Our own application entity."""

    title: AeTitle = "AINODE"
    """AE title under which scanners and PACS know this node."""
    address: str = "0.0.0.0"  # noqa: S104 - scanners call from outside
    """Address to listen on; ``127.0.0.1`` for this machine only."""
    port: Port = 11112
    """TCP port of the Storage and Verification SCP."""
    require_called_title: bool = True
    """Refuse associations that call another title than ours."""
    callers: tuple[Caller, ...] = ()
    """Peers that may call; empty: everyone."""
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 64
    """Associations served at the same time; one more is refused (local limit exceeded)."""
    association_timeout_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Longest wait for an A-ASSOCIATE-RQ on a new connection (ARTIM timer)."""
    network_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest silence on an open association."""


class Storage(_Table):
    """Where files and ledger live."""

    folder: Path = Path("/var/lib/ainode")
    """Root of spool, results and (for SQLite) the ledger. One file system, so that renames are atomic."""
    min_free_gib: Annotated[float, Field(ge=0)] = 10.0
    """Below this much free space images are refused with status A700 (Out of Resources)."""
    ledger_url: str = ""
    """``postgresql://user@host/database`` to share the work between machines; empty: SQLite in ``folder``."""

    @field_validator("folder", mode="before")
    @classmethod
    def _folder(cls, value: Any) -> Any:
        return Path(value) if isinstance(value, str) else value


class SeriesTable(_Table):
    """When a series counts as complete."""

    quiet_seconds: Annotated[float, Field(gt=0)] = 30.0
    """No new image for this long, and no open association still sending it."""
    gap_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Wait this long instead while a gap in the slice positions suggests that images are still missing."""


class JobsTable(_Table):
    """How often and how long work is tried."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """Attempts of inference and encoding before the outcome is *failed*."""
    first_retry_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Delay before the second attempt; doubled each time."""
    max_retry_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Longest delay between two attempts."""
    run_timeout_seconds: Annotated[float, Field(gt=0)] = 1800.0
    """A pipeline that runs longer than this is killed."""


class Devices(_Table):
    """What pipelines run on."""

    use: tuple[str, ...] = ("auto",)
    """``"auto"`` (every CUDA device, else CPU), ``"cpu"``, ``"cuda:0"``, ...; one worker process each."""
    cpu_threads: Annotated[int, Field(ge=0)] = 0
    """Threads of a CPU worker; 0: one per core."""


class PipelineTable(_Table):
    """One pipeline under the name that rules use."""

    factory: str = ""
    """``module:factory``; empty: the installed entry point of this name in the group ``ainode.pipelines``."""
    weights: Path | None = None
    """Weights file; absent: the packaged ones."""
    options: dict[str, Any] = {}
    """Passed to the factory."""

    @field_validator("weights", mode="before")
    @classmethod
    def _weights(cls, value: Any) -> Any:
        return Path(value) if isinstance(value, str) else value


class Destination(_Table):
    """A Storage SCP that gets results."""

    title: AeTitle
    """Its AE title."""
    host: str
    """Its name or address."""
    port: Port
    """Its DICOM port."""
    commitment: bool = False
    """Ask for Storage Commitment; only its answer makes a delivery *confirmed*."""
    commitment_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Ask again when the answer does not arrive within this time."""
    outcomes: tuple[Outcome, ...] = ("findings", "no findings", "not applicable", "failed")
    """Outcomes whose objects are sent here."""
    first_retry_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Delay before the second attempt; doubled each time."""
    max_retry_seconds: Annotated[float, Field(gt=0)] = 900.0
    """Longest delay between two attempts; there is no last attempt."""


class Rule(_Table):
    """Series that match every condition go through the pipelines; their results to the destinations."""

    name: str
    """Shown in traces and reports."""
    match: dict[str, str | int | float | list[str | int | float]] = {}
    """Attribute keyword -> value, list, wildcard (``*`` ``?``) or range (``1.0-3.0``), as in PS3.4 C.2.2.2."""
    pipelines: tuple[Name, ...]
    """Names of ``[pipelines.NAME]``."""
    destinations: tuple[Name, ...]
    """Names of ``[destinations.NAME]``."""
    priority: Literal["low", "medium", "high"] = "medium"
    """Order in the queues; a STAT request (0074,1200 HIGH or 0040,1003 STAT) counts as high."""

    @field_validator("match")
    @classmethod
    def _keywords_exist(cls, match: dict[str, Any]) -> dict[str, Any]:
        for keyword, wanted in match.items():
            if tag_for_keyword(keyword) is None:
                hint = suggest(keyword, keyword_dict)
                raise ValueError(f"{keyword!r} is no DICOM attribute keyword{hint}; see PS3.6")
            if dictionary_VR(keyword) in NUMERIC_VRS:
                for option in wanted if isinstance(wanted, list) else [wanted]:
                    if option != "*" and not NUMBER_OR_RANGE.fullmatch(str(option)):
                        raise ValueError(f"{keyword} = {option!r}: give a number, or a range such as '1.0-3.0' or '2-'")
        return match


class Retention(_Table):
    """When files that nobody is owed are deleted."""

    days: Annotated[float, Field(ge=0)] = 14.0
    """Images and results of a study are deleted this long after its last event, when everything due was delivered."""


class Config(_Table):
    """The whole file."""

    ae: Ae = Ae()
    storage: Storage = Storage()
    retention: Retention = Retention()
    series: SeriesTable = SeriesTable()
    jobs: JobsTable = JobsTable()
    devices: Devices = Devices()
    pipelines: dict[Name, PipelineTable] = {}
    destinations: dict[Name, Destination] = {}
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _names_resolve(self) -> Config:
        for rule in self.rules:
            for kind, wanted, known in (
                ("pipelines", rule.pipelines, self.pipelines),
                ("destinations", rule.destinations, self.destinations),
            ):
                for name in wanted:
                    if name not in known:
                        raise ValueError(
                            f"rule {rule.name!r}: {kind} names {name!r}, which is not defined{suggest(name, known)}; "
                            f"add [{kind}.{name}]"
                        )
        return self

    def is_owed(self, destination: str, outcome: str) -> bool:
        """Whether a destination gets the objects of an outcome.

        One that is no longer configured stays owed: its delivery then says so.
        """
        table = self.destinations.get(destination)
        return table is None or outcome in table.outcomes


def suggest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean ...?)`` with the known word nearest to ``word``; empty when none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    """Keys of the table that holds the unknown key at ``location``."""
    model: Any = Config
    for part in location[:-1]:
        if part not in model.model_fields:
            continue  # an index, or the NAME in [pipelines.NAME]: the element type is already chosen
        annotation: Any = model.model_fields[part].annotation
        arguments = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        model = arguments[0] if arguments else annotation
    return list(getattr(model, "model_fields", {}))


def parse(text: str, origin: str = "config.toml") -> Config:
    """Parse and check TOML text. Raises ``ConfigError`` with key, value and remedy for every fault found."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not valid TOML: {error}") from error
    try:
        # Arrays become tuples and nothing else is converted: a port in quotes is a mistake worth showing.
        return Config.model_validate(_tuples(table))
    except ValidationError as error:
        raise ConfigError("\n".join(f"{origin}: {_sentence(dict(e))}" for e in error.errors())) from error


def load(path: Path) -> Config:
    """Read ``path``. Raises ``ConfigError`` also when it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); give another file with --config") from error
    return parse(text, str(path))


def _tuples(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: (v if key == "options" or k == "match" else _tuples(v, k)) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _sentence(error: dict[str, Any]) -> str:
    location = tuple(error["loc"])
    where = ".".join(str(p) for p in location)
    if error["type"] == "extra_forbidden":
        hint = suggest(str(location[-1]), _known_keys(location))
        return f"unknown key {where}{hint}; remove it, or see the comments of the shipped config.toml"
    if error["type"] == "missing":
        return f"{where} is missing; add it"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where} = {error['input']!r}: {message}" if where else message
