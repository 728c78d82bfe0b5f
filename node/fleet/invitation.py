"""Invites one machine into the fleet: signs its certificate and hands out the configuration, once.

The process that invites listens itself, for as long as the invitation lasts. So no port that takes requests without a
certificate is open at any other time, and the running services never have the key of the authority. The secret of the
token is kept as its digest, in memory only: nothing on a disk lets anybody in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from node import __version__
from node.config import Fleet
from node.errors import ConfigError, InputError, PlatformError
from node.fleet.authority import Authority
from node.fleet.invitation_token import SECRET_BYTES, Token
from node.process.port_lock import is_own_port
from node.tls import profile
from node.web.http_connections import listen, served

PATH = "/join"
_LONGEST_REQUEST = 1 << 14
_OF_ADDRESS = 4
"""Open connections of one address."""


class RefusedError(Exception):
    """A request that gets nothing; ``status``: of HTTP."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Invitation:
    """What one machine may get once, until ``seconds`` have passed; any thread may call."""

    def __init__(self, authority: Authority, host: str, config_text: str, seconds: float) -> None:
        """``host``: the name or address that its certificate will have. ``config_text``: ``config.toml`` for it."""
        self.secret = secrets.token_bytes(SECRET_BYTES)
        """For the token. It is forgotten when the token has been made."""
        self.redeemed_by = ""
        """Address of who has it."""
        self.closed = threading.Event()
        """Set when it was redeemed."""
        self._digest = hashlib.sha256(self.secret).digest()
        self._authority = authority
        self._host = host
        self._config_text = config_text
        self._ends_at = time.monotonic() + seconds
        self._lock = threading.Lock()

    def token(self, address: str, port: int, fingerprint: bytes) -> Token:
        """Return the token, and drop its secret: only the digest is left. To be called once."""
        secret, self.secret = self.secret, b""
        return Token(host=address, port=port, fingerprint=fingerprint, secret=secret)

    @property
    def seconds_left(self) -> float:
        """How long it lasts from now on, at least 0."""
        return max(0.0, self._ends_at - time.monotonic())

    def redeem(self, secret: bytes, request: bytes, address: str) -> dict[str, str]:
        """Return host, certificate, authority, configuration and version for a signing request.

        Raises ``RefusedError``. A request that cannot be signed leaves the invitation as it is.
        """
        if not hmac.compare_digest(hashlib.sha256(secret).digest(), self._digest):
            raise RefusedError(403, "this is the secret of another invitation")
        with self._lock:
            if self.redeemed_by:
                raise RefusedError(409, "this invitation was used already; make a new one with `ainode invite`")
            if not self.seconds_left:
                raise RefusedError(410, "this invitation has expired; make a new one with `ainode invite`")
            try:
                certificate = self._authority.sign(request, self._host)
            except InputError as error:
                raise RefusedError(400, str(error)) from error
            self.redeemed_by = address
        self.closed.set()
        return {
            "host": self._host,
            "certificate": certificate.decode("ascii"),
            "ca": self._authority.pem.decode("ascii"),
            "config": self._config_text,
            "version": __version__,
        }


def make_app(invitation: Invitation, on_refusal: Callable[[str, str], None]) -> Starlette:
    """Make the application that answers one path; ``on_refusal`` gets the address and the reason of each refusal."""

    async def join(request: Request) -> Response:
        address = request.client.host if request.client else ""
        try:
            secret, signing_request = _read(await _body(request))
            return JSONResponse(invitation.redeem(secret, signing_request, address))
        except RefusedError as error:
            on_refusal(address, str(error))
            return PlainTextResponse(str(error), error.status)

    return Starlette(routes=[Route(PATH, join, methods=["POST"])])


async def _body(request: Request) -> bytes:
    """Return the body. Raises ``RefusedError`` as soon as it is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST_REQUEST:
            raise RefusedError(413, "the request is too long")
    return body


def _read(body: bytes) -> tuple[bytes, bytes]:
    """Return secret and signing request. Raises ``RefusedError``."""
    try:
        asked = json.loads(body)
        return bytes.fromhex(asked["secret"]), asked["request"].encode("ascii")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RefusedError(400, "the request is not one of `ainode join`") from error


@contextmanager
def inviting(
    invitation: Invitation, fleet: Fleet, folder: Path, port: int, on_refusal: Callable[[str, str], None]
) -> Iterator[str]:
    """Answer on ``port`` with the certificate of this machine, until the end of the ``with`` block; yield the token.

    ``folder``: of the storage, which identifies this node. Raises ``ConfigError`` for files of TLS that cannot be used,
    ``PlatformError`` when the port is not available.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    profile(context)
    try:
        context.load_cert_chain(fleet.certificate, fleet.key)
        own, *_ = x509.load_pem_x509_certificates(Path(fleet.certificate).read_bytes())  # a chain may follow
    except (OSError, ValueError) as error:
        raise ConfigError(f"[fleet] certificate or key cannot be used: {error}; run as root, on a member") from error
    if is_own_port(folder, port):
        raise PlatformError(f"another invitation waits on port {port}; end it, or give another --port")
    listener = listen(fleet.address, port, folder, "--port", _OF_ADDRESS)
    token = invitation.token(fleet.host, port, own.fingerprint(SHA256()))
    with served(
        make_app(invitation, on_refusal),
        listener,
        "invitation",
        http="h11",
        ssl_context_factory=lambda _config, _default: context,
        timeout_keep_alive=5,
    ):
        yield token.text()
