"""A receiver of HL7 messages, made with the library of a third party (hl7apy)."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hl7apy.mllp import AbstractHandler, MLLPRequestHandler, MLLPServer
from hl7apy.parser import parse_message


class Ris:
    """A receiver that keeps messages by control ID and answers with the codes in ``answers``, at last with AA."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.messages: list[str] = []
        self.answers: list[str] = []

    @property
    def distinct(self) -> set[str]:
        return {parse_message(message).msh.msh_10.value for message in self.messages}

    def answer(self, message: str) -> str:
        self.messages.append(message)
        code = self.answers.pop(0) if self.answers else "AA"
        received = parse_message(message)
        text = "" if code == "AA" else "unknown patient"
        head = r"MSH|^~\&|RIS||AINODE||20260101||ACK^R01|1|P|2.5.1"
        return f"\x0b{head}\rMSA|{code}|{received.msh.msh_10.value}|{text}\r\x1c\r"


@contextmanager
def ris(secured: ssl.SSLContext | None = None, encoding: str = "utf-8") -> Iterator[Ris]:
    """``encoding``: the character set that it has agreed with its senders."""

    class Handler(AbstractHandler):
        def reply(self) -> str:
            return receiver.answer(self.incoming_message)

    reader = type("Reader", (MLLPRequestHandler,), {"encoding": encoding})
    server = MLLPServer("127.0.0.1", 0, {"ORU^R01^ORU_R01": (Handler,)}, request_handler_class=reader)
    if secured is not None:
        server.socket = secured.wrap_socket(server.socket, server_side=True)
    receiver = Ris(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
