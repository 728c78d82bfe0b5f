"""What a node is to do: studies of a day, their size, and the pipelines that analyse them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PlannedAnalysis:
    """One pipeline in the plan."""

    pipeline: str
    share: float
    """Of all studies, 0 to 1: those in which it analyses a series."""
    seconds: tuple[float, ...]
    """Times on its device, from files to findings; each is as likely as the others."""

    @property
    def mean_seconds(self) -> float:
        return sum(self.seconds) / len(self.seconds)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What arrives, and what is done with it."""

    studies: float
    """In a day."""
    busiest_hour: float
    """Share of a day's studies that arrive in its busiest hour, 0 to 1."""
    images: float
    """In a study."""
    image_mib: float
    """Mean size of an image as it is stored, MiB."""
    analyses: tuple[PlannedAnalysis, ...]

    @property
    def studies_an_hour(self) -> float:
        """In the busiest hour."""
        return self.studies * self.busiest_hour

    @property
    def images_a_second(self) -> float:
        """In the busiest hour."""
        return self.studies_an_hour * self.images / 3600

    @property
    def analyses_a_study(self) -> float:
        return math.fsum(analysis.share for analysis in self.analyses)

    @property
    def devices_busy(self) -> float:
        """Devices that would be busy all the time in the busiest hour; fewer can never do the work."""
        return (
            self.studies_an_hour
            / 3600
            * math.fsum(analysis.share * analysis.mean_seconds for analysis in self.analyses)
        )


def planned_analyses(
    given: Sequence[tuple[str, float, float]], measured: Mapping[str, Sequence[float]]
) -> tuple[PlannedAnalysis, ...]:
    """Those that are ``given`` (pipeline, seconds, share); if none, those with ``measured`` times, on every study."""
    if given:
        return tuple(PlannedAnalysis(pipeline=name, share=share, seconds=(seconds,)) for name, seconds, share in given)
    return tuple(
        PlannedAnalysis(pipeline=name, share=1.0, seconds=tuple(times)) for name, times in sorted(measured.items())
    )
