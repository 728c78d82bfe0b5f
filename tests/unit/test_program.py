"""Which variables of the environment a process gets that runs models or reads strangers' files."""

from __future__ import annotations

import json
from pathlib import Path

import confined_functions
import pytest
from worker_tasks import task, wanted

from node.confined import Bounds, ConfinedProcess
from node.inference.model_process import ModelProcess
from node.process.program import shared_variables

SECRETS = {
    name: f"secret of {name}"
    for name in (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "PGPASSWORD", "PGPASSFILE",
        "PGSERVICE", "DATABASE_URL", "DBOS_SYSTEM_DATABASE_URL", "CREDENTIALS_DIRECTORY", "AINODE_CONFIG",
        "NOTIFY_SOCKET", "HF_TOKEN", "HUGGINGFACE_HUB_TOKEN", "MONAI_API_KEY", "TORCH_HUB_PASSWORD", "nnUNet_secret",
        "HTTPS_PROXY", "SSH_AUTH_SOCK", "DOCKER_AUTH_CONFIG", "WANDB_API_KEY", "SMTP", "_",
    )
}  # fmt: skip
NEEDED = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LC_NUMERIC": "C.UTF-8",
    "TZ": "Europe/Berlin",
    "CUDA_VISIBLE_DEVICES": "0",
    "NVIDIA_TF32_OVERRIDE": "0",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "TORCH_HOME": "/models/torch",
    "HF_HOME": "/models/hf",
    "HF_HUB_OFFLINE": "1",
    "nnUNet_results": "/models/nnunet",
    "MONAI_DATA_DIRECTORY": "/models/monai",
    "TOTALSEG_WEIGHTS_PATH": "/models/totalseg",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
}


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a role that has secrets."""
    for name, value in (SECRETS | NEEDED).items():
        monkeypatch.setenv(name, value)


def assert_needed_only(variables: dict[str, str]) -> None:
    assert not SECRETS.keys() & variables.keys()
    assert not [name for name, value in variables.items() if value.startswith("secret of ")]
    assert {name: variables.get(name) for name in NEEDED} == NEEDED


def test_a_variable_is_left_out_unless_a_library_needs_it_and_it_is_named_like_no_secret() -> None:
    assert shared_variables(SECRETS | NEEDED) == NEEDED


@pytest.mark.usefixtures("role")
def test_a_process_that_reads_files_has_no_secret_of_its_role(tmp_path: Path) -> None:
    process = ConfinedProcess("reader", readable=[Path(confined_functions.__file__).parent], bounds=Bounds())
    try:
        variables = process.call("the environment", confined_functions.variables)
    finally:
        process.close()
    assert_needed_only(variables)
    assert variables["OMP_NUM_THREADS"] == "1"


@pytest.mark.thorough
@pytest.mark.usefixtures("role")
def test_a_model_has_no_secret_of_its_role(tmp_path: Path) -> None:
    worker = ModelProcess("cpu", 3, 240.0, tmp_path / "sandboxes")
    try:
        variables = json.loads(worker.run(task(tmp_path, does="variables"), wanted).reason)
    finally:
        worker.close()
    assert_needed_only(variables)
    assert variables["OMP_NUM_THREADS"] == "3"
