"""No run of the node says "no findings" about a series of which it knows that an image is missing.

Receiver and network are left out: what they would write is written, and the router, the pipeline and the ledger do the
rest. ``test_missing_end_to_end`` sends such losses through a node to a PACS.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa
from dicom_files import ct_series, write
from drawn_examples import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from job_pipelines import Scripted
from ledgers import open_copy
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from receivers import configuration
from scanner import RULE

from node.config import parse
from node.errors import InputError
from node.inference.run_pipeline import analyse
from node.jobs.engine import Jobs
from node.ledger import AssociationEnding, EndingPoint, ProcedureStepState
from node.ledger.association_endings import Ending
from node.ledger.associations import OpenAssociation, close_associations
from node.ledger.engine import begin_immediate
from node.ledger.instances import Receipt, record_instances
from node.ledger.job_outcome import record_outcome
from node.ledger.jobs import Job, get_job, source_paths
from node.ledger.procedure_steps import NewStep, create_step, update_step
from node.ledger.refusals import Refused, record_refusals
from node.ledger.tables import job
from node.pipeline import Unsuitable
from node.reasons import ReasonCode, reason, reason_text
from node.routing.router import Router
from node.spool import Spool
from node.studies.source import SourceSeries

IMAGES = 6
STORED, NEVER_SENT, UNREADABLE = "stored", "never sent", "unreadable"
REFUSED, OF_UNKNOWN_SERIES, UNKNOWN, CUT_OFF = "refused", "refused, series unknown", "refused, unknown", "cut off"
COLLIDED = "under the UID of another image"
FATES = (STORED, NEVER_SENT, UNREADABLE, REFUSED, OF_UNKNOWN_SERIES, UNKNOWN, CUT_OFF, COLLIDED)
FOREVER = {UNREADABLE, UNKNOWN, COLLIDED}
"""Nothing that is sent later shows that it is this image."""
NEVER, EARLY, LATE = range(3)
"""When it is sent again: not, before the deadline of the doubt, after it."""
WHOLE = (Ending(AssociationEnding.RELEASED),)
BROKEN = (
    Ending(AssociationEnding.ABORTED),
    Ending(AssociationEnding.LOST),
    Ending(AssociationEnding.ABORTED, EndingPoint.MESSAGE),
    Ending(AssociationEnding.LOST, EndingPoint.REFUSAL),
)
EXPLAINED = {"partial", "not applicable", "failed"}
"""Outcomes that do not speak of the whole series."""
SAID = {"none": "no findings", "findings": "findings", "derived": "derived", "unsuitable": "not applicable"}
"""What each pipeline does, which is also its name, and its outcome for a whole series."""
Met = list[tuple[Job, bool]]
"""Jobs with their outcomes, and whether an image was known to be missing then."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What happens to one series of six images."""

    fates: tuple[str, ...]
    comes: tuple[int, ...] = (NEVER,) * IMAGES
    ending: Ending = WHOLE[0]
    listed: bool = False
    """The scanner's procedure step names all of them."""
    two_associations: bool = False
    interleaved: bool = False
    """With another series, all of which is stored."""

    def is_missing(self, time: int) -> bool:
        """Whether the node knows that an image is missing when those have come that come until ``time``."""
        return any(
            fate in FOREVER or not NEVER < comes <= time
            for fate, comes in zip(self.fates, self.comes, strict=True)
            if fate != STORED and (fate != NEVER_SENT or self.listed)
        )

    @property
    def is_sound(self) -> bool:
        """Nothing at all went wrong."""
        return set(self.fates) == {STORED} and self.ending in WHOLE


class Losses:
    """A node with these pipelines that meets one loss after the other, along a clock that only goes forward."""

    def __init__(self, folder: Path, *pipelines: str) -> None:
        self.spool = Spool(folder / "node")
        tables = "".join(f'[pipelines.{name}]\nfactory = "job_pipelines:create"\n' for name in pipelines)
        rule = RULE.replace('pipelines = ["bright"]', f"pipelines = {list(pipelines)}")
        config = parse(configuration(self.spool.folder, 104) + tables + rule)
        self.engine = open_copy(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.router = Router(config, self.engine, self.spool, Jobs(self.engine))
        self.files = [str(path) for path in write(ct_series(IMAGES, 16), self.spool.data_folders[0] / "images")]
        self.broken = str(Path(self.files[0]).with_name("broken.dcm"))
        Path(self.broken).write_bytes(b"no DICOM")
        self.at = time.time()
        self.names = map(str, itertools.count())
        self.pipelines = pipelines

    def meet(self, loss: Loss) -> dict[str, Met]:
        """Every job that was made of the series, by its pipeline."""
        self.at += 5000.0
        study, series, other = (str(generate_uid()) for _ in range(3))
        uids = [str(generate_uid()) for _ in range(IMAGES)]
        self._send(study, series, uids, loss)
        if loss.interleaved:
            self._store(study, other, [(str(generate_uid()), path) for path in self.files], WHOLE[0])
        if loss.listed:
            self._list(study, series, uids)
        met: Met = []
        for time_, until in ((NEVER, (40.0,)), (EARLY, (150.0, 600.0)), (LATE, (700.0, 1400.0))):
            back = [
                (uid, self.files[index])
                for index, uid in enumerate(uids)
                if loss.comes[index] == time_ and loss.fates[index] not in {STORED, *FOREVER} and time_ != NEVER
            ]
            if back:
                self._store(study, series, back, WHOLE[0])
            elif time_ == LATE:
                break
            start = self.at
            for seconds in until:
                self.at = start + seconds
                self.router.step(self.at)
                met += [(analysis, loss.is_missing(time_)) for analysis in self._analysed(series, len(met))]
        return {
            name: [(analysis, missing) for analysis, missing in met if analysis.pipeline == name]
            for name in self.pipelines
        }

    def _send(self, study: str, series: str, uids: list[str], loss: Loss) -> None:
        stored = [
            (uid, self.broken if fate == UNREADABLE else self.files[index])
            for index, (uid, fate) in enumerate(zip(uids, loss.fates, strict=True))
            if fate in {STORED, UNREADABLE}
        ]
        collided = [(stored[0][0], f"conflicts/{next(self.names)}") for fate in loss.fates if fate == COLLIDED]
        half = len(stored) // 2 if loss.two_associations else 0
        if half:
            self._store(study, series, stored[:half], WHOLE[0])
        refused = [(uid, fate) for uid, fate in zip(uids, loss.fates, strict=True) if fate in WORDS]
        self._store(study, series, stored[half:], loss.ending, collided=collided, refused=refused)

    def _store(
        self,
        study: str,
        series: str,
        images: list[tuple[str, str]],
        ending: Ending,
        *,
        collided: list[tuple[str, str]] | None = None,
        refused: list[tuple[str, str]] | None = None,
    ) -> None:
        """One association: images that are kept, others under their UIDs, and images that are not kept."""
        sender = OpenAssociation(
            id=next(self.names),
            receiver="r",
            calling_ae="CT1",
            called_ae="AINODE",
            peer_address="10.1.2.3",
            opened_at=self.at,
        )
        receipts = [
            Receipt(
                sop_instance_uid=uid,
                sop_class_uid=CTImageStorage,
                transfer_syntax_uid=ExplicitVRLittleEndian,
                study_instance_uid=study,
                series_instance_uid=series,
                modality="CT",
                path=path,
                digest=f"blake3:{path}",
                size=1,
                conflict=conflict,
                association=sender,
                received_at=self.at,
            )
            for conflict, kept in ((False, images), (True, collided or []))
            for uid, path in kept
        ]
        with begin_immediate(self.engine) as connection:
            record_instances(connection, receipts)
            record_refusals(connection, [self._refused(sender, study, series, *refusal) for refusal in refused or ()])
            close_associations(connection, [sender.id], self.at, ending)

    def _refused(self, sender: OpenAssociation, study: str, series: str, uid: str, fate: str) -> Refused:
        return Refused(
            study_instance_uid="" if fate in {OF_UNKNOWN_SERIES, UNKNOWN} else study,
            series_instance_uid="" if fate in {OF_UNKNOWN_SERIES, UNKNOWN} else series,
            sop_instance_uid="" if fate == UNKNOWN else uid,
            association_id=sender.id,
            calling_ae=sender.calling_ae,
            peer_address=sender.peer_address,
            status=None if fate == CUT_OFF else 0xA700,
            reason=WORDS[fate],
            at=self.at,
        )

    def _list(self, study: str, series: str, uids: list[str]) -> None:
        with begin_immediate(self.engine) as connection:
            step = NewStep(
                sop_instance_uid=str(generate_uid()),
                study_instance_uid=study,
                modality="CT",
                calling_ae="CT1",
                equipment="10.1.2.3",
                made=frozenset(),
            )
            create_step(connection, step)
            update_step(
                connection, step.sop_instance_uid, ProcedureStepState.COMPLETED, [(series, uid) for uid in uids]
            )

    def _analysed(self, series: str, known: int) -> Iterator[Job]:
        """Jobs of the series beyond the ``known`` ones, as they are after their pipeline has run."""
        with self.engine.connect() as connection:
            query = sa.select(job.c.id).where(job.c.series_instance_uid == series).order_by(job.c.generation)
            ids = connection.scalars(query).all()[known:]
        for job_id in ids:
            with self.engine.connect() as connection:
                row = get_job(connection, job_id)
                paths = tuple(sorted(Path(path) for path in source_paths(connection, row)))
            try:
                outcome, why = _result(row.pipeline, paths, reason_text(row.incomplete))
            except Unsuitable as unsuitable:
                outcome, why = "not applicable", str(unsuitable)
            except InputError as error:
                outcome, why = "failed", str(error)
            with begin_immediate(self.engine) as connection:
                stated = reason(ReasonCode.STATED, text=why) if why else None
                record_outcome(connection, job_id, outcome, stated)
                yield get_job(connection, job_id)


@cache
def _result(does: str, paths: tuple[Path, ...], incomplete: str) -> tuple[str, str]:
    """Outcome and reason of a pipeline; all losses are of the same files, and alike files and reasons give it again."""
    outcome, why, _ = analyse(Scripted({"does": does}), _read(paths), incomplete=incomplete)
    return outcome, why


@cache
def _read(paths: tuple[Path, ...]) -> SourceSeries:
    """All losses are of the same files."""
    return SourceSeries.read(paths)


WORDS = {
    REFUSED: "disk",
    OF_UNKNOWN_SERIES: "data set unreadable",
    UNKNOWN: "no UID",
    CUT_OFF: "the association ended",
}


@pytest.fixture(scope="module")
def node() -> Iterator[Losses]:
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Losses(Path(folder), *SAID)


@pytest.fixture(scope="module")
def alone() -> Iterator[dict[str, Losses]]:
    """A node with one pipeline, for each of them."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield {does: Losses(Path(folder) / does, does) for does in SAID}


def says_no_more_than_it_saw(met: Met, loss: Loss, does: str) -> None:
    assert met
    for analysis, missing in met:
        if missing:
            assert analysis.outcome in EXPLAINED, (loss, analysis)
            assert analysis.incomplete
            assert analysis.reason
            assert reason_text(analysis.incomplete) in reason_text(analysis.reason)
        assert analysis.outcome == SAID[does] or analysis.outcome in EXPLAINED
    if loss.is_sound:
        assert [(analysis.outcome, analysis.incomplete, analysis.caveat) for analysis, _ in met] == [
            (SAID[does], None, None)
        ]


PLACES = {
    "first": {0},
    "last": {IMAGES - 1},
    "middle": {IMAGES // 2},
    "every second": set(range(1, IMAGES, 2)),
    "all but two": set(range(2, IMAGES)),
}


@pytest.mark.thorough
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fate", FATES[1:])
def test_each_loss_at_each_place_with_each_outcome(node: Losses, fate: str, place: str) -> None:
    fates = tuple(fate if index in PLACES[place] else STORED for index in range(IMAGES))
    for listed, two, interleaved, comes in (
        (fate == NEVER_SENT, False, False, NEVER),
        (True, True, True, EARLY),
        (True, False, False, LATE),
    ):
        loss = Loss(
            fates=fates,
            comes=(comes,) * IMAGES,
            ending=BROKEN[2] if fate == CUT_OFF else WHOLE[0],
            listed=listed,
            two_associations=two,
            interleaved=interleaved,
        )
        for does, met in node.meet(loss).items():
            says_no_more_than_it_saw(met, loss, does)
            for analysis, _ in met:
                said = re.split(r"[;:.] ", reason_text(analysis.reason).rstrip("."))
                assert len(said) == len(set(said)), f"said twice: {said}"
            last, _ = met[-1]
            if comes != NEVER and fate not in FOREVER:  # it has come: nothing is missing any more
                assert (last.outcome, last.incomplete) == (SAID[does], None), loss
            else:
                assert last.incomplete, loss
            assert len(met) == 1 + (comes == LATE and fate not in FOREVER)


@pytest.mark.parametrize("ending", BROKEN, ids=str)
def test_a_sender_that_broke_off_is_named_and_surely_partial_in_the_middle(node: Losses, ending: Ending) -> None:
    loss = Loss(fates=(STORED,) * IMAGES, ending=ending)
    for does, ((analysis, _),) in node.meet(loss).items():
        if ending.amid:
            assert analysis.outcome in EXPLAINED
            assert "broke off in the middle" in reason_text(analysis.reason)
        else:
            assert (analysis.outcome, reason_text(analysis.caveat)) == (
                SAID[does],
                "The sender broke off; the series may be incomplete.",
            )
    for does, ((listed, _),) in node.meet(replace(loss, listed=True)).items():  # an authority lists all of it
        assert (listed.outcome, listed.incomplete, listed.caveat) == (SAID[does], None, None)


def test_a_sound_series_says_what_its_pipeline_says(node: Losses) -> None:
    loss = Loss(fates=(STORED,) * IMAGES)
    for does, met in node.meet(loss).items():
        says_no_more_than_it_saw(met, loss, does)


@st.composite
def losses(draw: st.DrawFn) -> Loss:
    fates = draw(st.lists(st.sampled_from((STORED, STORED, STORED, *FATES)), min_size=IMAGES, max_size=IMAGES))
    fates[draw(st.integers(0, IMAGES - 1))] = STORED  # of nothing there is no series
    return Loss(
        fates=tuple(fates),
        comes=tuple(draw(st.lists(st.sampled_from((NEVER, EARLY, LATE)), min_size=IMAGES, max_size=IMAGES))),
        ending=draw(st.sampled_from((*WHOLE * 4, *BROKEN))),
        listed=draw(st.booleans()),
        two_associations=draw(st.booleans()),
        interleaved=draw(st.integers(0, 4)) == 0,
    )


@pytest.mark.thorough
@pytest.mark.timeout(1500)
@settings(max_examples=examples(200), deadline=None, suppress_health_check=list(HealthCheck))
@given(losses(), st.sampled_from(("none", "none", *SAID)))
def test_no_run_says_no_findings_of_a_series_with_a_known_loss(alone: dict[str, Losses], loss: Loss, does: str) -> None:
    says_no_more_than_it_saw(alone[does].meet(loss)[does], loss, does)
