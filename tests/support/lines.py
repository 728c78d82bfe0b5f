"""A line to a port of this machine that can be cut, as a network is."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress


class Line:
    """A line that breaks after so many bytes from there, as often as it has limits, or for a while when it is cut."""

    def __init__(self, port: int, limits: Sequence[int] = ()) -> None:
        self._port, self._limits = port, [*limits]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.breaks = 0
        self._ends: tuple[socket.socket, ...] = ()
        """Of the latest connection."""
        self._is_cut = False
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self, seconds: float) -> None:
        """End the connection; close new ones at once for a while."""
        self._is_cut = True
        for end in self._ends:
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
                try:
                    far = socket.create_connection(("127.0.0.1", self._port))
                except OSError:
                    near.close()
                    raise
                self._ends = near, far
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()
                threading.Thread(target=self._carry_back, args=(far, near), daemon=True).start()

    @staticmethod
    def _carry(near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while piece := near.recv(65536):
                far.sendall(piece)
            far.shutdown(socket.SHUT_WR)

    def _carry_back(self, far: socket.socket, near: socket.socket) -> None:
        count = 0
        with near, far, suppress(OSError):
            while piece := far.recv(4096):
                count += len(piece)
                if self._limits and count > self._limits[0]:
                    self._limits.pop(0)
                    self.breaks += 1
                    near.shutdown(socket.SHUT_RDWR)
                    far.shutdown(socket.SHUT_RDWR)
                    return
                near.sendall(piece)
            near.shutdown(socket.SHUT_WR)
