"""A connection that its peer resets before the TLS handshake is closed, and not left to the garbage collector."""

from __future__ import annotations

import gc
import socket
import struct
import warnings

import pytest
from certificates import Authority

from node.config import AeTls
from node.tls import ServerTls


def test_a_connection_that_was_reset_before_its_handshake_is_left_to_its_owner(authority: Authority) -> None:
    certificate, key = authority.pem("ainode"), authority.key("ainode")
    tls = ServerTls(AeTls(enabled=True, certificate=certificate, key=key, ca=authority.pem("ca")))
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()  # a reset
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always")
            with pytest.raises(OSError, match="not connected"):
                tls.secured(accepted)
            gc.collect()
        assert not [warning for warning in left if issubclass(warning.category, ResourceWarning)]
        assert accepted.fileno() >= 0
        accepted.close()
