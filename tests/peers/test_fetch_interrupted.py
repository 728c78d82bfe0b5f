"""`ainode fetch` of many studies over a network that fails three times: each image comes exactly once.

``AINODE_HEAVY=1 pytest -s tests/peers/test_fetch_interrupted.py`` fetches 1000 studies, and says how long it took.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import real_peers
import sqlalchemy as sa
from dicom_files import ct_series, write
from fetching import Fetching
from lines import Line
from receivers import receiving

from node.errors import DeliveryError
from node.ledger.tables import conflict, instance

STUDIES = 1000 if os.environ.get("AINODE_HEAVY") else 24
IMAGES = 2
OUTAGE_SECONDS = 1.0


@pytest.mark.timeout(3600)
def test_each_image_of_many_studies_comes_once_although_the_network_fails_three_times(tmp_path: Path) -> None:
    with receiving(tmp_path / "node") as node, real_peers.orthanc(tmp_path, {"STORESCU": 1, "AINODE": 1}) as archive:
        expected, lines = set(), []
        for number in range(STUDIES):
            images = ct_series(n=IMAGES, size=16)
            for image in images:
                image.AccessionNumber = f"A{number}"
            write(images, tmp_path / "scanner" / str(number))
            expected |= {str(image.SOPInstanceUID) for image in images}
            lines.append(f"A{number}\n")
        sent = "+sd", "+r", "127.0.0.1", archive.dicom_port, tmp_path / "scanner"
        real_peers.dcmtk("storescu", "-aec", "ORTHANC", *sent, timeout=1800.0)
        (tmp_path / "list.txt").write_text("".join(lines))
        line = Line(archive.dicom_port)
        fetching = Fetching(tmp_path, node, "ORTHANC", line.port)
        held: list[int] = []

        def images_here() -> int:
            with node.engine.connect() as connection:
                return connection.scalar(sa.select(sa.func.count()).select_from(instance)) or 0

        def fail_three_times() -> None:
            for share in (0.2, 0.5, 0.8):
                while images_here() < share * len(expected):
                    time.sleep(0.02)
                line.cut(OUTAGE_SECONDS)
                held.append(images_here())

        failing = threading.Thread(target=fail_three_times, daemon=True)
        failing.start()
        began, statuses = time.monotonic(), []
        while not statuses or statuses[-1]:
            statuses.append(fetching.fetch("--list", str(tmp_path / "list.txt")).exit_code)
            time.sleep(OUTAGE_SECONDS / 2)
        seconds = time.monotonic() - began
        print(f"{STUDIES} studies, {len(statuses)} runs, {seconds:.0f} s, images at the cuts: {held}")  # noqa: T201
        failing.join(60.0)
        line.close()
        assert len(held) == 3
        assert held[-1] < len(expected)
        assert set(statuses) == {DeliveryError.exit_code, 0}
        assert fetching.here() == expected
        assert len(node.rows(instance)) == len(expected)
        assert node.rows(conflict) == []
