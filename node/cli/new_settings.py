"""What to enter on PACS and scanner after ``ainode init``."""

from __future__ import annotations

import socket
from pathlib import Path

from node.cli.options import echo
from node.init.settings import Answers
from node.translation import gettext


def _address(towards: str) -> str:
    """Return our address on the route to a host, or our name if there is no route; sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def print_settings(answers: Answers, config: str, config_path: Path) -> None:
    """Print the settings to enter on PACS and scanner."""
    import torch
    from pydicom.uid import UID

    from node.config import parse
    from node.pytorch_build import build_advice, has_nvidia_gpu
    from node.results.gate.check import SOP_CLASSES

    host = _address(answers.pacs_host)
    kinds = sorted(parse(config).kinds("pacs") & SOP_CLASSES.keys())
    classes = ", ".join(UID(SOP_CLASSES[kind]).name for kind in kinds)
    of = {"title": answers.title, "host": host, "port": answers.port}
    transport = gettext(" over TLS") if answers.tls else ""
    address = f"{answers.pacs_host}:{answers.pacs_port}"
    echo("\n" + gettext("Enter on the PACS ({title} at {address}):", title=answers.pacs_title, address=address))
    echo("  " + gettext("DICOM node: AE title {title}, host {host}, port {port}", **of) + transport)
    echo("  " + gettext("allow it to store: {classes}, CT and MR Image Storage", classes=classes))
    services = "Verification" + (", Storage Commitment Push Model" if answers.commitment else "")
    echo("  " + gettext("allow it to use: {services}", services=services))
    if answers.commitment:
        echo("  " + gettext("send Storage Commitment reports to {title} at {host}:{port}", **of))
    echo("\n" + gettext("Enter on the scanner, or as a forwarding rule of the PACS:"))
    echo("  " + gettext("store destination: AE title {title}, host {host}, port {port}", **of) + transport)
    echo("\n" + gettext("Then:"))
    if advice := build_advice(torch.__version__, torch.version.cuda, has_gpu=has_nvidia_gpu()):
        echo(f"  {advice}")
    echo(f"  ainode doctor --config {config_path}")
