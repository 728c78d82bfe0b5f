"""A small FHIR server, R4 or R5, that takes transactions strictly: a third party's models validate every resource."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from fhir.resources import get_fhir_model_class
from fhir.resources.R4B import get_fhir_model_class as get_r4_model_class

from node.config import FhirVersion

Resource = dict[str, Any]
_RELEASES = {"R4": "4.0.1", "R5": "5.0.0"}
CLIENT, SECRET, SCOPE = "ainode", "s3cret", "system/*.cru"


class FhirServer:
    """Resources by type and id; ``answers`` are statuses that are given in place of the next transactions."""

    def __init__(self, version: FhirVersion) -> None:
        self.version = version
        self.url = ""
        self.resources: dict[tuple[str, str], Resource] = {}
        self.transactions: list[Resource] = []
        self.answers: list[int] = []
        self.token: str | None = None
        self.tokens_given = 0
        self.page = 3
        self.turn = threading.Lock()

    def of(self, kind: str) -> list[Resource]:
        return [resource for (name, _), resource in self.resources.items() if name == kind]

    def matches(self, kind: str, query: str) -> list[Resource]:
        (token,) = parse_qs(query)["identifier"]
        system, _, value = token.partition("|")
        wanted = {"system": system, "value": value}
        return [resource for resource in self.of(kind) if any(wanted == i for i in resource.get("identifier", ()))]

    def transaction(self, bundle: Resource) -> tuple[int, Resource]:
        self.transactions.append(bundle)
        if self.answers:
            status = self.answers.pop(0)
            return status, {
                "resourceType": "OperationOutcome",
                "issue": [{"severity": "error", "code": "business-rule"}],
            }
        validate(bundle, self.version)
        places: dict[str, str] = {}
        created: list[tuple[Resource, str]] = []
        for entry in bundle["entry"]:
            request, resource = entry["request"], entry["resource"]
            kind = resource["resourceType"]
            if request["method"] == "PUT":
                key = request["url"].split("/")[1]
                known = (kind, key) in self.resources
            else:
                same = self.matches(kind, request["ifNoneExist"])
                assert len(same) <= 1, "several resources match"
                known = bool(same)
                key = same[0]["id"] if same else str(len(self.resources) + len(created) + 1)
            places[entry["fullUrl"]] = f"{kind}/{key}"
            created.append(
                ({} if known and request["method"] == "POST" else {**resource, "id": key}, "200" if known else "201")
            )
        for resource, _ in created:
            if resource:
                text = json.dumps(resource)
                for place, reference in places.items():
                    text = text.replace(f'"{place}"', f'"{reference}"')
                assert "urn:uuid:" not in text.replace('"value": "urn:uuid:', ""), "a reference leads nowhere"
                self.resources[resource["resourceType"], resource["id"]] = json.loads(text)
        entries = [{"response": {"status": f"{status} X"}} for _, status in created]
        return 200, {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}


def validate(resource: Resource, version: FhirVersion = "R4") -> None:
    """Raise ``ValueError`` for what FHIR R4B or R5 does not allow."""
    model_class = get_fhir_model_class if version == "R5" else get_r4_model_class
    model_class(resource["resourceType"]).model_validate_json(json.dumps(resource))


@contextmanager
def fhir_server(version: FhirVersion = "R4") -> Iterator[FhirServer]:  # noqa: C901 - one method for each HTTP method
    ours = FhirServer(version)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def answer(self, status: int, content: Resource) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/fhir+json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def is_allowed(self) -> bool:
            return ours.token is None or self.headers.get("Authorization") == f"Bearer {ours.token}"

        def do_POST(self) -> None:
            body = self.body()
            if self.path == "/token":
                basic = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
                if self.headers.get("Authorization") != basic or b"grant_type=client_credentials" not in body:
                    return self.answer(401, {"error": "invalid_client"})
                assert parse_qs(body.decode())["scope"] == [SCOPE]
                ours.tokens_given += 1
                ours.token = f"token-{ours.tokens_given}"
                return self.answer(200, {"access_token": ours.token, "token_type": "Bearer", "expires_in": 60})
            if not self.is_allowed():
                return self.answer(401, {})
            assert self.path == "/fhir/"
            assert self.headers["Content-Type"] == "application/fhir+json"
            with ours.turn:
                status, content = ours.transaction(json.loads(body))
            return self.answer(status, content)

        def do_PUT(self) -> None:
            resource = json.loads(self.body())
            validate(resource, version)
            _, _, kind, key = self.path.split("/")
            assert (kind, unquote(key)) in ours.resources
            ours.resources[kind, unquote(key)] = resource
            self.answer(200, resource)

        def do_GET(self) -> None:
            split = urlsplit(self.path)
            kind = split.path.rpartition("/")[2]
            if not self.is_allowed():
                return self.answer(401, {})
            if kind == "metadata":
                return self.answer(200, {"resourceType": "CapabilityStatement", "fhirVersion": _RELEASES[version]})
            resources = ours.matches(kind, split.query)
            first = int(parse_qs(split.query).get("from", ["0"])[0])
            page = resources[first : first + ours.page]
            query = split.query.partition("&from=")[0]
            links = [{"relation": "next", "url": f"{ours.url}/{kind}?{query}&from={first + ours.page}"}]
            bundle = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": item} for item in page]}
            more = {"link": links} if first + ours.page < len(resources) else {}
            return self.answer(200, bundle | more)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ours.url = f"http://127.0.0.1:{server.server_address[1]}/fhir"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield ours
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
