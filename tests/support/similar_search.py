"""Time of a search for similar findings among many: ``python tests/support/similar_search.py [--postgresql]``.

Vectors of as many clusters as LIDC has patients, as long as those of ``nodule``.
"""

from __future__ import annotations

import tempfile
import time

import click
import numpy as np
import postgres
import sqlalchemy as sa
from ledgers import new_on_server, open_copy

from node.ledger.embeddings import Space, SpaceKey, embeddings_of_job
from node.ledger.engine import begin_immediate
from node.ledger.tables import embedding_space, job, lesion_embedding, result, series
from node.similar.findings import SimilarSearch
from node.similar.index import SpaceIndex

DIMENSIONS, CLUSTERS, PORTION = 64, 1000, 5000
KEY = SpaceKey("nodule", "made-up")


def fill(engine: sa.Engine, findings: int) -> np.ndarray:
    """Record a study with one finding each; return the vectors."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(CLUSTERS, DIMENSIONS))
    vectors = centres[rng.integers(CLUSTERS, size=findings)] + 0.5 * rng.normal(size=(findings, DIMENSIONS))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    statement = ["Made up.", {}]
    with begin_immediate(engine) as connection:
        space = {"dimensions": DIMENSIONS, "statement": statement, "rebuilt_at": 0.0}
        connection.execute(sa.insert(embedding_space).values(pipeline=KEY.pipeline, name=KEY.name, **space))
        for start in range(0, findings, PORTION):
            rows: dict[sa.Table, list[dict[str, object]]] = {series: [], job: [], result: [], lesion_embedding: []}
            for number in range(start, min(start + PORTION, findings)):
                study, at = {"study_instance_uid": f"1.{number}"}, float(number)
                of_series = study | {"series_instance_uid": f"1.{number}.1", "generation": 1}
                rows[series].append(
                    of_series | {"modality": "CT", "instances": 1, "first_at": at, "last_at": at, "state": "COMPLETE"}
                )
                rows[job].append(
                    of_series
                    | {"id": f"j{number}", "pipeline": "nodule", "rule": "r", "destinations": [], "priority": 2}
                    | {"state": "COMPLETED", "stage": "deliver", "run": 0, "attempt": 0, "outcome": "findings"}
                    | {"created_at": at, "updated_at": at}
                )
                rows[result].append(
                    {"sop_instance_uid": f"9.{number}", "job_id": f"j{number}", "sop_class_uid": "1", "path": "a"}
                    | {"transfer_syntax_uid": "1.2", "series_instance_uid": "9", "description": "", "digest": "b"}
                    | {"size": 1, "created_at": at, "kind": "sr"}
                )
                rows[lesion_embedding].append(
                    study
                    | {"job_id": f"j{number}", "lesion": f"7.{number}", "label": "Nodule 1", "pipeline": KEY.pipeline}
                    | {"space": KEY.name, "vector": vectors[number].tobytes(), "long_axis_mm": 8.0, "made_at": at}
                )
            for table, values in rows.items():
                connection.execute(sa.insert(table), values)
    return vectors


@click.command()
@click.option("--findings", default=100_000, show_default=True)
@click.option("--queries", default=500, show_default=True)
@click.option("--postgresql", is_flag=True, help="a server of its own, in place of SQLite")
def main(*, findings: int, queries: int, postgresql: bool) -> None:
    """Print build time, time of a search, recall against an exact one, and time of a whole list."""
    with tempfile.TemporaryDirectory() as folder:
        if not postgresql:
            measure(open_copy(f"sqlite:///{folder}/ledger.sqlite"), findings, queries)
            return
        with postgres.cluster() as url:
            measure(open_copy(new_on_server(url, "similar")), findings, queries)


def measure(engine: sa.Engine, findings: int, queries: int) -> None:
    """Print the figures of one ledger."""
    vectors = fill(engine, findings)
    index = SpaceIndex(Space(key=KEY, dimensions=DIMENSIONS, statement=("", {}), rebuilt_at=0.0))
    with engine.connect() as connection:
        begin, computing = time.perf_counter(), time.process_time()
        index.update(connection)
        build = time.perf_counter() - begin, time.process_time() - computing
        chosen = np.random.default_rng(8).choice(findings, queries, replace=False)
        seconds, hits = [], 0
        for row in chosen:
            vector = vectors[row].tobytes()
            begin = time.perf_counter()
            near = index.nearest(vector, 40)
            seconds.append(time.perf_counter() - begin)
            exact = np.argsort(-(vectors @ vectors[row]))[:6] + 1  # ids count from 1
            hits += len({key for key, _ in near[:6]} & set(exact.tolist()))
        search = SimilarSearch()
        last = f"j{findings - 1}"
        search.of_job(connection, last)
        lists = []
        for _ in range(20):
            begin = time.perf_counter()
            assert search.of_job(connection, last) is not None
            lists.append(time.perf_counter() - begin)
        assert embeddings_of_job(connection, last)
    click.echo(f"{findings} findings: built in {build[0]:.1f} s, {build[1]:.1f} CPU s")
    click.echo(f"search: median {np.median(seconds) * 1e3:.2f} ms, 99 % {np.quantile(seconds, 0.99) * 1e3:.2f} ms")
    click.echo(
        f"of the six nearest, {hits / 6 / queries:.1%} found; list of one finding: {np.median(lists) * 1e3:.0f} ms"
    )


if __name__ == "__main__":
    main()
