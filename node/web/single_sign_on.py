"""Logins at the hospital's OpenID provider: authorization code with PKCE (OpenID Connect Core 1.0 §3.1, RFC 7636).

What was begun in a browser is in a cookie of its own for ten minutes; the session cookie is not sent when another site
leads back here. The role follows from the groups that the provider states at the login.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlencode, urlsplit

import httpx
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry
from starlette.exceptions import HTTPException

from node.config import Web
from node.errors import ConfigError
from node.peer_text import escaped
from node.web.return_path import local_path
from node.web.users import ROLES, Role, User, check_name

BACK = "/login/oidc/back"
"""Where the provider leads the browser."""
_DISCOVERY = "/.well-known/openid-configuration"
_ENDPOINTS = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures with a public key: with the others, whoever knows the client secret could make a token."""
_CLOCK_SECONDS = 60
"""Difference of clocks that is accepted."""
_TIMEOUT_SECONDS = 10.0
_ROLES = tuple(reversed(ROLES))
"""The first one of a user counts."""


@dataclass(frozen=True, kw_only=True)
class BegunLogin:
    """What the browser keeps until the provider leads back: random texts, and the page to which the login leads."""

    state: str
    nonce: str
    verifier: str
    following: str

    @classmethod
    def new(cls, following: str) -> BegunLogin:
        state, nonce, verifier = (secrets.token_urlsafe(size) for size in (32, 32, 48))
        return cls(state=state, nonce=nonce, verifier=verifier, following=following)

    def to_cookie(self) -> str:
        return ".".join((self.state, self.nonce, self.verifier, quote(self.following, safe="")))

    @classmethod
    def from_cookie(cls, value: str) -> BegunLogin | None:
        parts = value.split(".", 3)
        if len(parts) != 4 or not all(parts):
            return None
        return cls(state=parts[0], nonce=parts[1], verifier=parts[2], following=local_path(unquote(parts[3])))


class SingleSignOn:
    """The provider of ``[web.oidc]``. What it states of itself is read at each login: that is seldom."""

    def __init__(self, web: Web) -> None:
        self._oidc = web.oidc
        self._back = f"{web.link_base}{BACK}"

    @property
    def host(self) -> str:
        """Host name of the provider, for the login page."""
        return urlsplit(self._oidc.issuer).hostname or ""

    async def address_of(self, login: BegunLogin) -> str:
        """Return where the browser has to go. Raises ``HTTPException`` when the provider does not answer."""
        async with self._client() as client:
            provider = await self._discover(client)
        query = {
            "response_type": "code",
            "client_id": self._oidc.client_id,
            "redirect_uri": self._back,
            "scope": self._oidc.scope,
            "state": login.state,
            "nonce": login.nonce,
            "code_challenge": create_s256_code_challenge(login.verifier),
            "code_challenge_method": "S256",
        }
        address = provider["authorization_endpoint"]
        return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(query)}"

    async def finish(self, answer: Mapping[str, str], login: BegunLogin | None) -> dict[str, Any]:
        """Return what the provider states of the user. ``answer``: the query with which it led the browser back.

        Raises ``HTTPException`` when the login was not begun in this browser, the provider refused it, or its answer
        is not valid.
        """
        if login is None or not secrets.compare_digest(answer.get("state", "").encode(), login.state.encode()):
            raise HTTPException(400, "This login was not begun in this browser within ten minutes. Begin again.")
        if problem := answer.get("error"):
            raise HTTPException(403, f"{self.host} refused the login: {escaped(problem, 200)}")
        async with self._client() as client:
            provider = await self._discover(client)
            token = await self._token(client, provider, answer.get("code", ""), login)
            keys = await self._json(client.get(provider["jwks_uri"]))
            try:
                claims = checked_claims(token, keys, self._oidc.issuer, self._oidc.client_id, login.nonce)
            except (JoseError, ValueError) as error:
                raise HTTPException(
                    502, f"The answer of {self.host} is not valid: {escaped(str(error), 200)}"
                ) from error
            if self._oidc.groups_claim not in claims and provider.get("userinfo_endpoint"):
                bearer = {"Authorization": f"Bearer {token.get('access_token', '')}"}
                more = await self._json(client.get(provider["userinfo_endpoint"], headers=bearer))
                if more.get("sub") != claims["sub"]:  # OpenID Connect Core 1.0 §5.3.2
                    raise HTTPException(502, f"{self.host} stated two different users. Nobody is logged in.")
                claims = {**more, **claims}
        return claims

    def user_of(self, name: str, stamp: str) -> User | None:
        """Return the user of a session that a login here began; ``None`` once the configuration has changed."""
        candidates = (self._user(name, role) for role in ROLES)
        return next((user for user in candidates if user.stamp == stamp), None)

    def _user(self, name: str, role: Role) -> User:
        told_by = hashlib.sha256(self._oidc.model_dump_json().encode()).hexdigest()
        return User(name=name, role=role, password=f"oidc${told_by}")

    def name_in(self, claims: Mapping[str, Any]) -> str:
        """Return the name of the user. Raises ``HTTPException`` when there is none that can be used."""
        name = claims.get(self._oidc.name_claim)
        try:
            check_name(name if isinstance(name, str) else "")
        except ConfigError:
            raise HTTPException(
                403, f"{self.host} states no usable name in {self._oidc.name_claim!r}; set [web.oidc] name_claim."
            ) from None
        return str(name)

    def user_in(self, claims: Mapping[str, Any]) -> User:
        """Return the user with the role of the groups. Raises ``HTTPException`` when these give none."""
        name = self.name_in(claims)
        stated = claims.get(self._oidc.groups_claim, ())
        groups = set(stated if isinstance(stated, list | tuple) else [stated])
        for role in _ROLES:
            if groups & set(getattr(self._oidc, role)):
                return self._user(name, role)
        raise HTTPException(403, f"{name} is in no group that may use this dashboard ([web.oidc]).")

    async def _discover(self, client: httpx.AsyncClient) -> dict[str, Any]:
        provider = await self._json(client.get(self._oidc.issuer.rstrip("/") + _DISCOVERY))
        if provider.get("issuer") != self._oidc.issuer or not all(provider.get(name) for name in _ENDPOINTS):
            raise HTTPException(
                502, f"{self.host} does not describe itself as {self._oidc.issuer!r}; correct [web.oidc] issuer."
            )
        return provider

    async def _token(
        self, client: httpx.AsyncClient, provider: Mapping[str, Any], code: str, login: BegunLogin
    ) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back,
            "client_id": self._oidc.client_id,
            "code_verifier": login.verifier,
        }
        methods = provider.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        secret, auth = self._secret(), httpx.Auth()
        if secret and "client_secret_basic" in methods:
            auth = httpx.BasicAuth(quote_plus(self._oidc.client_id), quote_plus(secret))  # RFC 6749 §2.3.1
        elif secret:
            form["client_secret"] = secret
        return await self._json(client.post(provider["token_endpoint"], data=form, auth=auth))

    async def _json(self, asked: Awaitable[httpx.Response]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):  # httpx bounds each read alone
                answer = await asked
            answer.raise_for_status()
            value = answer.json()
        except TimeoutError as error:
            raise HTTPException(502, f"{self.host} does not answer within {_TIMEOUT_SECONDS:g} s.") from error
        except (httpx.HTTPError, ValueError) as error:
            raise HTTPException(
                502, f"{self.host} does not answer as an OpenID provider: {escaped(str(error), 200)}"
            ) from error
        if not isinstance(value, dict):
            raise HTTPException(502, f"{self.host} does not answer as an OpenID provider: no JSON object")
        return value

    def _client(self) -> httpx.AsyncClient:
        try:
            trusted = ssl.create_default_context(cafile=self._oidc.ca_file)
        except (OSError, ValueError) as error:
            raise HTTPException(502, f"[web.oidc] ca_file {self._oidc.ca_file}: cannot be read ({error})") from error
        return httpx.AsyncClient(verify=trusted, timeout=_TIMEOUT_SECONDS, follow_redirects=False)

    def _secret(self) -> str:
        path = self._oidc.client_secret_file
        try:
            return path.read_text("utf-8").strip() if path else ""
        except (OSError, UnicodeDecodeError) as error:
            raise HTTPException(502, f"[web.oidc] client_secret_file {path}: cannot be read ({error})") from error


def checked_claims(
    token: Mapping[str, Any], keys: Mapping[str, Any], issuer: str, client_id: str, nonce: str
) -> dict[str, Any]:
    """Return the claims of the ID token in the answer of a token endpoint (OpenID Connect Core 1.0 §3.1.3.7).

    Raises ``JoseError`` or ``ValueError`` unless one of ``keys`` (a JSON Web Key Set) has signed it with a public-key
    algorithm, for this issuer, client and nonce, and it has not expired.
    """
    registry = JWSRegistry(algorithms=_ALGORITHMS, strict_check_header=False)
    decoded = jwt.decode(token.get("id_token", ""), KeySet.import_key_set(dict(keys)), registry=registry)  # type: ignore[arg-type]
    claims = CodeIDToken(
        decoded.claims,
        decoded.header,
        {"iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": client_id}},
        {"nonce": nonce, "client_id": client_id, "access_token": token.get("access_token")},
    )
    claims.validate(leeway=_CLOCK_SECONDS)
    return dict(claims)
