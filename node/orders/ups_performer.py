"""Performs workitems of another system's UPS-RS worklist: claims them, follows their jobs, and reports their ends.

``node.orders.ups_inputs`` sees to the images. A claim is made under a Transaction UID that the ledger has before: who
finds the workitem in progress after a crash learns with it whether the claim is its own. Every report may be sent
twice. The other system's requests for cancellation reach performers by subscription only, which this one has not.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid

from sqlalchemy import Engine

from node.actor import look_every, surviving
from node.config import Config
from node.errors import DeliveryError, InputError, NodeError, UnreachableError
from node.jobs.engine import Jobs
from node.ledger import NoticeKind
from node.ledger.audit_events import Question, give_notice
from node.ledger.claimed_workitems import (
    ClaimedWorkitem,
    NewClaim,
    begin_claim,
    due_claims,
    known_claims,
    purge_claims,
    put_off_claim,
    set_claim,
    set_reported,
)
from node.ledger.clock import clock_of
from node.ledger.engine import begin_immediate
from node.ledger.leadership import Leadership
from node.ledger.states import ClaimState
from node.ledger.workitem_progress import WorkitemProgress, outputs_of, progress_of_request, started_at
from node.ledger.workitems import Requested, Workitem, end_workitem
from node.log import about
from node.orders.ups_service import UpsService, is_ended, ups_service
from node.reasons import ReasonCode, reason, reason_text
from node.retry_delay import retry_delay
from node.workitems.attributes import WorkitemDetails, progress_report
from node.workitems.request import analysis_request, has_codes, is_uid, offered
from node.workitems.state import FINAL, StepProgress, StepState, progress_of
from node.workitems.step_json import Values, text_of

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
"""Between two looks at the claims; the worklist is asked every ``poll_seconds``."""
_FIRST_SECONDS, _MAX_SECONDS = 2.0, 60.0
"""Between two attempts that fail."""
REQUESTER = "worklist"
"""Who has requested what the node performs for another system."""


class UpsPerformer:
    """Work of the role *sender*; of several processes one does it, and what two did would be harmless."""

    def __init__(self, config: Config, engine: Engine) -> None:
        self._config = config
        self._settings = config.orders.ups
        self._engine = engine
        self._jobs = Jobs(engine)
        self._leadership = Leadership(engine, "UPS performer")
        self._asked_at = -self._settings.poll_seconds

    def run(self, stop: threading.Event) -> None:
        """Look until ``stop`` is set."""
        if not self._settings.enabled:
            return
        try:
            look_every(_LOOK_SECONDS, stop, "UPS performer", self.step)
        finally:
            self._leadership.release()

    def step(self) -> None:
        """Claim what is offered, and report what has changed."""
        if not self._leadership.is_ours():
            return
        try:
            with ups_service(self._settings, self._on_query) as service:
                self._ask(service)
                with self._engine.connect() as connection:
                    due = due_claims(connection, clock_of(self._engine))
                answers = True
                for of in due:
                    with about(of.study_instance_uid), surviving(f"workitem {of.uid}"):
                        answers = self._attend(service, of)
                    if not answers:  # the others would wait for as long
                        break
        except DeliveryError as error:
            logger.warning("worklist: %s; asking again later", error)

    def _ask(self, service: UpsService) -> None:
        """Keep a claim for each workitem that this node can perform."""
        if time.monotonic() - self._asked_at < self._settings.poll_seconds:
            return
        self._asked_at = time.monotonic()
        with begin_immediate(self._engine) as connection:
            purge_claims(connection, clock_of(self._engine) - self._config.orders.days * 86400.0)
            known = known_claims(connection)
        for brief in service.scheduled():
            uid = text_of(brief, "SOPInstanceUID")
            if uid in known or not is_uid(uid) or (has_codes(brief) and not offered(brief, self._config.procedures)):
                continue
            step = service.retrieve(uid)
            new = None if step is None else self._claim_of(uid, step)
            if new is not None:
                with begin_immediate(self._engine) as connection:
                    begin_claim(connection, new)

    def _claim_of(self, uid: str, step: Values) -> NewClaim | None:
        """What to claim; ``None``: the workitem asks for nothing that this node offers, or does not wait any more."""
        offer = offered(step, self._config.procedures)
        if offer is None or text_of(step, "ProcedureStepState") != StepState.SCHEDULED:
            return None
        transaction = f"2.25.{uuid.uuid4().int}"
        try:
            wanted = analysis_request(step, self._config.procedures)
        except InputError as error:
            why = reason(ReasonCode.ERROR, explanation=str(error))
            requested = Requested(code=offer[1])
            return NewClaim(uid=uid, transaction_uid=transaction, procedure=offer[0], requested=requested, reason=why)
        return NewClaim(
            uid=uid,
            transaction_uid=transaction,
            study_instance_uid=wanted.study_instance_uid,
            series_instance_uid=wanted.series_instance_uid,
            patient_id=wanted.patient_id,
            procedure=wanted.procedure,
            requested=wanted.requested,
        )

    def _attend(self, service: UpsService, of: ClaimedWorkitem) -> bool:
        """Do what is due of one workitem; return whether the other system answers."""
        try:
            match of.state:
                case ClaimState.CLAIMING:
                    self._claim(service, of)
                case ClaimState.REFUSED:
                    why = StepProgress(
                        state=StepState.CANCELED,
                        percent=0,
                        description=reason_text(of.reason),
                        reason=of.reason,
                        ended_at=of.updated_at,
                    )
                    self._report(service, of, None, why)
                case ClaimState.REQUESTED:
                    with self._engine.connect() as connection:
                        progress = progress_of_request(connection, of.uid)
                    if progress is None:  # its study was purged
                        self._set(of, ClaimState.LOST)
                    else:
                        self._report(service, of, progress, progress_of(progress))
        except DeliveryError as error:
            logger.warning("workitem %s: %s; asking again later", of.uid, error)
            self._put_off(of)
            return not isinstance(error, UnreachableError)
        return True

    def _claim(self, service: UpsService, of: ClaimedWorkitem) -> None:
        answer = service.change_state(of.uid, StepState.IN_PROGRESS, of.transaction_uid)
        if not answer.ok:
            step = service.retrieve(of.uid)
            state = "" if step is None else text_of(step, "ProcedureStepState")
            if state == StepState.SCHEDULED:
                raise DeliveryError(f"its claim is answered {answer}")
            begun = StepProgress(state=StepState.IN_PROGRESS, percent=0, description="claimed")
            known = progress_report(of.study_instance_uid, of.requested.code, begun, self._config)
            is_ours = state == StepState.IN_PROGRESS and service.update(of.uid, known, of.transaction_uid).ok
            if not is_ours:
                self._set(of, ClaimState.LOST)
                logger.info("workitem %s: another performer has it, or it was withdrawn", of.uid)
                return
        self._set(of, ClaimState.REFUSED if of.reason else ClaimState.CLAIMED)
        detail = f"claimed workitem {of.uid} of study {of.study_instance_uid} for procedure {of.procedure}"
        give_notice(self._engine, NoticeKind.ACT, who=self._config.ae.title, detail=detail)
        logger.info("%s", detail)

    def _report(
        self, service: UpsService, of: ClaimedWorkitem, workitem: WorkitemProgress | None, progress: StepProgress
    ) -> None:
        """Tell the other system how far a workitem is, and its end with the outputs."""
        is_end = progress.state in FINAL
        progress_text = f"{progress.percent} {progress.description}"
        if not is_end and progress_text == of.reported:
            return
        details = self._details(workitem) if is_end and workitem is not None and workitem.job is not None else None
        step = progress_report(of.study_instance_uid, of.requested.code, progress, self._config, details)
        answer = service.update(of.uid, step, of.transaction_uid)
        if answer.ok and is_end:
            answer = service.change_state(of.uid, progress.state, of.transaction_uid)
        if answer.ok:
            if is_end:
                self._set(of, ClaimState.ENDED)
                logger.info("workitem %s: %s", of.uid, progress.state)
            else:
                with begin_immediate(self._engine) as connection:
                    set_reported(connection, of.uid, progress_text)
            return
        if not is_ended(service.retrieve(of.uid)):
            raise DeliveryError(f"its report is answered {answer}")
        if is_end:  # a repetition of what a process had sent before it was killed
            self._set(of, ClaimState.ENDED)
        else:
            self._withdraw(of, workitem)

    def _details(self, of: WorkitemProgress) -> WorkitemDetails:
        if of.job is None:
            return WorkitemDetails()
        with self._engine.connect() as connection:
            return WorkitemDetails(outputs=outputs_of(connection, of.job), started_at=started_at(connection, of.job))

    def _withdraw(self, of: ClaimedWorkitem, workitem: WorkitemProgress | None) -> None:
        """Cancel the analysis of a workitem that the other system has ended or deleted."""
        requested: Workitem | None = None if workitem is None else workitem.requested
        if workitem is not None and workitem.job is not None:
            with surviving(f"workitem {of.uid}"):
                try:
                    self._jobs.cancel(workitem.job.id, REQUESTER)
                except NodeError as error:  # it has ended meanwhile
                    logger.info("workitem %s: %s", of.uid, error)
        elif requested is not None:
            with begin_immediate(self._engine) as connection:
                end_workitem(connection, of.uid, reason(ReasonCode.CANCELLED, operator=REQUESTER))
        self._set(of, ClaimState.LOST)
        logger.info("workitem %s: the other system has ended it", of.uid)

    def _set(self, of: ClaimedWorkitem, state: ClaimState) -> None:
        with begin_immediate(self._engine) as connection:
            set_claim(connection, of.uid, state)

    def _put_off(self, of: ClaimedWorkitem) -> None:
        with begin_immediate(self._engine) as connection:
            seconds = retry_delay(of.failures + 1, _FIRST_SECONDS, _MAX_SECONDS)
            put_off_claim(connection, of, seconds, failed=True)

    def _on_query(self, question: Question) -> None:
        give_notice(self._engine, NoticeKind.QUERY, who=self._settings.url, detail=question.to_json())
