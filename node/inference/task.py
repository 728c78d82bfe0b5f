"""A task for the process that runs pipelines, its reply, and the access that the process has."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from node.config import PipelineTable
from node.errors import PipelineError
from node.outcome import Outcome
from node.peer_text import escaped
from node.translation import LANGUAGES, Sentence, translations_of

if TYPE_CHECKING:
    from node.inference.memory_admission import MemoryPeak
    from node.outside.exchange import Exchange


CACHES = ("XDG_CACHE_HOME", "CUDA_CACHE_PATH")
"""Variables that name folders for compiled code; the systemd units set them."""
COMPILERS = {"TORCHINDUCTOR_CACHE_DIR": "torchinductor", "TRITON_CACHE_DIR": "triton"}
"""Variables of compilers that keep their code elsewhere, with folders below the same place."""
FINDINGS = "findings.npz"
"""Name of the handover in the folder of a task."""
HISTOGRAM_HU = (-1024, 2048, 64)
"""First edge, last edge and width of the bins of a CT histogram; what lies outside is in no bin."""
LONGEST_REASON = 4000
"""Characters of the reason in a reply."""
LONGEST_LIST = 10_000
"""Scores in a reply: no report has so many findings."""
_LARGEST = 1e15
_NUMBERS = frozenset(
    {"slices", "voxels", "slice_spacing_mm", "pixel_spacing_mm", "level_low", "level_mid", "level_high", "findings"}
)


@dataclass(frozen=True, kw_only=True)
class PriorFiles:
    """An earlier analysis to compare with."""

    report: Path | None = None
    """This node's report."""
    segmentation: Path | None = None
    """What it outlines; ``None`` when ``images`` is empty: no longer available."""
    images: tuple[Path, ...] = ()
    """Of the series that was analysed."""
    without: str = ""
    """Why there is none although the rule asks for one; a remark of the report."""


@dataclass(frozen=True, kw_only=True)
class ResultFiles:
    """What another pipeline has made of the series."""

    described_by: Path
    """One of its objects, which names its algorithm."""
    segmentation: Path | None
    """``None``: it has outlined nothing."""
    partial: str = ""
    """Why it is partial, in words for a radiologist; empty: it is not."""


@dataclass(frozen=True, kw_only=True)
class ReturnedFiles:
    """What came back from where the series was sent under pseudonyms."""

    paths: tuple[Path, ...] = ()
    uids: dict[str, str] = field(default_factory=dict)
    """UIDs of study, series and images by those under which they were sent."""
    sent: dict[str, str] = field(default_factory=dict)
    """Frame of reference of each series of the study that was sent, both as they were sent."""
    others: dict[str, str] = field(default_factory=dict)
    """Series of each image of the other ones as they were sent, and of each object that came back."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One pipeline to run on one series."""

    job_id: str
    pipeline: str
    table: PipelineTable
    paths: tuple[Path, ...]
    """Files of the series."""
    companions: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    """Files of other series of the study that the pipeline may look at, by name."""
    prior: PriorFiles = PriorFiles()
    results: dict[str, ResultFiles] = field(default_factory=dict)
    """What the pipelines before this one have made of the series, by name."""
    returned: ReturnedFiles = ReturnedFiles()
    seen: tuple[MemoryPeak, ...] = ()
    """What earlier analyses took."""
    incomplete: str = ""
    """What is known to be missing from the series, in words for a radiologist."""
    folder: Path
    """Where the handover goes."""
    alone: bool = False
    """No other process is left that could be ended to make room on the device."""
    load_only: bool = False
    """Only make sure that the pipeline is loaded."""
    in_shadow: bool = False
    """It is computed while nobody else computes."""
    number: int = 0
    """Of those that its process was given; its replies repeat it."""
    prefetch: bool = False
    """Only read and decode the series while another task runs; the same task without this comes next. No reply."""

    @property
    def pipeline_key(self) -> str:
        """Of the pipeline with its table among those that are loaded."""
        return f"{self.pipeline} {self.table!r}"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """Result of a task. ``outcome`` is empty after a failure; ``error`` then is a code of ``node.errors``."""

    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid")
    outcome: str = ""
    reason: str = ""
    translations: dict[str, str] = field(default_factory=dict)
    """Of the reason, by language."""
    error: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    peak_memory_mib: dict[str, float] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    """Computing of the process in this task, without that of its decoders."""
    facts: dict[str, Any] = field(default_factory=dict)
    """See ``node.inference.analysis_statistics``."""
    description: dict[str, Any] = field(default_factory=dict)
    """After loading and after a run: see ``node.inference.pipeline_description``, which checks it."""
    task: int = 0
    """Number of the task that it replies to."""
    calls_outside: bool = False
    """No result: the pipeline wants what its table names outside of the process (``node.outside``), and waits."""
    ends_process: bool = False
    """The process ends after this reply: it holds no model that worked, or its device is broken."""

    def to_bytes(self) -> bytes:
        """Return one line of JSON. A long reason is cut: the exception of a library may hold a whole array."""
        of = translations_of(self.reason)
        translations = {language: text[:LONGEST_REASON] for language, text in of.items()}
        reply = replace(self, reason=self.reason[:LONGEST_REASON], translations=translations)
        return json.dumps(asdict(reply)).encode() + b"\n"

    @staticmethod
    def from_bytes(data: bytes) -> Reply:
        """Read a reply. Raises ``PipelineError`` for anything else: a model may write into the pipe as well."""
        try:
            reply = _REPLY.validate_json(data)
        except ValidationError as error:
            faults = "; ".join(fault["msg"] for fault in error.errors(include_input=False))
            raise PipelineError(f"the process of the pipeline sent no reply that can be read: {faults}") from None
        if reply.outcome not in ("", *Outcome):
            raise PipelineError("the process of the pipeline sent no reply that can be read: an unknown outcome")
        numbers = (*reply.timings.values(), *reply.peak_memory_mib.values(), reply.cpu_seconds)
        if not all(map(_is_number, numbers)) or not all(_is_fact(*fact) for fact in reply.facts.items()):
            raise PipelineError("the process of the pipeline sent no reply that can be read: a value of a wrong type")
        translations: dict[str, str] = {
            language: escaped(text, LONGEST_REASON)
            for language, text in reply.translations.items()
            if language in LANGUAGES
        }
        return replace(reply, reason=Sentence(escaped(reply.reason, LONGEST_REASON), translations))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a call outside; ``error`` as in ``Reply``."""

    error: str = ""
    reason: str = ""


_REPLY = TypeAdapter(Reply)


def _is_fact(name: str, value: Any) -> bool:
    """Whether a value has the form of ``node.inference.analysis_statistics``."""
    if name in ("scanner", "version"):
        return isinstance(value, str)
    if name == "weights":
        return value is None or isinstance(value, str)
    if name in ("histogram", "scores"):
        listed = isinstance(value, list) and len(value) <= LONGEST_LIST and all(map(_is_number, value))
        return (listed and all(0 <= share <= 1 for share in value)) or (value is None and name == "histogram")
    return name in _NUMBERS and (value is None or _is_number(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Access that the process has in addition to what any program with PyTorch needs."""

    device: str
    threads: int
    rules: tuple[tuple[Path, int], ...]
    """Files, for ``node.isolation.confine``."""
    out: Path
    """For temporary files."""
    exchange: Exchange | None = None
    """See ``node.outside.exchange``; ``None``: its pipelines call nothing."""
    cache: Path | None = None
    """For compiled code, which outlives the process; ``None``: below ``out``."""
