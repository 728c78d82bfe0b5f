"""An OpenID provider written by others (oidc-provider-mock), in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from real_peers import free_port


class Provider:
    """It asks for no password: whoever names a user is logged in as this user."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"

    def let(self, user: str, **claims: Any) -> None:
        """Make a user, or give one other claims."""
        httpx.put(f"{self.issuer}/users/{user}", json=claims).raise_for_status()

    def log_in(self, browser: httpx.Client, address: str, user: str) -> str:
        """What a user does there; returns where the provider leads the browser."""
        answer = browser.post(address, data={"sub": user})
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]


@contextmanager
def oidc_provider(users: Mapping[str, Mapping[str, Any]], *options: str) -> Iterator[Provider]:
    port = free_port()
    claims = [part for sub, told in users.items() for part in ("--user-claims", json.dumps({"sub": sub, **told}))]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port), *claims, *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    provider = Provider(port)
    try:
        deadline = time.monotonic() + 60.0
        while True:
            try:
                httpx.get(f"{provider.issuer}/.well-known/openid-configuration").raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, "the provider has ended"
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield provider
    finally:
        process.terminate()
        process.wait(10.0)
