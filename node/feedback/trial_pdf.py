"""The report of a trial as a PDF for whoever decides on a promotion, with pictures of the disagreements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

from reportlab.lib import colors
from reportlab.platypus import Flowable, KeepTogether, Spacer, Table

from node import __version__
from node.feedback.mask_comparison import PairedLesion
from node.feedback.quality import LEAST
from node.feedback.report_layout import MARGIN, draw_bland_altman, picture_rows, plots, signatures, table
from node.feedback.trial import Hits, Side
from node.feedback.trial_disagreements import LesionDisagreement, by_scanner, disagreements_of
from node.feedback.trial_pictures import CANDIDATE, CHAMPION
from node.feedback.trial_reading import TrialReading
from node.feedback.trial_report import hit_lines, lesion_lines, run_time
from node.feedback.truth_comparison import diameter_mm
from node.results import fonts
from node.results.pdf_file import pdf_file, pdf_text

_LISTED = 100
"""Series with a disagreement in the list."""
_NAMED = 16
"""Last digits of a Study Instance UID that name a study below its picture."""


def trial_pdf(reading: TrialReading, *, at: datetime, link: Callable[[str], str]) -> bytes:
    """Return the report as a PDF file; the same arguments give the same bytes.

    ``at``: local time of the report; ``link``: returns the address of the page of a study, empty without one.
    """
    fonts.register()
    trial = reading.trial
    champion, other = trial.champion.pipeline, trial.candidate.pipeline
    title = f"Trial: {other} beside {champion}"
    story: list[Flowable] = [
        pdf_text(title, 16),
        pdf_text(f"{at:%Y-%m-%d %H:%M}", 9, colors.grey),
        Spacer(0, 8),
        pdf_text(_compared(reading, at), 9),
    ]
    if trial.analyses:
        story += [Spacer(0, 8), *_figures(reading), *_gallery(reading), *_series(reading, link)]
    story += [
        Spacer(0, 10),
        signatures("Promoted / not promoted by"),
        Spacer(0, 4),
        pdf_text(f"ainode {__version__}", 7, colors.grey),
    ]
    return pdf_file(story, title=title, margin=MARGIN)


def _compared(reading: TrialReading, at: datetime) -> str:
    trial = reading.trial
    if trial.since is None or trial.until is None:
        return "No series was analysed by both in a trial."
    first, last = (datetime.fromtimestamp(time, UTC).astimezone(at.tzinfo) for time in (trial.since, trial.until))
    scanners = len({pair.pair.scanner for pair in reading.pairs})
    return (
        f"{trial.analyses} series of {scanners} scanner model{'s' if scanners > 1 else ''}, analysed by both from "
        f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    )


def _figures(reading: TrialReading) -> Iterator[Flowable]:
    trial = reading.trial
    yield _sides(trial.champion, trial.candidate, trial.analyses)
    yield Spacer(0, 8)
    yield pdf_text("Lesions", 12)
    yield from (pdf_text(line.strip(), 9) for line in lesion_lines(trial))
    volumes = [
        (lesion.candidate_mm3, lesion.champion_mm3)
        for pair in reading.pairs
        if pair.masks is not None
        for lesion in pair.masks.both
    ]
    if volumes:
        mean = None if trial.volume_difference is None else trial.volume_difference.value
        limits, axis = trial.limits_of_agreement, "candidate - champion, %"
        draw = partial(draw_bland_altman, volumes=volumes, difference=mean, limits=limits, ylabel=axis)
        yield plots([draw])
        if mean is None:
            yield pdf_text(f"Mean and limits are drawn from {LEAST} pairs of lesions on.", 7, colors.grey)
    yield Spacer(0, 8)
    yield pdf_text("Hits", 12)
    yield from (pdf_text(line.strip(), 9) for line in hit_lines(trial))
    if trial.hits is not None:
        yield _hits(trial.hits)
    yield Spacer(0, 8)
    yield pdf_text("By scanner", 12)
    yield _scanners(reading)


def _sides(champion: Side, other: Side, analyses: int) -> Table:
    def mib(number: float | None) -> str:
        return "not known" if number is None else f"{number:.0f} MiB"

    rows = [
        (what, *map(text_of, (champion, other)))
        for what, text_of in (
            ("Pipeline", lambda side: side.pipeline),
            ("Version", lambda side: "; ".join(side.versions) or "not known"),
            ("SHA-256 of the weights", lambda side: "; ".join(side.weights) or "none or not known"),
            ("Failed", lambda side: f"{side.failed} of {analyses}"),
            ("Run time", lambda side: run_time(side) or "not known"),
            ("Peak memory, host", lambda side: mib(side.host_mib)),
            ("Peak memory, device", lambda side: mib(side.device_mib)),
            ("Lesions that the other does not report", lambda side: str(side.lesions_alone)),
        )
    ]
    return table(("", "Champion", "Candidate"), rows, (0.24, 0.38, 0.38))


def _hits(hits: Hits) -> Table:
    rows = [
        ("Champion finds it", str(hits.both), str(hits.champion_only)),
        ("Champion misses it", str(hits.candidate_only), str(hits.neither)),
    ]
    return table(("", "Candidate finds it", "Candidate misses it"), rows, (0.2, 0.2, 0.2))


def _scanners(reading: TrialReading) -> Table:
    rows = [
        (
            counts.scanner or "no scanner named",
            *map(str, (counts.series, counts.both, counts.apart, counts.champion_only, counts.candidate_only)),
        )
        for counts in by_scanner(reading.pairs)
    ]
    titles = ("Scanner", "Series", "Lesions of both", "of these Dice below 0.5", "Champion alone", "Candidate alone")
    return table(titles, rows, (0.3, 0.1, 0.15, 0.15, 0.15, 0.15))


def _gallery(reading: TrialReading) -> Iterator[Flowable]:
    """Pictures by scanner model, the largest disagreement of each first."""
    every, shown = disagreements_of(reading.pairs), list(reading.pictures)
    yield Spacer(0, 10)
    yield pdf_text(f"Disagreements on lesions: {len(every)}", 12)
    if not every:
        return
    if len(every) > len(shown):
        left_out = len(every) - len(shown)
        yield pdf_text(f"The {len(shown)} largest are shown; {left_out} smaller ones were left out.", 8)
    for colour, text in (
        (CHAMPION, f"■ champion, {reading.trial.champion.pipeline}"),
        (CANDIDATE, f"■ candidate, {reading.trial.candidate.pipeline}"),
    ):
        yield pdf_text(text, 9, colors.Color(*(value / 255 for value in colour)))
    yield pdf_text(
        "Each picture shows the slice on which both differ most; the lesion meant has the thick outline. Size: volume "
        "that one side outlines and the other does not, and the diameter of the ball of that volume. R, L, A, P, H, F: "
        "right, left, anterior, posterior, head, foot.",
        7,
        colors.grey,
    )
    for scanner in sorted({disagreement.scanner for disagreement in shown}, key=lambda name: (not name, name)):
        here = [disagreement for disagreement in shown if disagreement.scanner == scanner]
        number = sum(disagreement.scanner == scanner for disagreement in every)
        of = f", {len(here)} shown" if number > len(here) else ""
        first, *others = picture_rows(
            [(_jpeg(reading, disagreement), _caption(reading, disagreement)) for disagreement in here]
        )
        heading = pdf_text(f"{scanner or 'No scanner named'}: {number}{of}", 10)
        yield KeepTogether([Spacer(0, 6), heading, first])
        yield from others


def _jpeg(reading: TrialReading, of: LesionDisagreement) -> bytes | None:
    drawn = reading.pictures[of]
    return None if drawn is None else drawn.jpeg


def _caption(reading: TrialReading, of: LesionDisagreement) -> Sequence[str]:
    sizes = f"{of.differing_mm3:.0f} mm³, {diameter_mm(of.differing_mm3):.1f} mm"
    drawn = reading.pictures[of]
    where = "its images cannot be drawn" if drawn is None else drawn.image
    verdict = f"reader: {of.verdict}" if of.verdict else "no verdict of a reader"
    return f"{_who(of.lesion)}: {sizes}", verdict, f"study ...{of.study_instance_uid[-_NAMED:]}, {where}"


def _who(lesion: PairedLesion) -> str:
    if lesion.champion and lesion.candidate:
        return f"Dice {lesion.dice:.2f}"
    return "champion alone" if lesion.champion else "candidate alone"


def _series(reading: TrialReading, link: Callable[[str], str]) -> Iterator[Flowable]:
    """Every series on which they disagree, and those that could not be compared."""
    trial = reading.trial
    yield Spacer(0, 10)
    yield pdf_text(f"Series on which they disagree: {len(trial.disagreements)}", 12)
    for disagreement in trial.disagreements[:_LISTED]:
        text = f"{disagreement.study_instance_uid}, {disagreement.scanner or 'no scanner named'}: {disagreement.what}"
        yield pdf_text(text, 7.5, link=link(disagreement.study_instance_uid))
    if len(trial.disagreements) > _LISTED:
        yield pdf_text(f"and {len(trial.disagreements) - _LISTED} more", 7.5)
    purged = [comparison.pair for comparison in reading.pairs if comparison.masks is None and not comparison.has_images]
    if purged:
        yield Spacer(0, 6)
        yield pdf_text("Not compared, because retention has purged their images:", 9)
        yield from (pdf_text(f"{pair.study_instance_uid}, {pair.scanner}", 7.5) for pair in purged[:_LISTED])
    if len(purged) > _LISTED:
        yield pdf_text(f"and {len(purged) - _LISTED} more", 7.5)
