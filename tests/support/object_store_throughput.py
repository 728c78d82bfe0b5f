"""Images per second into and out of a server of S3, as one pack and as one object per image, and of the local disk.

Both are written on condition and read back as a whole, as packing does. Each round has new names.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from s3_server import proxied_server, store_table

from node.config import ObjectStoreTable
from node.object_store.pack_digests import is_whole
from node.object_store.pack_file import write_pack
from node.object_store.store import Objects, open_objects
from node.spool import Spool, digest_of


def images(folder: Path, count: int, size: int) -> dict[str, tuple[Path, str]]:
    """Path -> file and digest of images of random bytes."""
    made = {}
    for number in range(count):
        place = folder / f"{number}.dcm"
        place.write_bytes(os.urandom(size))
        with place.open("rb") as file:
            made[f"incoming/1.1/1.1.1/1.{number}.dcm"] = place, digest_of(file)
    return made


def timed(what: str, count: int, work: Callable[[], object]) -> None:
    wall, cpu = time.monotonic(), time.process_time()
    work()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    print(f"{what:40} {count / wall:7.0f} images/s  {cpu / count * 1000:6.2f} ms CPU of the node per image")


def measure_local(folder: Path, files: dict[str, tuple[Path, str]]) -> None:
    spool = Spool(folder / "spool")

    def keep() -> None:
        for path, (place, _) in files.items():
            spool.keep("1.1", "1.1.1", path.rpartition("/")[2].removesuffix(".dcm"), [place.read_bytes()])

    def read_local() -> None:
        for path in files:
            with spool.readable(path).open("rb") as file:
                digest_of(file)

    timed("write: local disk, each durable", len(files), keep)
    timed("read the series: local disk", len(files), read_local)


def measure(objects: Objects, folder: Path, count: int, size: int) -> None:
    files, places = images(folder, count, size), {}

    def pack() -> None:
        name, packed = write_pack(folder / "pack.zip", files)
        objects.put_new(name, folder / "pack.zip")
        assert is_whole(objects, name, (folder / "pack.zip").stat().st_size)
        places.update(packed)

    def one(path: str) -> None:
        objects.put_new(f"{folder.name}/{path}", files[path][0])
        assert sum(map(len, objects.stream(f"{folder.name}/{path}", size))) == size

    def each() -> None:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(one, files))

    def read_pack() -> None:
        every = list(places.values())
        for first in range(0, count, 100):
            objects.read(every[0].pack, [(of.position, of.size) for of in every[first : first + 100]])

    def read_each() -> None:
        for path in files:
            assert sum(map(len, objects.stream(f"{folder.name}/{path}", size))) == size

    measure_local(folder, files)
    timed("write and read back: one pack", count, pack)
    timed("write and read back: objects, 4 threads", count, each)
    timed("read the series: from the pack", count, read_pack)
    timed("read the series: one object each", count, read_each)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--kib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    with proxied_server() as proxy, tempfile.TemporaryDirectory() as outer:
        table = ObjectStoreTable(**store_table(f"http://127.0.0.1:{proxy.store_port}", "b", Path(outer)))
        for _ in range(asked.rounds):
            with tempfile.TemporaryDirectory() as folder:
                measure(open_objects(table), Path(folder), asked.images, asked.kib * 1024)


if __name__ == "__main__":
    main()
