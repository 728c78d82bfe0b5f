"""A receiver whose PostgreSQL primary vanishes from the network while a replica that lags is promoted; needs root.

Run as ``unshare --net PYTHON failover.py FOLDER``; it leaves ``told.json`` there.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import postgres
import sqlalchemy as sa
from dicom_files import ct_series
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from receivers import associate, configuration, member, send_dataset
from vanishing import HERE, THERE, call, network

from node.config import parse
from node.ledger.engine import open_ledger
from node.ledger.tables import instance
from node.receive import Receiver
from node.spool import Spool

PORT = 11112


class _Listener:
    port = PORT


def send(series: int) -> set[str]:
    """Send two images of a series of their own; return their UIDs once both have been acknowledged."""
    sender = associate(_Listener(), [(CTImageStorage, ExplicitVRLittleEndian)])  # type: ignore[arg-type]
    assert sender.is_established
    uids = set()
    for dataset in ct_series(2, 16):
        dataset.SeriesInstanceUID = f"1.2.{series}"
        dataset.SOPInstanceUID = f"1.2.{series}.{len(uids) + 1}"
        assert send_dataset(sender, dataset).Status == 0x0000
        uids.add(str(dataset.SOPInstanceUID))
    sender.release()
    return uids


def seconds_until_rows(engine: sa.Engine, uids: set[str]) -> float:
    begun = time.monotonic()
    while True:
        with engine.connect() as connection:
            if uids <= set(connection.scalars(sa.select(instance.c.sop_instance_uid))):
                return time.monotonic() - begun
        assert time.monotonic() - begun < 120.0, "no rows"
        time.sleep(0.1)


def main(folder: Path) -> None:
    with network() as prefix, postgres.cluster(THERE, prefix) as at_primary, postgres.replica(THERE, HERE) as replica:
        url = f"postgresql+psycopg://ainode@/postgres?host={THERE}:5432&host={HERE}:5432"
        config = parse(configuration(folder, PORT, "", f'min_free_gib = 0.0\nledger_url = "{url}"'))
        engine, spool = open_ledger(url), Spool(folder)
        receiver = Receiver(config, engine, spool, member(engine, spool))
        receiver.start()
        primary, following = sa.create_engine(at_primary), sa.create_engine(replica.url)
        seconds_until_rows(following, send(1))
        with following.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("ALTER SYSTEM SET primary_conninfo = ''"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
            while connection.scalar(sa.text("SELECT count(*) FROM pg_stat_wal_receiver")):
                time.sleep(0.1)
        lost = send(2)
        seconds_until_rows(primary, lost)
        call(*prefix, "ip", "route", "add", "blackhole", f"{HERE}/32")
        meanwhile = send(3)
        time.sleep(2.0)  # the connections of the receiver wait for the primary
        replica.promote()
        told = {"rows": seconds_until_rows(following, meanwhile), "lost rows": seconds_until_rows(following, lost)}
        receiver.stop()
    (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
