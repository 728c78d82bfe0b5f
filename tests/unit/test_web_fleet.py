"""The page of the fleet: one machine plainly, several with what an operator must notice, and the switch that drains."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import sqlalchemy as sa
from dashboards import Dashboard, token

from node.ledger.drained_machines import drain_machines, drained_machines
from node.ledger.engine import begin_immediate, now
from node.ledger.members import MachineFigures, Member, renew_beat
from node.ledger.missing_copies import record_missing_copies
from node.ledger.states import MemberState
from node.ledger.tables import member, notice
from node.membership import Membership, new_member
from node.operate.alerts import current_alerts
from node.spool.free_space import SpaceReader

GIB = 2**30
FIGURES = MachineFigures(
    clock_offset_seconds=0.0, clock_error_seconds=0.001, free_bytes=80 * GIB, total_bytes=200 * GIB
)
MEMBER = Member(
    id="a", role="receiver", machine="f00d1234", host="ai1/boot/1", pid=7, version="1.1.0", min_free_gib=10.0
)


def cards(dashboard: Dashboard) -> dict[str, str]:
    """The text of each machine's card, by its name; at "" what is above all."""
    page = dashboard.browser("otto").get("/fleet").text
    parts = page[page.index("<main") :].split("<section")
    texts = [html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", f"<{part}"))).strip() for part in parts]
    names = [html.unescape(name) for name in re.findall(r'<h2 id="machine-\d+">([^<]*?) *<', page)]
    return dict(zip(["", *names], texts, strict=True))


def beat(dashboard: Dashboard, *members: Member, ago: float = 0.0, **more: object) -> None:
    with begin_immediate(dashboard.engine) as connection:
        for member in members:
            renew_beat(connection, member, now() - ago, **{"figures": FIGURES, **more})  # type: ignore[arg-type]


def test_one_machine_on_sqlite_is_shown_plainly(dashboard: Dashboard):
    assert "No process is running." in cards(dashboard)[""]
    membership = Membership(
        dashboard.engine,
        replace(new_member("worker", dashboard.spool.machine), min_free_gib=0.0),
        space=SpaceReader(dashboard.spool.folder).read,
    )
    membership.beat()
    membership.offer(("nodule",), ("cuda:0",))
    [top, card] = cards(dashboard).values()
    assert top == "Fleet", "nothing differs from another machine, and no copy is spoken of"
    assert "Clock the ledger's own" in card
    assert re.search(r"Free disk space [\d.]+ [GT]iB of [\d.]+ [GT]iB Clock", card)
    assert re.search(r"worker process \d+ active 0 running attempts [\d.]+ s ago", card)
    assert "nodule cuda:0" in card
    assert "problem" not in dashboard.browser("otto").get("/fleet").text


def test_what_is_noticeable_is_said_in_words(dashboard: Dashboard):
    far, full = replace(FIGURES, clock_offset_seconds=-3600.0), replace(FIGURES, free_bytes=9 * GIB)
    beat(dashboard, MEMBER)
    beat(dashboard, replace(MEMBER, id="b", pid=8), state=MemberState.LOST)
    beat(dashboard, replace(MEMBER, id="c", role="worker", pid=9), ago=45.0)
    other = replace(MEMBER, machine="beef", host="ai<2>/boot/1", version="1.2.0")
    beat(dashboard, replace(other, id="d"), figures=far)
    beat(dashboard, replace(other, id="e", host="ai3/boot/1", machine="cafe"), figures=full)
    with begin_immediate(dashboard.engine) as connection:
        for id_, digest in (("a", "1"), ("d", "2")):
            connection.execute(
                sa.update(member).where(member.c.id == id_).values(configuration={"rules": digest}, began_at=1.0)
            )
        record_missing_copies(connection, ["incoming/1/2/3.dcm"])
        drain_machines(connection, [("dead", "ai9")])
    shown = cards(dashboard)
    assert "processes run different versions of the node: 1.1.0 (ai1) / 1.2.0 (ai3, ai<2>)" in shown[""]
    assert "[rules] of config.toml is not the same on ai1 / ai<2>" in shown[""]
    assert "1 file has one copy only" in shown[""]
    assert "1 receiver died" in shown["ai1"]
    assert "1 process has not beaten for 30 s or longer" in shown["ai1"]
    assert "process 8 lost" in shown["ai1"]
    assert "process 9 silent" in shown["ai1"]
    assert "the clock of" not in shown["ai1"]
    assert "the clock of ai<2> is -3600.0 s ± 0.1 s from the ledger's; synchronise both" in shown["ai<2>"]
    assert "9.0 GiB are free; images are refused below 10 GiB" in shown["ai3"]
    assert "of 200.0 GiB; images refused below 10 GiB" in shown["ai3"]
    assert "No process of this machine runs." in shown["ai9"]
    assert "Drained since" in shown["ai9"]
    assert "ai&lt;2&gt;" in dashboard.browser("otto").get("/fleet").text
    with dashboard.engine.connect() as connection:
        alerts = current_alerts(dashboard.config, connection, dashboard.spool, now())
    assert alerts["clock ai<2>"].startswith("the clock of ai<2> is -3600.0 s")
    assert "clock ai1" not in alerts


def test_operators_drain_a_machine_and_the_audit_trail_names_who(dashboard: Dashboard):
    beat(dashboard, MEMBER)
    beat(dashboard, replace(MEMBER, id="b", host="ai2/boot/1"))  # shares the storage folder
    operator, viewer = dashboard.browser("otto"), dashboard.browser("vera")
    assert viewer.get("/fleet").status_code == 403
    assert 'href="/fleet"' not in viewer.get("/").text
    drain = {"csrf": token(operator, "/fleet"), "to": "drain", "machine": "f00d1234", "host": "ai1"}
    assert viewer.post("/fleet", data=drain | {"csrf": token(viewer)}).status_code == 403
    refused = operator.post("/fleet", data=drain | {"host": "ai3"})
    assert (refused.status_code, "No process of machine &#39;ai3&#39; runs." in refused.text) == (404, True)
    assert operator.post("/fleet", data=drain).headers["location"] == "/fleet"
    with dashboard.engine.connect() as connection:
        assert list(drained_machines(connection)) == [("f00d1234", "ai1")]
        assert "drained machine ai1" in connection.scalars(sa.select(notice.c.detail)).all()
    assert "Let it work again" in cards(dashboard)["ai1"]
    assert "Let it work again" not in cards(dashboard)["ai2"]
    assert operator.post("/fleet", data=drain | {"to": "work"}).status_code == 303
    with dashboard.engine.connect() as connection:
        assert drained_machines(connection) == {}
        assert "ended the drain of machine ai1" in connection.scalars(sa.select(notice.c.detail)).all()
