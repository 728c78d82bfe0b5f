"""Updates of workitems at services that read the Transaction UID of an address differently."""

from __future__ import annotations

import httpx
import pytest
from pydicom import Dataset

from node.config.ups import UpsWorklist
from node.orders.ups_service import UpsService

OURS = "2.25.7"


@pytest.mark.parametrize("query", [f"transaction-uid={OURS}", OURS])
@pytest.mark.parametrize("refusal", [400, 409])
def test_a_transaction_uid_is_sent_with_its_name_and_else_alone(query: str, refusal: int) -> None:
    taken = []

    def answer(request: httpx.Request) -> httpx.Response:
        is_right = request.url.query.decode() == query
        taken.extend([request.content] if is_right else [])
        return httpx.Response(200 if is_right else refusal)

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://manager/") as http:
        service = UpsService(UpsWorklist(url="http://manager"), http)
        assert service.update("1.2.3", Dataset(), OURS).ok
        assert not service.update("1.2.3", Dataset(), "2.25.8").ok
    assert taken == [b"{}"]
