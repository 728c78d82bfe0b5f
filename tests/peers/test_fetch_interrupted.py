"""`ainode fetch` of many studies over a network that fails three times: each image comes exactly once.

``AINODE_HEAVY=1 pytest -s tests/peers/test_fetch_interrupted.py`` fetches 1000 studies, and says how long it took.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import real_peers
from dicom_files import ct_series, write
from fetching import Fetching
from receivers import receiving

from node.errors import DeliveryError
from node.ledger.tables import conflict, instance

STUDIES = 1000 if os.environ.get("AINODE_HEAVY") else 24
IMAGES = 2
OUTAGE_SECONDS = 1.0


class Network:
    """A way to a port that can be cut: connections end, and new ones are closed at once until it is repaired."""

    def __init__(self, port: int) -> None:
        self._far_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._is_cut = False
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self, seconds: float) -> None:
        self._is_cut = True
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        time.sleep(seconds)
        self._is_cut = False

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._is_cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._far_port))
                self._open = [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                to.sendall(piece)
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


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
        real_peers.dcmtk(
            "storescu",
            "-aec",
            "ORTHANC",
            "+sd",
            "+r",
            "127.0.0.1",
            archive.dicom_port,
            tmp_path / "scanner",
            timeout=1800.0,
        )
        (tmp_path / "list.txt").write_text("".join(lines))
        network = Network(archive.dicom_port)
        fetching = Fetching(tmp_path, node, "ORTHANC", network.port)
        held: list[int] = []

        def fail_three_times() -> None:
            for share in (0.2, 0.5, 0.8):
                while len(fetching.here()) < share * len(expected):
                    time.sleep(0.02)
                network.cut(OUTAGE_SECONDS)
                held.append(len(fetching.here()))

        failing = threading.Thread(target=fail_three_times, daemon=True)
        failing.start()
        began, statuses = time.monotonic(), []
        while not statuses or statuses[-1]:
            statuses.append(fetching.fetch("--list", str(tmp_path / "list.txt")).exit_code)
            time.sleep(OUTAGE_SECONDS / 2)
        seconds = time.monotonic() - began
        print(f"{STUDIES} studies, {len(statuses)} runs, {seconds:.0f} s, images at the cuts: {held}")  # noqa: T201
        failing.join(60.0)
        network.close()
        assert len(held) == 3
        assert held[-1] < len(expected)
        assert set(statuses) == {DeliveryError.exit_code, 0}
        assert fetching.here() == expected
        assert len(node.rows(instance)) == len(expected)
        assert node.rows(conflict) == []
