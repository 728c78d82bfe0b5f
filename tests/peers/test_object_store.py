"""Packs in a real server of S3 (moto), also behind a proxy that stalls, refuses, cuts or alters what it passes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from packed_series import PackedSeries, open_scene
from receivers import configuration
from s3_server import PROGRAM, Proxy, impatient, proxied_server, store_table

from node.config import ObjectStoreTable
from node.errors import AbsentStoreError, PlatformError
from node.object_store import store
from node.object_store.probe import Ability, probe
from node.object_store.store import Objects, open_objects

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="make build/s3-server has not been run")

OUTAGES = ("stall", "slow", "reset", "refuse", "busy", "forbid", "skew")
"""Faults of a store that does not answer in time, or refuses."""
CONTENTS = {f"1.1.1.{number}": os.urandom(50_000 + number) for number in range(1, 21)}


@pytest.fixture(scope="module")
def server() -> Iterator[Proxy]:
    with proxied_server() as proxy:
        yield proxy


@pytest.fixture
def objects(server: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    """The store under a prefix of this test."""
    monkeypatch.setattr(store, "_RETRIES", 1)
    yield open_objects(table(server, tmp_path))
    server.fault = ""


def table(server: Proxy, folder: Path) -> ObjectStoreTable:
    prefix = folder.name.replace("[", "-").replace("]", "")
    return ObjectStoreTable(**store_table(server.url, prefix, folder, encryption="AES256"))


@pytest.fixture
def scene(engine: sa.Engine, tmp_path: Path, objects: Objects) -> PackedSeries:
    return open_scene(engine, tmp_path, objects)


def contents(scene: PackedSeries, paths: list[str]) -> list[bytes]:
    return [file.read_bytes() for file in scene.spool.all_readable(paths)]


def test_a_series_is_packed_and_read_in_ranges_and_its_pack_goes_with_it(scene: PackedSeries) -> None:
    paths = scene.receive(CONTENTS)
    assert scene.pack() == 1
    assert scene.release() == len(paths)
    assert contents(scene, paths[5:7]) == list(CONTENTS.values())[5:7]
    assert contents(scene, paths) == list(CONTENTS.values())
    (stored,) = scene.objects.names("packs")
    assert stored.size > sum(map(len, CONTENTS.values()))
    assert not scene.objects.put_new(stored.name, scene.spool.readable(paths[0]))
    assert scene.objects.size(stored.name) == stored.size
    scene.objects.delete(stored.name)
    scene.objects.delete(stored.name)
    assert scene.objects.size(stored.name) is None


@pytest.mark.parametrize("fault", [*OUTAGES, "cut", "short", "alter", "lose", "forbid PUT", "stall PUT", "busy GET"])
def test_a_fault_during_packing_deletes_nothing_and_is_over_with_its_cause(
    scene: PackedSeries, server: Proxy, fault: str
) -> None:
    paths = scene.receive(CONTENTS)
    server.fault = fault
    with impatient():
        assert scene.pack() == 0
        assert scene.release() == 0
    server.fault = ""
    assert scene.pack() == 1
    assert scene.release() == len(paths)
    assert contents(scene, paths) == list(CONTENTS.values())


@pytest.mark.parametrize("fault", [*OUTAGES, "cut", "short", "alter", "lose"])
def test_a_fault_during_reading_is_an_error_and_never_a_wrong_image(
    scene: PackedSeries, server: Proxy, fault: str
) -> None:
    """What may pass is tried again as long as it lasts; a wrong byte or a lost pack is an error of the attempt."""
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    server.fault = fault
    with impatient(), pytest.raises(PlatformError) as caught:
        scene.spool.all_readable(paths)
    assert isinstance(caught.value, AbsentStoreError) == (fault not in {"alter", "lose"})
    server.fault = ""
    assert contents(scene, paths) == list(CONTENTS.values())


def test_probes_tell_a_store_that_honours_conditions_from_one_that_ignores_them(
    objects: Objects, server: Proxy
) -> None:
    assert {of.ability for of in probe(objects) if of.works} == set(Ability)
    assert not list(objects.names("probes"))
    server.fault = "ignore"
    assert {of.ability for of in probe(objects) if not of.works} == {Ability.CONDITION, Ability.RANGE}
    server.fault = "refuse"
    (answer,) = probe(objects)
    assert (answer.ability, answer.works) == (Ability.WRITE, False)


def test_a_store_without_conditions_still_keeps_every_image(scene: PackedSeries, server: Proxy) -> None:
    """Packs are named by their content: written twice they are the same."""
    paths = scene.receive(CONTENTS)
    server.fault = "ignore"
    scene.pack()
    server.fault = ""
    scene.pack()
    scene.release()
    assert contents(scene, paths) == list(CONTENTS.values())


def test_a_stopped_store_is_reported_within_seconds(tmp_path: Path, server: Proxy) -> None:
    gone = table(server, tmp_path).model_copy(update={"endpoint": "http://127.0.0.1:9"})
    with pytest.raises(AbsentStoreError, match="does not look for"):
        open_objects(gone).size("packs/x.zip")


def test_a_receiver_reads_packs_without_importing_obstore(scene: PackedSeries, server: Proxy, tmp_path: Path) -> None:
    paths = scene.receive(CONTENTS)
    scene.pack()
    scene.release()
    of = table(server, tmp_path)
    config = tmp_path / "config.toml"
    keys = f'url = "{of.url}"\nendpoint = "{of.endpoint}"\ncredentials_file = "{of.credentials_file}"\n'
    storage = f'min_free_gib = 0.0\nledger_url = "{scene.engine.url}"\n[storage.object_store]\n{keys}'
    config.write_text(configuration(tmp_path / "spool", 104, "", storage))
    script = (
        "import os, sys; from pathlib import Path\n"
        f"from node.service import open_storage; from node.config import load; config = load(Path({str(config)!r}))\n"
        f"from node.roles import CONFIG_FILE; os.environ[CONFIG_FILE] = {str(config)!r}\n"
        f"engine, spool = open_storage(config, role='receiver'); file = spool.readable({paths[3]!r})\n"
        "print(file.stat().st_size, 'obstore' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(len(CONTENTS["1.1.1.4"])), "False"], done.stderr
