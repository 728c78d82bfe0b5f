"""Decoders: processes that decode compressed images for the process of a pipeline, each a part of a series.

Decoding in a thread would keep the pipeline from launching work on its device. They are forked from a process that is
shut in, before it has threads and loads models: they see what it sees and end with it. Values come back in shared
memory, without a copy. There are as many as the process has threads (``thread_count`` in ``node.inference.devices``),
at most ``MOST``.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from node.errors import NodeError, PipelineError
from node.pipeline import Unsuitable
from node.studies.stored_image import StoredImage, decode_here, decode_images

MOST = 4
"""Decoders of one process."""
_LENGTH = struct.Struct("=Q")


@dataclass(frozen=True, kw_only=True)
class _Request:
    images: tuple[StoredImage, ...]
    shape: tuple[int, ...]
    padded: bool


class Decoders:
    """``Decoder`` in processes of their own, for one series at a time; any thread may call it."""

    def __init__(self, number: int, release: Callable[[], None] = lambda: None) -> None:
        """Fork ``number`` processes, at most ``MOST``, which call ``release``; call it before there are threads."""
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        for _ in range(min(number, MOST)):
            ours, theirs = socket.socketpair()
            if os.fork() == 0:
                _serve(theirs, [ours, *self._sockets], release)
            theirs.close()
            self._sockets.append(ours)

    def __call__(
        self, images: Sequence[StoredImage], shape: tuple[int, ...], *, padded: bool
    ) -> npt.NDArray[np.float32]:
        """Raise the first fault of ``decode_images``; ``PipelineError`` when a decoder died, and decode here then.

        What is not compressed is read here: shared memory costs more than several processes save.
        """
        with self._lock:
            if not self._sockets or not any(image.is_compressed for image in images):
                return decode_here(images, shape, padded=padded)
            descriptor = os.memfd_create("volume")
            try:
                memory = _shared_memory(descriptor, shape)
                faults = self._decode(images, shape, descriptor, padded=padded)
            finally:
                os.close(descriptor)
        if faults:
            raise faults[0]
        return np.frombuffer(memory, np.float32).reshape(shape)

    def close(self) -> None:
        """End the processes."""
        for connection in self._sockets:
            connection.close()
        self._sockets = []

    def _decode(
        self, images: Sequence[StoredImage], shape: tuple[int, ...], descriptor: int, *, padded: bool
    ) -> list[Exception]:
        """Faults of the parts of the series, in their order."""
        try:
            ends = [len(images) * part // len(self._sockets) for part in range(len(self._sockets) + 1)]
            for at, connection in enumerate(self._sockets):
                part = tuple(images[ends[at] : ends[at + 1]])
                _send(connection, _Request(images=part, shape=shape, padded=padded), descriptor)
            replies = [_receive(connection)[0] for connection in self._sockets]
            return [fault for fault in replies if fault is not None]
        except (OSError, EOFError) as error:
            self.close()
            raise PipelineError(
                "a process that decoded the images was killed, most often by a decoder or for lack of memory"
            ) from error


def _shared_memory(descriptor: int, shape: tuple[int, ...]) -> mmap.mmap:
    """Raise ``MemoryError`` where there is not as much: a header can state any size."""
    try:
        os.ftruncate(descriptor, int(np.prod(shape)) * np.dtype(np.float32).itemsize)
        return mmap.mmap(descriptor, 0)
    except OSError as error:
        raise MemoryError(f"no memory for a volume of {shape} in float32: {error}") from error


def _serve(requests: socket.socket, others: Sequence[socket.socket], release: Callable[[], None]) -> NoReturn:
    """Decode until the other end is closed; never return into the program that forked."""
    status = 1
    try:
        for other in others:
            other.close()
        release()
        while True:
            _send(requests, _decoded(*_receive(requests)))
    except (EOFError, OSError):  # its process has ended
        status = 0
    finally:
        os._exit(status)


def _decoded(request: _Request, descriptor: int) -> Exception | None:
    try:
        volume = np.frombuffer(mmap.mmap(descriptor, 0), np.float32).reshape(request.shape)
        decode_images(request.images, volume, padded=request.padded)
    except (NodeError, Unsuitable) as fault:
        return fault
    except Exception as fault:  # noqa: BLE001 - the actor's own loop
        return PipelineError(f"the images could not be decoded: {type(fault).__name__}: {fault}")
    finally:
        os.close(descriptor)
    return None


def _send(connection: socket.socket, message: object, *descriptors: int) -> None:
    data = pickle.dumps(message)
    socket.send_fds(connection, [_LENGTH.pack(len(data))], descriptors)
    connection.sendall(data)


def _receive(connection: socket.socket) -> tuple[Any, int]:
    """A message and the descriptor that came with it, -1 without one. Raises ``EOFError`` at the end."""
    length, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, 1, socket.MSG_WAITALL)
    if not length:
        raise EOFError
    with connection.makefile("rb") as stream:
        data = stream.read(*_LENGTH.unpack(length))
    return pickle.loads(data), descriptors[0] if descriptors else -1  # noqa: S301 - from a process like this one
