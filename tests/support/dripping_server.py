"""An HTTP server whose answers have no end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def answering(first: bytes, drops: bytes) -> Iterator[str]:
    """The address of a server that answers each request with ``first`` and then ``drops``, for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            while not over.is_set() and peer.recv(1 << 16):
                peer.sendall(first)
                while drops and not over.wait(0.05):
                    peer.sendall(drops)

    def accept() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listener.accept()
                threading.Thread(target=serve, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        listener.close()
