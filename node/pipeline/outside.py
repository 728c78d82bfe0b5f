"""What a pipeline may have done outside of its process: for the adapters of containers, servers and remote results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Outside(Protocol):
    """The container or server that ``[pipelines.NAME] factory`` names; nothing else can be called."""

    @property
    def inputs(self) -> Path:
        """Folder for what it gets; empty when a task begins."""

    @property
    def outputs(self) -> Path:
        """Folder with what it returned. Anything may lie there: links, pipes, files of any size."""

    @property
    def files(self) -> Mapping[str, tuple[Path, ...]]:
        """DICOM files of the task: ``""`` for the series, and companions by name. Read them, never change them."""

    @property
    def returned(self) -> Sequence[Path]:
        """DICOM files that came back from where the series was sent under pseudonyms. Anything may be in them."""

    @property
    def uids(self) -> Mapping[str, str]:
        """UIDs of the study, the series and its images, by the pseudonyms under which they were sent."""

    @property
    def sent(self) -> Mapping[str, str]:
        """Frame of reference of each series of the study that was sent, both as pseudonyms; empty: not known."""

    @property
    def others(self) -> Mapping[str, str]:
        """Series of each image of other series of the study that were sent, as pseudonyms, and of what came back."""

    @property
    def segmentations(self) -> Mapping[str, Path]:
        """DICOM SEG of each pipeline that ran before this one and outlined something, by its name. Only read them."""

    def call(self) -> None:
        """Do it, and return when it is done. Raises ``PipelineError`` and ``PlatformError``."""
