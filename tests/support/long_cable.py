"""A cable in which every packet takes longer, for a machine in network namespaces.

A process in a network namespace of its own passes whole frames between both ends with packet sockets. It does what
``tc qdisc add ... netem delay`` does, on a kernel that has no netem.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
import time
from collections import deque

from node.demo import hospital_network

ENDS = ("machine", "bridge")
_EVERY_PROTOCOL = 0x0003
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23
"""linux/if_packet.h; with a header in front that says what the network card would still do: checksum, segments."""
_SO_RCVBUFFORCE = 33
_FRAME_BYTES = 1 << 17


def lengthen(name: str, milliseconds: float) -> subprocess.Popen[bytes]:
    """Delay the packets of the cable ``name`` in both directions; return the process that does it."""
    command = ["unshare", "--net", sys.executable, __file__, str(milliseconds)]
    delaying = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert delaying.stdout is not None
    delaying.stdout.readline()  # it is in its network
    pid = str(delaying.pid)
    hospital_network.plug(name, connected=False)
    hospital_network.ip("link", "set", "dev", name, "netns", pid, "name", ENDS[0])
    hospital_network.ip("link", "add", "name", name, "type", "veth", "peer", "name", ENDS[1], "netns", pid)
    hospital_network.plug(name, connected=True)
    hospital_network.ip("link", "set", "dev", name, "up")
    delaying.stdout.readline()  # it has both ends
    return delaying


def end(name: str) -> socket.socket:
    """Open one end of the cable as soon as it is there."""
    while name not in {there for _, there in socket.if_nameindex()}:
        time.sleep(0.01)
    subprocess.run(["ip", "link", "set", name, "up"], check=True)
    frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    frames.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    frames.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    frames.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
    frames.bind((name, _EVERY_PROTOCOL))
    frames.setblocking(False)
    return frames


def delay(seconds: float) -> None:
    """Pass every frame from one end to the other after ``seconds``, for ever."""
    print("in its network", flush=True)  # noqa: T201
    first, other = (end(name) for name in ENDS)
    print("has both ends", flush=True)  # noqa: T201
    opposite = {first: other, other: first}
    waiting: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        rest = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for ready in select.select([first, other], [], [], rest)[0]:
            waiting.append((time.monotonic() + seconds, opposite[ready], ready.recv(_FRAME_BYTES)))
        while waiting and waiting[0][0] <= time.monotonic():
            _, to, frame = waiting.popleft()
            to.send(frame)


if __name__ == "__main__":
    delay(float(sys.argv[1]) / 1000)
