"""Accepts an invitation: a new machine gets its certificate and the configuration from the one that invites it."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from node.errors import InputError, PlatformError
from node.fleet.authority import new_request, public_key_of
from node.fleet.invitation import PATH
from node.fleet.invitation_token import Token
from node.peer_text import escaped
from node.tls import profile

_SECONDS = 30.0
"""Without an answer for this long, the machine is treated as unreachable."""
_LONGEST_ANSWER = 1 << 22
_OK = 200


@dataclass(frozen=True, kw_only=True)
class Admission:
    """What makes a machine a member; everything but ``config`` as PEM."""

    host: str
    certificate: bytes
    key: bytes
    ca: bytes
    config: str
    """``config.toml`` of the machine that has invited."""
    version: str
    """Of the node there."""


def accept(token: Token) -> Admission:
    """Redeem a token. The private key is made here and does not leave this machine.

    Nothing is sent before the other side has shown the certificate that the token names. Raises ``PlatformError`` when
    it cannot be reached or is another one, ``InputError`` when it refuses or its answer cannot be used.
    """
    key, request = new_request("machine")
    status, body = _ask(token, json.dumps({"secret": token.secret.hex(), "request": request.decode("ascii")}))
    if status != _OK:
        raise InputError(f"{token.host} refuses: {escaped(body.decode('utf-8', 'replace'), 300)}")
    try:
        answer = json.loads(body)
        admission = Admission(
            host=_text(answer, "host"),
            certificate=_text(answer, "certificate").encode("ascii"),
            key=key,
            ca=_text(answer, "ca").encode("ascii"),
            config=_text(answer, "config"),
            version=_text(answer, "version"),
        )
        own = x509.load_pem_x509_certificate(admission.certificate)
        own.verify_directly_issued_by(x509.load_pem_x509_certificate(admission.ca))
        is_ours = own.public_key() == public_key_of(key)
    except (ValueError, KeyError, TypeError, RecursionError, InvalidSignature) as error:
        raise InputError(f"the answer of {token.host} cannot be used: {escaped(str(error), 300)}") from error
    if not is_ours:
        raise InputError(f"the answer of {token.host} has the certificate of another key")
    return admission


def _text(answer: dict[str, object], name: str) -> str:
    value = answer[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def _ask(token: Token, body: str) -> tuple[int, bytes]:
    """Return status and content of the answer. Raises ``PlatformError``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    profile(context)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the fingerprint decides, before anything is sent
    connection = http.client.HTTPSConnection(token.host, token.port, timeout=_SECONDS, context=context)
    try:
        connection.connect()
        shown = connection.sock.getpeercert(binary_form=True) or b""
        if not hmac.compare_digest(hashlib.sha256(shown).digest(), token.fingerprint):
            raise PlatformError(
                f"{token.host}:{token.port} is not the machine that has made this token: its certificate is another "
                "one. Nothing was sent; find out who answers there, and make a new invitation"
            )
        connection.request("POST", PATH, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read(_LONGEST_ANSWER + 1)
    except (OSError, http.client.HTTPException) as error:
        raise PlatformError(
            f"{token.host}:{token.port} does not answer ({error}); is `ainode invite` still running there, and the "
            "port open?"
        ) from error
    finally:
        connection.close()
    if len(content) > _LONGEST_ANSWER:
        raise PlatformError(f"{token.host}:{token.port} sends more than an answer")
    return response.status, content
