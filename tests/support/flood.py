"""A peer that floods a receiver from addresses: ``python flood.py PORT ADDRESS,... KIND ...``; prints ``flooding``.

silent: connections that say nothing. trickle: one byte of an A-ASSOCIATE-RQ at a time. idle: associations that say
nothing. stalled: associations that stop within an image. aborted: an A-ASSOCIATE-RQ, then an A-ABORT, again and again.
reset: connect and close, again and again. hello: TLS handshakes that stop after the first bytes.
"""

from __future__ import annotations

import itertools
import socket
import sys
import threading
import time
from contextlib import suppress

from raw_peer import RAW_CT, abort, c_store_begin, from_address, is_closed
from receivers import associate_rq

CONNECTIONS = 300
"""Held by each kind that holds connections; more than two receiver processes serve together."""
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
_PAUSE_SECONDS = 0.005


def begin(kind: str, port: int, address: str) -> socket.socket:
    """One connection of a kind that holds connections."""
    opened = from_address(port, address)
    with suppress(OSError):
        if kind in ("idle", "stalled"):
            opened.sendall(associate_rq(RAW_CT, calling=b"FLOOD"))
            opened.settimeout(1.0)
            opened.recv(1 << 12)
        if kind == "stalled":
            opened.sendall(c_store_begin())
        if kind == "hello":
            opened.sendall(HELLO)
    opened.setblocking(False)
    return opened


def hold(kind: str, port: int, address: str, ready: threading.Event) -> None:
    """Hold as many connections as the receiver allows, and replace those that it closes."""
    held: list[socket.socket] = []
    for sent in range(1 << 30):
        with suppress(OSError):
            if len(held) < CONNECTIONS:
                held.append(begin(kind, port, address))
            else:
                ready.set()
        if sent > CONNECTIONS:
            ready.set()
        if kind == "trickle":
            for opened in held:
                with suppress(OSError):
                    opened.send(b"\1")
        for opened in [connection for connection in held if is_closed(connection)]:
            held.remove(opened)
            opened.close()
        time.sleep(_PAUSE_SECONDS)


def repeat(kind: str, port: int, address: str, ready: threading.Event) -> None:
    """Open and end connections as fast as the receiver accepts them."""
    while True:
        with suppress(OSError), from_address(port, address) as opened:
            if kind == "aborted":
                opened.sendall(associate_rq(RAW_CT, calling=b"FLOOD") + abort(0, 0))
        ready.set()
        time.sleep(_PAUSE_SECONDS)


def main(port: str, addresses: str, *kinds: str) -> None:
    ready = []
    for kind, address in itertools.product(kinds, addresses.split(",")):
        target = repeat if kind in ("aborted", "reset") else hold
        ready.append(threading.Event())
        threading.Thread(target=target, args=(kind, int(port), address, ready[-1]), daemon=True).start()
    for event in ready:
        event.wait()
    sys.stdout.write("flooding\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
