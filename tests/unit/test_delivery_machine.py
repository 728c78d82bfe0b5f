"""Jobs and deliveries through any sequence of senders, answers, deaths, cancellations and retries."""

from __future__ import annotations

import sqlalchemy as sa
from drawn_examples import examples
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from ledger_walk import CONFIG, Walk

from node.ledger import ACTIVE
from node.ledger.deliveries import Claim, ObjectStatus, begin_delivery, record_statuses, release_delivery
from node.ledger.delivery_proof import record_query_result
from node.ledger.destination_circuits import close, open_circuit, record_failure
from node.ledger.engine import begin_immediate
from node.ledger.jobs import due_of, get_job, list_jobs
from node.ledger.pending_deliveries import (
    instances_to_confirm,
    instances_to_store,
    is_stored,
    statuses,
    stored_since,
)
from node.ledger.retry_transitions import send_again
from node.ledger.tables import delivery, delivery_instance
from node.operate.account.report import account
from node.operate.account.rows import read

CHOICE = st.integers(0, 59)


class Deliveries(RuleBasedStateMachine):
    """A claim lives on in a sender that was presumed dead, and may report at any time later."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.walk = Walk([("receive", 0), ("complete", 0)])
        self.engine = self.walk.engine

    def teardown(self) -> None:
        self.engine.dispose()

    @rule(step=st.sampled_from(Walk.STEPS), choice=CHOICE)
    def walks(self, step: str, choice: int) -> None:
        with begin_immediate(self.engine) as connection:
            getattr(self.walk, step)(connection, choice, 1.0)

    @rule(target=claims, choice=CHOICE)
    def sender_begins(self, choice: int) -> object:
        with begin_immediate(self.engine) as connection:
            rows = statuses(connection, sa.true())
            if not rows:
                return multiple()
            row = rows[choice % len(rows)]
            begun = begin_delivery(connection, row.job_id, row.destination)
        return multiple() if begun is None else begun

    @rule(claim=claims, choice=CHOICE, status=st.sampled_from([0x0000, 0xB000, 0x0111, 0xA700, 0xC000, None]))
    def sender_reports(self, claim: Claim, choice: int, status: int | None) -> None:
        with begin_immediate(self.engine) as connection:
            owed = instances_to_store(connection, claim.job_id, claim.destination)
            if not owed:
                return
            uid = owed[choice % len(owed)].sop_instance_uid
            rows = connection.scalar(sa.select(sa.func.count()).select_from(delivery_instance))
            since = connection.scalar(self.created(claim))
            wanted = record_statuses(connection, claim, [ObjectStatus(uid, status)])
            assert wanted <= (since == claim.since)
            again = [
                instance.sop_instance_uid
                for instance in instances_to_store(connection, claim.job_id, claim.destination)
            ]
            if since == claim.since:
                assert (uid in again) != is_stored(status)
            else:  # overtaken by a retry: nothing was written
                assert connection.scalar(sa.select(sa.func.count()).select_from(delivery_instance)) == rows

    @rule(claim=claims, there=st.booleans())
    def destination_is_asked(self, claim: Claim, there: bool) -> None:  # noqa: FBT001 - hypothesis draws it
        with begin_immediate(self.engine) as connection:
            uids = [o.sop_instance_uid for o in instances_to_confirm(connection, claim.job_id, claim.destination)]
            record_query_result(connection, claim, uids if there else [], [] if there else uids, 1e12)

    @rule(claim=claims)
    def attempt_is_put_off(self, claim: Claim) -> None:
        with begin_immediate(self.engine) as connection:
            release_delivery(connection, claim.job_id, claim.destination)

    @rule(name=st.sampled_from(sorted(CONFIG.destinations)), up=st.booleans(), choice=CHOICE)
    def destination_goes_down_or_up(self, name: str, up: bool, choice: int) -> None:  # noqa: FBT001
        with begin_immediate(self.engine) as connection:
            if up:
                close(connection, name)
                assert open_circuit(connection, name) is None
            else:
                for _ in range(choice % 3):
                    record_failure(connection, name, "refused", 1.0, 2.0)

    @rule(name=st.sampled_from(sorted(CONFIG.destinations)))
    def destination_loses_an_object(self, name: str) -> None:
        with begin_immediate(self.engine) as connection:
            given = stored_since(connection, name, 0.0)
            if given:
                lost = given[0]
                send_again(connection, lost.job_id, name, [lost.sop_instance_uid])
                owed = [instance.sop_instance_uid for instance in instances_to_store(connection, lost.job_id, name)]
                assert lost.sop_instance_uid in owed

    @invariant()
    def everything_is_accounted_for(self) -> None:
        assert account(read(self.engine, queue_minutes=1e9), CONFIG.is_recipient).differences == ()

    @invariant()
    def what_is_done_is_proved_and_what_is_owed_is_due(self) -> None:
        with self.engine.connect() as connection:
            for row in statuses(connection, sa.true()):
                of = get_job(connection, row.job_id)
                assert row.state not in ("STORED", "CONFIRMED") or row.stored == row.instances, row
                assert row.state != "CONFIRMED" or row.committed == row.instances, row
                if of.state in ACTIVE and of.stage == "deliver" and row.state == "SCHEDULED" and row.ended_at is None:
                    assert row.destination in [attempt.subject for attempt in due_of(connection, of)]
            for of in list_jobs(connection):
                if of.state == "COMPLETED":
                    open_ = sa.and_(delivery.c.job_id == of.id, delivery.c.state.not_in(("STORED", "CONFIRMED")))
                    assert connection.scalar(sa.select(delivery.c.destination).where(open_)) is None

    @staticmethod
    def created(claim: Claim) -> sa.Select[tuple[float]]:
        which = sa.and_(delivery.c.job_id == claim.job_id, delivery.c.destination == claim.destination)
        return sa.select(delivery.c.created_at).where(which)


TestDeliveries = Deliveries.TestCase
TestDeliveries.settings = settings(max_examples=examples(20), stateful_step_count=30, deadline=None)
