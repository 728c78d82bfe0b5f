"""What an OpenID provider states counts only with its signature, for this node and this login."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey, RSAKey

from node.config import parse
from node.errors import ConfigError
from node.web.single_sign_on import BegunLogin, checked_claims

KEY = RSAKey.generate_key(2048, {"kid": "of-the-provider"})
OTHER_KEY = RSAKey.generate_key(2048, {"kid": "of-the-provider"})
KEYS = dict(KeySet([KEY]).as_dict(private=False))
ISSUER, CLIENT, NONCE = "https://login.example.org", "ainode", "nonce of this login"
CLAIMS = {"iss": ISSUER, "aud": CLIENT, "sub": "1", "nonce": NONCE}


def signed(key: Any = KEY, algorithm: str = "RS256", **claims: Any) -> dict[str, Any]:
    at = int(time.time())
    told = {**CLAIMS, "iat": at, "exp": at + 300, **claims}
    header = {"alg": algorithm, "kid": "of-the-provider"}
    return {"id_token": jwt.encode(header, {name: value for name, value in told.items() if value is not None}, key)}


def test_a_token_for_this_node_and_login_is_valid():
    assert checked_claims(signed(groups=["a"]), KEYS, ISSUER, CLIENT, NONCE)["groups"] == ["a"]
    assert checked_claims(signed(aud=[CLIENT, "x"], azp=CLIENT), KEYS, ISSUER, CLIENT, NONCE)["sub"] == "1"


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "of another login"},
        {"nonce": None},
        {"aud": "another node"},
        {"aud": None},
        {"azp": "another node"},
        {"iss": "https://login.example.com"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
    ],
    ids=str,
)
def test_a_token_for_somebody_else_or_of_another_time_is_not(claims: dict[str, Any]):
    with pytest.raises(JoseError):
        checked_claims(signed(**claims), KEYS, ISSUER, CLIENT, NONCE)


def test_a_token_that_others_have_signed_is_not_valid():
    shared = OctKey.import_key("a secret that node and provider share", {"kid": "of-the-provider"})
    unsigned = signed()["id_token"].rpartition(".")[0] + "."
    for token in (signed(OTHER_KEY), {"id_token": unsigned}, {"id_token": "no token"}, {}):
        with pytest.raises((JoseError, ValueError)):
            checked_claims(token, KEYS, ISSUER, CLIENT, NONCE)
    with pytest.raises((JoseError, ValueError)):
        checked_claims(signed(), {"keys": []}, ISSUER, CLIENT, NONCE)
    with pytest.raises(JoseError, match="lgorithm"):
        checked_claims(signed(shared, "HS256"), KeySet([shared]).as_dict(private=True), ISSUER, CLIENT, NONCE)


def test_a_begun_login_comes_back_from_its_cookie_whole_or_not_at_all():
    begun = BegunLogin.new("/study/1.2.3?window=-600")
    assert BegunLogin.from_cookie(begun.to_cookie()) == begun
    assert BegunLogin.new(begun.following) != begun
    assert re.fullmatch(r"[\w.%-]+", begun.to_cookie()), "no letter that a cookie quotes"
    for cookie in ("", "...", "a.b", "a.b.c", "a..c.d"):
        assert BegunLogin.from_cookie(cookie) is None


OIDC = '[web.oidc]\nissuer = "https://login.example"\n'
BASE = 'link_base = "https://a.example"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BASE + OIDC.replace("https", "http") + 'client_id = "a"\nview = ["b"]', "https://"),
        (OIDC + 'client_id = "a"\nview = ["b"]', "link_base"),
        (BASE + OIDC + 'view = ["b"]', "client_id"),
        (BASE + OIDC + 'client_id = "a"', "without a group"),
        ('link_base = "http://a.example"', "https://"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused(text: str, said: str):
    with pytest.raises(ConfigError, match=said):
        parse(f"[web]\n{text}\n")
