"""Delivery to scripted peers, for answers that real ones cannot be made to give."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import delivery_jobs as jobs
import pytest
import sqlalchemy as sa
from dicom_files import ct_series, text_report
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from node.deliver import echo
from node.deliver.association import Timeouts
from node.errors import DeliveryError, TimeLimitError
from node.ledger.engine import begin_immediate
from node.ledger.tables import delivery


class Scripted:
    """A pynetdicom SCP that answers each C-STORE with the next status of its script, the last one for ever."""

    def __init__(self, statuses: Sequence[int], aet: str = "SCRIPTED", *, maximum_associations: int = 10) -> None:
        self.aet = aet
        self.host = "127.0.0.1"
        self.received: list[str] = []
        self._statuses = list(statuses)
        self._entity = AE(ae_title=aet)
        self._entity.maximum_associations = maximum_associations
        self._entity.add_supported_context(CTImageStorage)
        self._entity.add_supported_context(Verification)
        handlers = [(evt.EVT_C_STORE, self._answer), (evt.EVT_C_ECHO, lambda _: self._statuses[0])]
        self.server = self._entity.start_server((self.host, 0), block=False, evt_handlers=handlers)
        self.port = int(self.server.server_address[1])

    def _answer(self, event: evt.Event) -> Dataset:
        self.received.append(str(event.request.AffectedSOPInstanceUID))
        answer = Dataset()
        answer.Status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
        answer.ErrorComment = "as scripted"
        return answer


@contextmanager
def scripted(*statuses: int, **more: int) -> Iterator[Scripted]:
    peer = Scripted(statuses, **more)
    try:
        yield peer
    finally:
        peer.server.shutdown()


@contextmanager
def trickling(port: int) -> Iterator[int]:
    """A port that leads to another one; after the answer to the association request it returns a byte a second."""
    stop = threading.Event()

    def back(there: socket.socket, here: socket.socket) -> None:
        with suppress(OSError):
            here.sendall(there.recv(1 << 16))
            while not stop.is_set() and (byte := there.recv(1)):
                here.sendall(byte)
                stop.wait(1.0)

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as there, suppress(OSError):
                returning = threading.Thread(target=back, args=(there, self.request))
                returning.start()
                while data := self.request.recv(1 << 16):
                    there.sendall(data)
                stop.set()
                there.shutdown(socket.SHUT_RDWR)
                returning.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.1,))
        serving.start()
        try:
            yield server.server_address[1]
        finally:
            stop.set()
            server.shutdown()
            serving.join()


def finished(folder: Path, peer: object, n: int = 3) -> jobs.FinishedJob:
    return jobs.FinishedJob(folder, ct_series(n=n, size=16), {"pacs": jobs.destination(peer)})


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007, 0x0111])
def test_warnings_and_duplicates_count_as_stored_and_are_not_sent_again(tmp_path: Path, status: int) -> None:
    with scripted(status) as pacs:
        job = finished(tmp_path, pacs)
        job.deliver()
        job.deliver()
        assert sorted(pacs.received) == sorted(job.uids)
    assert {s for s, _ in job.answers().values()} == {status}
    assert all(comment.endswith(": as scripted") for _, comment in job.answers().values())
    assert job.status().state == "STORED"


@pytest.mark.parametrize("status", [0x0110, 0x0122, 0x0124, 0xA700, 0xA900, 0xC000, 0xC123])
def test_a_refused_instance_alone_is_sent_again(tmp_path: Path, status: int) -> None:
    with scripted(0x0000, status, 0x0000) as pacs:
        job = finished(tmp_path, pacs)
        with pytest.raises(
            DeliveryError, match=rf"2 of 3 objects stored; first refusal: status 0x{status:04X}, .*scripted"
        ):
            job.deliver()
        assert (job.status().state, job.status().stored) == ("SCHEDULED", 2)
        job.deliver()
        assert pacs.received == [*job.uids, job.uids[1]]
    assert job.status().state == "STORED"


def test_what_a_peer_takes_in_no_transfer_syntax_stays_owed_while_the_rest_is_stored_once(tmp_path: Path) -> None:
    images = ct_series(n=2, size=16)
    with scripted(0x0000) as pacs:
        datasets = [*images, text_report(study=images[0].StudyInstanceUID)]
        job = jobs.FinishedJob(tmp_path, datasets, {"pacs": jobs.destination(pacs)})
        with pytest.raises(DeliveryError, match=r"2 of 3 objects stored; .*context refused: .*SR Storage in Explicit"):
            job.deliver()
        with pytest.raises(DeliveryError, match="it accepts none of the SOP Classes to send"):
            job.deliver()
        assert pacs.received == job.uids[:2]
    assert (job.status().state, job.status().attempt, job.status().stored) == ("SCHEDULED", 2, 2)


@pytest.mark.parametrize(("status", "longest"), [(0xA900, 86400.0), (0xC001, 86400.0), (0xA700, 60.0)])
def test_an_object_that_is_refused_for_good_is_tried_again_in_days_not_minutes(
    tmp_path: Path, status: int, longest: float
) -> None:
    with scripted(status) as pacs:
        table = jobs.destination(pacs, first_retry_seconds=50.0, max_retry_seconds=60.0)
        job = jobs.FinishedJob(tmp_path, ct_series(n=1, size=16), {"pacs": table})
        for attempt in (1, 2, 12):
            with begin_immediate(job.engine) as connection:
                connection.execute(sa.update(delivery).values(attempt=attempt - 1))
            with pytest.raises(DeliveryError, match=f"0x{status:04X}"):
                job.deliver()
            wait = (job.status().next_at or 0.0) - time.time()
            assert wait == pytest.approx(min(longest, 50.0 * 2.0 ** (attempt - 1)), abs=5.0)


def test_an_association_beyond_the_limit_of_a_busy_peer_is_tried_again(tmp_path: Path) -> None:
    with scripted(0x0000, maximum_associations=1) as pacs:
        job = finished(tmp_path, pacs)
        busy = AE(ae_title="OTHER")
        busy.add_requested_context(Verification)
        other = busy.associate(pacs.host, pacs.port, ae_title=pacs.aet)
        with pytest.raises(DeliveryError, match="association rejected: its association limit is reached"):
            job.deliver()
        other.release()
        deadline = time.monotonic() + 30.0
        while pacs.server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        job.deliver()
    assert job.status().state == "STORED"


def test_an_echo_answered_with_a_failure_is_not_ok(tmp_path: Path) -> None:
    with scripted(0x0122) as pacs:
        config = jobs.config_for(tmp_path, pacs=jobs.destination(pacs))
        answer = echo("pacs", config.destinations["pacs"], "AINODE", jobs.PATIENT)
    assert (answer.ok, "status 0x0122" in answer.reason) == (False, True)


class Tap:
    """A TCP relay before a peer that passes on only so many bytes of what it is sent, then stops reading."""

    def __init__(self, peer: Scripted, limit: int | None, answer_limit: int | None = None) -> None:
        self.aet, self.host = peer.aet, peer.host
        self._listener = socket.create_server((self.host, 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.port = int(self._listener.getsockname()[1])
        self._to = (peer.host, peer.port)
        self._limits = (limit, answer_limit)
        self._open: list[socket.socket] = [self._listener]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
                self._open.append(inner)
                outer = socket.create_connection(self._to)
                self._open.append(outer)
            except OSError:
                return
            for source, sink, limit in ((inner, outer, self._limits[0]), (outer, inner, self._limits[1])):
                threading.Thread(target=self._pass_on, args=(source, sink, limit), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        try:
            while limit is None or passed < limit:
                data = source.recv(4096 if limit is None else min(4096, limit - passed))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
                passed += len(data)
        except OSError:
            return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for connection in self._open:
            with suppress(OSError):  # closed by its peer
                connection.shutdown(socket.SHUT_RDWR)  # wakes the threads that wait in it
            connection.close()


@pytest.mark.parametrize(
    ("limit", "answer_limit"),
    [
        pytest.param(2_000, None, id="stops reading in the middle of a PDU"),
        pytest.param(None, 0, id="never answers the association request"),
        pytest.param(None, 100, id="stops in the middle of its own PDU"),
        pytest.param(None, 400, id="answers only the association request"),
    ],
)
def test_a_peer_that_hangs_anywhere_is_noticed(tmp_path: Path, limit: int | None, answer_limit: int | None) -> None:
    with scripted(0x0000) as pacs:
        tap = Tap(pacs, limit, answer_limit)
        # Larger than all socket buffers, so that a peer that does not read blocks the sender.
        job = jobs.FinishedJob(tmp_path, ct_series(n=2, size=2048), {"pacs": jobs.destination(tap)})
        timeouts = Timeouts(connect_seconds=2.0, answer_seconds=2.0, store_seconds=1.0, stall_seconds=1.5)
        started = time.monotonic()
        with pytest.raises(DeliveryError, match=r"pacs \(SCRIPTED at"):
            job.deliver(timeouts=timeouts)
        assert time.monotonic() - started < 60.0
        tap.close()
    for thread in threading.enumerate():
        if thread.name.startswith("RequestorThread"):
            thread.join(10.0)
            assert not thread.is_alive()
    assert job.status().stored < 2
    assert job.status().error is not None


def test_a_destination_that_answers_slowly_costs_an_attempt_and_the_next_one_continues(tmp_path: Path) -> None:
    def slowly(event: evt.Event) -> Dataset:
        time.sleep(0.6)
        return answer(event)

    with scripted(0x0000) as pacs:
        answer = pacs._answer
        pacs.server.unbind(evt.EVT_C_STORE, answer)
        pacs.server.bind(evt.EVT_C_STORE, slowly)
        job = finished(tmp_path, pacs, n=4)
        job.config = job.config.model_copy(
            update={"jobs": job.config.jobs.model_copy(update={"deliver_timeout_seconds": 1.0})}
        )
        with pytest.raises(TimeLimitError, match=r"of 4 objects stored within \[jobs\] deliver_timeout_seconds = 1"):
            job.deliver()
        assert 0 < len(pacs.received) < 4
        for _ in range(4):
            with suppress(TimeLimitError):
                job.deliver()
        assert sorted(pacs.received) == sorted(job.uids), "each once"
    assert job.status().state == "STORED"


def test_an_object_that_takes_all_the_time_and_is_not_stored_keeps_no_other_from_its_turn(tmp_path: Path) -> None:
    def answer(event: evt.Event) -> Dataset:
        time.sleep(1.1)
        is_first = event.request.AffectedSOPInstanceUID == job.uids[0]
        pacs._statuses = [0xA700 if is_first else 0x0000]
        return scripted_answer(event)

    with scripted(0x0000) as pacs:
        scripted_answer = pacs._answer
        pacs.server.unbind(evt.EVT_C_STORE, scripted_answer)
        pacs.server.bind(evt.EVT_C_STORE, answer)
        job = finished(tmp_path, pacs, n=3)
        job.config = job.config.model_copy(
            update={"jobs": job.config.jobs.model_copy(update={"deliver_timeout_seconds": 1.0})}
        )
        for _ in job.uids:
            with pytest.raises((DeliveryError, TimeLimitError)):
                job.deliver()
        assert pacs.received == job.uids
    assert job.status().stored == 2


@pytest.mark.thorough
def test_a_destination_that_trickles_its_answer_ends_the_attempt(tmp_path: Path) -> None:
    with scripted(0x0000) as pacs, trickling(pacs.port) as port:
        job = finished(tmp_path, pacs)
        peer = job.config.destinations["pacs"].model_copy(update={"port": port})
        job.config = job.config.model_copy(update={"destinations": {"pacs": peer}})
        begun = time.monotonic()
        with pytest.raises(DeliveryError, match="0 of 3 objects stored; no response to C-STORE"):
            job.deliver(timeouts=Timeouts(store_seconds=2.0, answer_seconds=10.0, stall_seconds=2.0))
        assert time.monotonic() - begun < 60
