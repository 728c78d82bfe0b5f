"""Pictures that nobody waits for any more are not drawn."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from starlette.requests import ClientDisconnect, Request

from node.dicomweb.rendered import RenderedService
from node.spool import Spool


class _Reader:
    """Knows of one image, which is not to be drawn."""

    @staticmethod
    def chosen(_objects: Any, _keywords: Any) -> list[Any]:
        return [{"00280010": {"vr": "US", "Value": [4]}}]

    @staticmethod
    def path(_of: Any) -> Path:
        raise AssertionError("a picture is drawn for nobody")


@pytest.mark.parametrize("accept", ["image/jpeg", "multipart/related"])
def test_a_picture_whose_client_has_gone_is_not_drawn(tmp_path: Path, accept: str) -> None:
    image = SimpleNamespace(series_instance_uid="1.2", sop_instance_uid="1.2.3")
    retrieve: Any = SimpleNamespace(held=lambda _request, _client: [image])
    reader: Any = _Reader()
    headers = [(b"accept", accept.encode())]
    scope = {"type": "http", "headers": headers, "query_string": b"", "path_params": {}}
    client: Any = SimpleNamespace(name="viewer")
    looks = iter(("http.request", "http.request"))  # while its images are looked up it is still there

    async def receive() -> Any:
        return {"type": next(looks, "http.disconnect")}

    async def ask() -> None:
        await RenderedService(Spool(tmp_path), reader, retrieve).rendered(Request(scope, receive), client)

    with pytest.raises(ClientDisconnect):
        anyio.run(ask)
    assert next(looks, None) is None
