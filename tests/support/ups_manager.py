"""A UPS-RS manager that insists on PS3.18 11: workitems with states and locks, and connections that break when told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydicom import Dataset

STATE, TRANSACTION, UID = "00741000", "00081195", "00080018"
TOKEN = "m" * 40
FINAL = ("COMPLETED", "CANCELED")


@dataclass
class Manager:
    """What it holds, and what it was asked."""

    workitems: dict[str, dict[str, Any]] = field(default_factory=dict)
    locks: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and status."""
    changes: list[tuple[str, str]] = field(default_factory=list)
    """Each change of state that was done: UID and state."""
    breaks: int = 0
    """How many of the next changes are done and not answered."""
    breaks_at: int = 0
    """Which of the changes, counted from 1, is done and not answered."""
    is_down: bool = False
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def add(self, uid: str, step: Dataset) -> None:
        values = step.to_json_dict()
        values[UID] = {"vr": "UI", "Value": [uid]}
        values[STATE] = {"vr": "CS", "Value": ["SCHEDULED"]}
        self.workitems[uid] = values

    def state(self, uid: str) -> str:
        return str(self.workitems[uid][STATE]["Value"][0])

    def step(self, uid: str) -> Dataset:
        return Dataset.from_json(json.dumps(self.workitems[uid]))

    def set_state(self, uid: str, state: str) -> None:
        self.workitems[uid][STATE]["Value"] = [state]

    def change(self, uid: str, asked: dict[str, Any]) -> tuple[int, str]:
        """PS3.18 11.7: the state table of PS3.4 CC.1.1."""
        transaction = (asked.get(TRANSACTION, {}).get("Value") or [""])[0]
        state, now = asked[STATE]["Value"][0], self.state(uid)
        if not transaction:
            return 400, "The Transaction UID is missing."
        if now in FINAL:
            if now == state:
                return 409, f"The UPS is already in the requested state of {now}."
            return 409, "The submitted request is inconsistent with the state of the UPS Instance."
        if state == "IN PROGRESS":
            if now != "SCHEDULED":
                return 409, "The submitted request is inconsistent with the state of the UPS Instance."
            self.locks[uid] = transaction
        elif now != "IN PROGRESS":
            return 409, "The submitted request is inconsistent with the state of the UPS Instance."
        elif self.locks[uid] != transaction:
            return 400, "The Transaction UID is incorrect."
        elif state == "COMPLETED" and not self.workitems[uid].get("00741216"):
            return 409, "The final state requirements are not met."
        self.set_state(uid, state)
        self.changes.append((uid, state))
        return 200, ""

    def update(self, uid: str, asked: dict[str, Any], transaction: str) -> tuple[int, str]:
        """PS3.18 11.6."""
        if self.state(uid) in FINAL:
            return 409, "The submitted request is inconsistent with the current state of the Workitem."
        if self.state(uid) == "IN PROGRESS" and transaction != self.locks[uid]:
            return 400, "The Transaction UID is incorrect."
        if STATE in asked or TRANSACTION in asked:
            return 400, "State and lock are not changed by updates."
        self.workitems[uid] |= asked
        return 200, ""


class _Handler(BaseHTTPRequestHandler):
    manager: Manager
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        manager, parts = self.manager, urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        with manager.lock:
            if manager.is_down:
                self.close_connection = True
                return
            status, warning, body = self._do(parts.path.removeprefix("/dicom-web"), parse_qs(parts.query), content)
            manager.calls.append((self.command, parts.path, status))
            changes = sum(method != "GET" for method, *_ in manager.calls)
            if self.command != "GET" and (manager.breaks or changes == manager.breaks_at):
                manager.breaks = max(manager.breaks - 1, 0)
                self.close_connection = True
                return
        self.send_response(status)
        if warning:
            self.send_header("Warning", f"299 manager: {warning}")
        self.send_header("content-type", "application/dicom+json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _do(self, path: str, query: dict[str, list[str]], content: bytes) -> tuple[int, str, bytes]:
        manager = self.manager
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            return 401, "", b""
        names = path.strip("/").split("/")
        if names == ["workitems"]:
            state, label = query["ProcedureStepState"][0], query.get("WorklistLabel", [""])[0]
            held = [workitem for uid, workitem in manager.workitems.items() if manager.state(uid) == state]
            workitems = [workitem for workitem in held if label in ("", workitem["00741202"]["Value"][0])]
            workitems = workitems[int(query.get("offset", ["0"])[0]) :][: int(query["limit"][0])]
            return (200, "", json.dumps(workitems).encode()) if workitems else (204, "", b"")
        uid = names[1]
        if uid not in manager.workitems:
            return 404, "", b""
        if self.command == "GET":
            return 200, "", json.dumps(manager.workitems[uid]).encode()
        asked = json.loads(content)
        if names[2:] == ["state"] and self.command == "PUT":
            return *manager.change(uid, asked), b""
        if len(names) == 2 and self.command == "POST":
            return *manager.update(uid, asked, query.get("transaction-uid", [""])[0]), b""
        return 405, "", b""


@contextmanager
def ups_manager() -> Iterator[Manager]:
    manager = Manager()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"manager": manager}))
    manager.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield manager
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
