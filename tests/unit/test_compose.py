"""The files of a containerised site agree with each other, and with what the node accepts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from node.config import parse

FOLDER = Path(__file__).parents[2] / "systemd" / "containers"
ROOT = FOLDER.parents[1]
SERVICES: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]


def test_services_call_each_other_by_their_names_and_titles():
    config = parse((FOLDER / "config.toml").read_text())
    orthanc = json.loads((FOLDER / "orthanc.json").read_text())
    pacs = config.destinations["pacs"]
    assert {pacs.host, "database", "node"} < set(SERVICES)
    assert (pacs.title, pacs.port) == (orthanc["DicomAet"], orthanc["DicomPort"])
    assert orthanc["DicomModalities"]["AINODE"] == [config.ae.title, "node", config.ae.port]
    assert "@database/" in config.storage.ledger_url
    assert f"http://{pacs.host}:{orthanc['HttpPort']}" in (FOLDER / "ohif.conf").read_text()
    assert config.web.enabled, "the health check of the image asks the dashboard"


def test_files_that_compose_and_images_name_exist():
    for service in SERVICES.values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (FOLDER / source).is_file()
    for name in ("Containerfile", "ohif.Containerfile"):
        text = (FOLDER / name).read_text()
        for words in re.findall(r"^COPY (?!--)(.*)$", text, re.MULTILINE):
            for source in words.split()[:-1]:
                assert (ROOT / source).exists(), f"{name} copies {source}"


def test_the_node_is_shut_in_and_has_time_to_drain():
    node = SERVICES["node"]
    assert (node["read_only"], node["cap_drop"], node["security_opt"]) == (True, ["ALL"], ["no-new-privileges"])
    assert node["stop_grace_period"] == "90s"
    check = re.findall(r"^    CMD \[(.*)\]$", (FOLDER / "Containerfile").read_text(), re.MULTILINE)
    assert node["healthcheck"]["test"][1].split() == json.loads(f"[{check[0]}]")
    open_to_all = [
        port for service in SERVICES.values() for port in service.get("ports", []) if not port.startswith("127.")
    ]
    assert open_to_all == ["11112:11112"]
