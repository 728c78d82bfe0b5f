"""The installed command: what its start loads, and what it says when another package has taken our import names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from node.errors import PlatformError

ROOT = Path(__file__).parents[2]
SOURCES = ("node", "pipelines", "systemd", "config.toml", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
HELP = """
import json, sys
before = set(sys.modules)
from ainode import main
try:
    main()
finally:
    print(json.dumps(sorted(set(sys.modules) - before)), file=sys.stderr)
"""

WITHOUT_CHECKOUT = "import sys; sys.meta_path = [one for one in sys.meta_path if 'Editable' not in str(one)]"
"""An editable installation would find modules of ours below a package that is not."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the checkout stays as it is."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    subprocess.run([sys.executable, "-c", BUILD, str(copy)], cwd=copy, check=True, capture_output=True)
    (built,) = copy.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the wheel; its dependencies are those of the tests."""
    folder = tmp_path_factory.mktemp("installed") / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return folder


@pytest.fixture
def overwritten(site: Path, tmp_path: Path) -> Path:
    """A second such folder, in which a test may change files."""
    return shutil.copytree(site, tmp_path / "site")


def ainode(*arguments: str, path: tuple[Path, ...], script: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command as installed in the last folder of ``path``, away from the checkout."""
    command = ["-c", script] if script else [str(path[-1] / "bin" / "ainode")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, "-P", *command, *arguments],
        cwd=path[-1].parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def other_distribution(folder: Path, package: str) -> Path:
    """A distribution of somebody else that happens to import under our name."""
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text('"""Of somebody else."""\n')
    metadata = folder / "their_tools-2.5.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-tools\nVersion: 2.5\n")
    (metadata / "RECORD").write_text(f"{package}/__init__.py,,\ntheir_tools-2.5.dist-info/METADATA,,\n")
    return folder


def test_help_of_the_installed_wheel_loads_no_library_but_the_one_that_prints_it(site: Path):
    done = ainode("--help", path=(site,), script=HELP)
    assert done.returncode == 0, done.stderr
    assert "ainode explain STUDY " in done.stdout
    loaded = json.loads(done.stderr)
    assert {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names == {"ainode", "click", "node"}
    assert not {"node.bench", "node.config", "node.demo", "node.service"} & set(loaded)


def test_a_wheel_holds_only_our_packages(wheel: Path, site: Path):
    assert {path.name for path in site.iterdir()} == {
        *("ainode", "node", "pipelines", "bin", "share"),
        f"{'-'.join(wheel.name.split('-')[:2])}.dist-info",
    }
    assert not (site / "node" / "launch").exists()
    assert (site / "share" / "ainode" / "config.toml").read_bytes() == (ROOT / "config.toml").read_bytes()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"ainode": "ainode:main"}


@pytest.mark.parametrize("package", ["node", "pipelines"])
def test_another_distribution_earlier_on_the_path_is_named_at_the_start(site: Path, tmp_path: Path, package: str):
    other = other_distribution(tmp_path / "other", package)
    done = ainode("--version", path=(other, site))
    assert done.returncode == PlatformError.exit_code
    assert done.stdout == ""
    assert done.stderr.startswith(
        f"ainode: Python imports '{package}' from {other / package} (distribution their-tools 2.5), "
        f"not from {site / package}. Remove that package"
    )


@pytest.mark.parametrize("package", ["node", "pipelines"])
@pytest.mark.parametrize("form", ["folder", "module"])
def test_a_plain_folder_or_file_of_that_name_is_named_too(site: Path, tmp_path: Path, package: str, form: str):
    other = tmp_path / "other"
    hiding = other / (package if form == "folder" else f"{package}.py")
    (hiding if form == "folder" else other).mkdir(parents=True)
    if form == "module":
        hiding.touch()
    done = ainode("--version", path=(other, site))
    # A folder without __init__.py never hides a package that is found later (PEP 420).
    assert (done.returncode, f"from {hiding}" in done.stderr) == ((0, False) if form == "folder" else (9, True))


def test_another_distribution_installed_over_ours_is_named_at_the_start(overwritten: Path):
    (overwritten / "node" / "__init__.py").write_text('"""Of somebody else."""\n')
    done = ainode("--version", path=(overwritten,))
    assert done.returncode == PlatformError.exit_code
    assert f"another distribution has overwritten {overwritten / 'node' / '__init__.py'}" in done.stderr


def test_check_names_files_that_another_distribution_has_overwritten(overwritten: Path, tmp_path: Path):
    config = tmp_path / "config.toml"
    config.write_text(f'[storage]\nfolder = "{tmp_path / "data"}"\nmin_free_gib = 0.0\n')
    (overwritten / "pipelines" / "weights.py").write_text("overwritten = True\n")
    done = ainode("check", "--json", "--config", str(config), path=(overwritten,))
    result = json.loads(done.stdout)[0]
    assert (done.returncode, result["name"], result["good"]) == (1, "installation", False)
    assert result["found"].endswith(f"in {overwritten}: 1 files changed since installation: pipelines/weights.py")


def test_a_built_in_pipeline_that_is_hidden_says_where_python_looked(site: Path, tmp_path: Path):
    other = other_distribution(tmp_path / "other", "pipelines")
    script = f"{WITHOUT_CHECKOUT}; from node.inference.plugins import factory_of; factory_of('nodule', '')"
    done = ainode(path=(other, site), script=script)
    assert f"no module 'pipelines.nodule' ('pipelines' is imported from {other / 'pipelines'})" in done.stderr


def test_a_folder_of_our_name_where_the_node_is_started_does_not_hide_it(site: Path, tmp_path: Path):
    """The supervisor starts its processes with `python -m`, which looks in the current folder first."""
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "__init__.py").touch()
    config = tmp_path / "config.toml"
    config.write_text(f'[ae]\naddress = "127.0.0.1"\n[storage]\nfolder = "{tmp_path / "data"}"\nmin_free_gib = 0.0\n')
    process = subprocess.Popen(
        [sys.executable, "-P", str(site / "bin" / "ainode"), "run", "--only", "router", "--config", str(config)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "ready" in line or "ended with status" in line:
                break
        assert "router ready" in lines[-1], lines
    finally:
        process.terminate()
        process.communicate(timeout=60)
