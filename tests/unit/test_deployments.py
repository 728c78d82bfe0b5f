"""Chart, Nomad job and compose file of a fleet: they render, fit their schemas, and name what the node has."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ledgers import open_copy

from node.__main__ import main
from node.config import Config, parse
from node.errors import NotFoundError
from node.operate.metrics import exposition
from node.roles import ROLES
from node.spool import Spool

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "deploy"
CHART = FOLDER / "helm" / "ainode"
STOP_SECONDS = 90
"""What a node may take after SIGTERM: systemd/containers/Containerfile."""
KUBERNETES = ("1.27", "1.31", "1.35")
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "everything": {
        "autoscaling": {"enabled": True},
        "published": True,
        "extraSecrets": {"dicom-tls": "tls"},
        "imagePullSecrets": [{"name": "registry"}],
        "receiver": {
            "nodeSelector": {"disk": "local"},
            "tolerations": [{"key": "dicom", "operator": "Exists"}],
            "storage": {"class": "local-path"},
            "service": {"type": "LoadBalancer", "annotations": {"example.org/proxy-protocol": "v2"}},
        },
        "worker": {
            "runtimeClassName": "nvidia",
            "nodeSelector": {"gpu": "true"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "seccompProfile": {"type": "Localhost", "localhostProfile": "profiles/ainode.json"},
        },
    },
    "cpu": {"worker": {"gpus": 0, "drainSeconds": 60}, "networkPolicy": {"enabled": False}},
}


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Every object of the chart, by Helm itself."""
    helm = pytest.importorskip("helm_python")
    files = helm.Chart.load(CHART).render(values, name="ai", namespace="imaging")
    return [resource for text in files.values() for resource in yaml.safe_load_all(text) if resource]


def pods(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Component -> specification of its pods."""
    sets = [resource for resource in rendered(values) if resource["kind"] == "StatefulSet"]
    return {resource["metadata"]["name"].removeprefix("ai-"): resource["spec"]["template"]["spec"] for resource in sets}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod["initContainers"], *pod["containers"]]


def check_commands(script: str) -> list[str]:
    """The verbs that a shell script calls; each has to exist with these options."""
    verbs = []
    for line in re.findall(r"(?:^|[;'] *|\s)ainode ((?:drain|run) [^|;&#\n']+)", script, re.MULTILINE):
        verb, *arguments = shlex.split(re.sub(r"\$\{DRAIN_SECONDS:-(\d+)\}", r"\1", line))
        main.commands[verb].make_context(verb, list(arguments))
        verbs.append(" ".join([verb, *(argument for argument in arguments if argument in ("--undo", "--wait"))]))
    return verbs


def test_helm_finds_no_fault_in_the_chart():
    helm = pytest.importorskip("helm_python")
    report = helm.lint(CHART)
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_every_object_fits_the_schema_of_kubernetes(values: dict[str, Any], version: str):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    objects = rendered(values)
    assert len({(resource["kind"], resource["metadata"]["name"]) for resource in objects}) == len(objects) >= 9
    for resource in objects:
        if not resource["apiVersion"].startswith("keda.sh/"):  # no schema of it to be had
            kubernetes_validate.validate(resource, version, strict=True)


def test_values_that_the_chart_does_not_know_are_refused():
    helm = pytest.importorskip("helm_python")
    for wrong in ({"workers": {}}, {"worker": {"gpus": -1}}, {"autoscaling": {"secondsPerWorker": 0}}):
        with pytest.raises(helm.HelmError):
            helm.Chart.load(CHART).render(wrong)


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_roles_commands_and_mounts_of_the_pods_exist(values: dict[str, Any]):
    for name, pod in pods(values).items():
        volumes = {volume["name"] for volume in pod["volumes"]} | {"storage"}
        begins = check_commands(pod["initContainers"][0]["command"][-1])
        assert begins == ["drain --undo"]
        assert f"[ $? = {NotFoundError.exit_code} ]" in pod["initContainers"][0]["command"][-1]
        for of in pod["containers"]:
            context = main.commands[of["args"][0]].make_context("run", of["args"][1:])
            assert context.params["only"] == of["name"]
            assert of["name"] in ROLES
            (script,) = of["lifecycle"]["preStop"]["exec"]["command"][2:]
            assert check_commands(script) == ["drain --wait"], name
            waits = int(re.findall(r"--wait (\d+)", script)[0])
            assert pod["terminationGracePeriodSeconds"] >= waits + STOP_SECONDS
            assert "livenessProbe" not in of, "it runs preStop, which drains the machine"
        for of in containers(pod):
            assert {mount["name"] for mount in of["volumeMounts"]} <= volumes
            assert of["securityContext"]["readOnlyRootFilesystem"]
            assert of["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert of["resources"]["requests"]
    assert {of["name"] for of in pods(values)["receiver"]["containers"]} == {
        "receiver",
        "router",
        "sender",
        "files",
        "web",
    }


def test_the_user_of_the_pods_is_that_of_the_image():
    text = (ROOT / "systemd" / "containers" / "Containerfile").read_text()
    for pod in pods({}).values():
        assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in text


def test_ports_and_paths_are_those_of_the_configuration():
    config = parse((CHART / "files" / "config.toml").read_text().replace("@HOST@", "ai-receiver-0.example"))
    ports = {config.ae.port, config.fleet.port, config.fleet.copies_port, config.web.port}
    objects = rendered({})
    services = [resource for resource in objects if resource["kind"] == "Service"]
    named = {
        port["name"]: port["containerPort"] for of in pods({})["receiver"]["containers"] for port in of.get("ports", [])
    }
    aims = {port.get("targetPort", port["port"]) for service in services for port in service["spec"]["ports"]}
    assert {named.get(aim, aim) for aim in aims} == ports
    (policy,) = (resource for resource in objects if resource["kind"] == "NetworkPolicy")
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == ports
    mounts = {mount["mountPath"] for mount in pods({})["receiver"]["containers"][0]["volumeMounts"]}
    paths = (config.fleet.certificate, config.fleet.ca, config.web.certificate, config.web.users_file)
    assert {str(Path(path).parent) for path in paths} <= mounts
    assert str(config.storage.folder) in mounts


def test_the_configuration_is_written_for_each_machine_and_published_rules_stay(tmp_path: Path):
    given = tmp_path / "given"
    given.mkdir()
    for published in (False, True):
        script = pods({"published": published})["receiver"]["initContainers"][0]["command"][-1]
        script = re.sub(r"\n *ainode .*", "", script).replace("/given/", f"{given}/")
        script = re.sub(r"file=/\S+", f"file={tmp_path}/etc/config.toml", script)
        for number, text in enumerate(('host = "@HOST@"\n', 'host = "@HOST@" # newer\n')):
            (given / "config.toml").write_text(text)
            subprocess.run(
                ["sh", "-ceu", script], check=True, env={"POD_NAME": "ai-receiver-1", "PATH": "/usr/bin:/bin"}
            )
            written = (tmp_path / "etc" / "config.toml").read_text()
            assert written.startswith('host = "ai-receiver-1.ai-receiver.imaging.svc.cluster.local"')
            assert ("newer" in written) == (published or number == 1)


def test_the_autoscaler_asks_for_a_metric_that_exists(tmp_path: Path):
    (scaled,) = (resource for resource in rendered(VALUES["everything"]) if resource["kind"] == "ScaledObject")
    engine = open_copy(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    known = exposition(Config.model_validate({"pipelines": {"one": {}}}), engine, Spool(tmp_path)).decode()
    (trigger,) = scaled["spec"]["triggers"]
    (name,) = re.findall(r"ainode_\w+", trigger["metadata"]["query"])
    assert re.search(rf'^{name}{{pipeline="one",stage="infer"}} 0', known, re.MULTILINE)
    targets = [
        resource
        for resource in rendered(VALUES["everything"])
        if resource["metadata"]["name"] == scaled["spec"]["scaleTargetRef"]["name"]
    ]
    (workers,) = (resource for resource in targets if resource["kind"] == "StatefulSet")
    assert "replicas" not in workers["spec"], "the autoscaler and an upgrade would take turns"


@pytest.mark.thorough
def test_the_nomad_job_parses():
    hcl2 = pytest.importorskip("hcl2")
    assert hcl2.loads((FOLDER / "nomad" / "ainode.nomad.hcl").read_text())["job"]


def test_the_nomad_job_stops_no_sooner_than_the_drain():
    text = (FOLDER / "nomad" / "ainode.nomad.hcl").read_text()
    (waits,) = map(int, re.findall(r'DRAIN_SECONDS = "(\d+)"', text))
    (kill,) = map(int, re.findall(r'kill_timeout = "(\d+)s"', text))
    assert kill >= waits + STOP_SECONDS
    config = Config.model_validate({})
    ports = {config.ae.port, config.fleet.port, config.fleet.copies_port}
    assert set(map(int, re.findall(r"static = (\d+)", text))) == ports
    (script,) = re.findall(r'file\("(.*)"\)', text)
    assert (FOLDER / "nomad" / script).is_file()


def test_a_machine_of_the_compose_file_stops_no_sooner_than_the_drain():
    node = yaml.safe_load((FOLDER / "compose" / "compose.yaml").read_text())["services"]["node"]
    assert int(node["stop_grace_period"].removesuffix("s")) >= int(node["environment"]["DRAIN_SECONDS"]) + STOP_SECONDS
    assert (FOLDER / "compose" / "../start.sh").is_file()
    assert (node["read_only"], node["cap_drop"], node["security_opt"]) == (True, ["ALL"], ["no-new-privileges"])


def test_haproxy_accepts_its_file_and_aims_at_the_port_of_the_node():
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed (Debian package haproxy)")
    file = FOLDER / "systemd" / "haproxy.cfg"
    subprocess.run(["haproxy", "-c", "-f", file], check=True, capture_output=True)
    servers = dict(re.findall(r"server (\S+) ([\d.]+):11112 send-proxy-v2", file.read_text()))
    assert Config.model_validate({}).ae.port == 11112
    peers = (FOLDER / "systemd" / "keepalived.conf").read_text()
    assert [address in peers for address in servers.values()] == [True, True, True]


def test_the_start_script_drains_before_it_stops_the_node(tmp_path: Path):
    script = FOLDER / "start.sh"
    assert check_commands(script.read_text()) == ["drain --undo", "drain --wait", "run"]
    fake = tmp_path / "ainode"
    fake.write_text(
        '#!/bin/sh\necho "$*" >> "$LOG"\n'
        '[ "$1" != run ] || { trap "echo stopped >> $LOG; exit 0" TERM; kill -TERM $PPID; '
        "while :; do sleep 0.01; done; }\n"
    )
    fake.chmod(0o755)
    log = tmp_path / "log"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(log), "AINODE_CONFIG": "c", "DRAIN_SECONDS": "7"}
    done = subprocess.run(["sh", script], env=environment, check=False, timeout=60)
    name = Path("/proc/sys/kernel/hostname").read_text().strip()
    assert log.read_text().splitlines() == [
        f"drain --undo {name} --config c",
        "run --config c",
        f"drain {name} --wait 7 --config c",
        "stopped",
    ]
    assert done.returncode == 0
