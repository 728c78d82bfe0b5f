"""A pipeline that runs after another one on the same series, and gets its result."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from dicom_files import ct_series, mr_series, write
from job_node import JobNode, config_of
from notes import shared_notes
from pydicom import Dataset, dcmread

from node.__main__ import main
from node.config import Config
from node.errors import NodeError
from node.ledger.engine import begin_immediate
from node.ledger.jobs import Job, NewJob
from node.ledger.pending_attempts import due_attempts, stuck_jobs
from node.ledger.tables import job as job_table
from node.reasons import reason_text
from node.routing.prerequisites import with_prerequisites
from node.routing.rules import Route

pytestmark = pytest.mark.thorough


def config(folder: Path, notes: Path) -> Config:
    """Pipelines ``A``, and ``count A`` after each."""
    first: dict[str, Any] = {"findings": {"does": "findings", "log": str(notes / "log")}}
    first |= {name: {"does": name} for name in ("none", "raise")}
    hang = {"does": "hang", "seconds": 600}
    after = {f"count-{name}": {"does": "count in result", "of": name} for name in (*first, "hang")}
    made = config_of(folder, pipelines={**first, "hang": hang, **after})
    tables = {
        name: table.model_copy(update={"after": name.removeprefix("count-")}) if name in after else table
        for name, table in made.pipelines.items()
    }
    return made.model_copy(update={"pipelines": tables})


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobNode]:
    with shared_notes() as notes:
        serving = JobNode(config(tmp_path_factory.mktemp("node"), notes))
        serving.notes = notes  # type: ignore[attr-defined]
        serving.jobs.serve("all", serving.stages())
        yield serving
        serving.jobs.stop()
        serving.engine.dispose()


def enqueue(node: JobNode, first: str, datasets: Any = None, *, destinations: tuple[str, ...] = ("pacs",)) -> list[str]:
    """Both jobs of a series, by the routes of a rule that names the second pipeline only."""
    study, series = node.receive(datasets)
    route = Route(pipeline=f"count-{first}", rule="all", destinations=destinations, priority=2)
    ids = []
    with begin_immediate(node.engine) as connection:
        for analysis in with_prerequisites([route], node.config):
            new = NewJob(study_instance_uid=study, series_instance_uid=series, generation=1, **vars(analysis))
            assert node.jobs.enqueue(connection, new)
            ids.append(new.id)
    return ids


def report(node: JobNode, job_id: str) -> Dataset:
    [result] = [row for row in node.results(job_id) if row.kind in ("sr", "sr alone")]
    return dcmread(node.spool.absolute(result.path))


def texts(dataset: Dataset) -> str:
    return " ".join(str(e.value) for e in dataset.iterall() if e.keyword == "TextValue")


def test_the_second_pipeline_gets_the_mask_of_the_first_on_its_own_grid(node: JobNode) -> None:
    organ, lesion = enqueue(node, "findings")
    assert (node.wait(organ).outcome, node.wait(lesion).outcome) == ("findings", "measured")
    stated = texts(report(node, lesion))
    assert "('Nodule 1',), 32" in stated, "all 32 voxels, where the first pipeline has put them"
    assert "Based on the result of findings (Scripted 1.2)." in stated
    assert "after findings=Scripted 1.2" in stated, "among the parameters of the algorithm"
    assert sorted(row.kind for row in node.results(organ)) == ["seg", "sr"], "kept here"
    own = {row.sop_instance_uid for row in node.results(organ)}
    assert not {line for line in node.delivered() if line.split()[1] in own}, "and sent to nobody: no rule names it"
    assert [what for what, _ in node.events(lesion)].count("infer started") == 1


def test_both_pipelines_of_a_rule_run_once_and_both_are_sent(node: JobNode) -> None:
    study, series = node.receive()
    runs = len((node.notes / "log").read_bytes()) if (node.notes / "log").exists() else 0  # type: ignore[attr-defined]
    routes = [
        Route(pipeline=name, rule="all", destinations=("reports",), priority=priority)
        for name, priority in (("count-findings", 1), ("findings", 3))
    ]
    ordered = with_prerequisites(routes, node.config)
    assert [(route.pipeline, route.after, route.priority) for route in ordered] == [
        ("findings", "", 1),
        ("count-findings", "findings", 1),
    ]
    ids = []
    with begin_immediate(node.engine) as connection:
        for route in ordered:
            new = NewJob(study_instance_uid=study, series_instance_uid=series, generation=1, **vars(route))
            node.jobs.enqueue(connection, new)
            ids.append(new.id)
    assert [node.wait(job_id).outcome for job_id in ids] == ["findings", "measured"]
    assert {row.kind for row in node.results(ids[0])} == {"seg", "sr alone"}, "a mask that nobody takes"
    assert len((node.notes / "log").read_bytes()) > runs  # type: ignore[attr-defined]


def test_an_empty_result_is_a_result(node: JobNode) -> None:
    _, lesion = enqueue(node, "none")
    assert node.wait(lesion).outcome == "measured"
    assert "(), 0" in texts(report(node, lesion))


def test_without_a_result_the_second_pipeline_says_why_it_did_not_run(node: JobNode) -> None:
    organ, lesion = enqueue(node, "raise")
    ended = node.wait(lesion)
    assert ended.outcome == "failed"
    said = reason_text(ended.reason)
    assert said.startswith("it needs the result of raise, whose outcome is failed: NOT ANALYSED: the program")
    assert said in texts(report(node, lesion)).replace("  ", " ")
    assert "infer failed" not in [what for what, _ in node.events(lesion)], "no attempt of its own failed"
    organ, lesion = enqueue(node, "findings", mr_series(n=3, size=16))
    ended = node.wait(lesion)
    assert (node.wait(organ).outcome, ended.outcome) == ("not applicable", "not applicable")
    assert reason_text(ended.reason).endswith("outcome is not applicable: Modality is MR, needed is CT")
    assert {line.split()[0] for line in node.delivered() if line.split()[1] == node.results(lesion)[0].sop_instance_uid}


def test_a_cancelled_first_pipeline_ends_the_second_one_with_a_report(node: JobNode) -> None:
    organ, lesion = enqueue(node, "hang")
    node.wait(organ, lambda job: job.state == "IN PROGRESS")
    waiting = node.job(lesion)
    assert (waiting.state, waiting.after) == ("SCHEDULED", "hang")
    with node.engine.connect() as connection:
        nothing = sa.select(sa.literal("").label("key"))
        assert lesion not in [attempt.job_id for attempt in due_attempts(connection, waiting.updated_at + 60, nothing)]
        assert lesion not in [job.id for job in stuck_jobs(connection, waiting.updated_at + 60)]
    node.jobs.cancel(organ)
    ended = node.wait(lesion)
    assert (ended.outcome, reason_text(ended.reason)) == (
        "failed",
        f"it needs the result of hang, which was cancelled, retracted or deleted (job {organ})",
    )


def test_a_retry_of_the_first_pipeline_runs_the_second_one_again_after_it(node: JobNode) -> None:
    organ, lesion = enqueue(node, "findings", ct_series(n=4, size=16))
    before = node.wait(lesion)
    node.wait(organ)
    node.jobs.retry(organ)
    again = node.job(lesion)
    assert (again.state, again.stage, again.run) == ("SCHEDULED", "infer", before.run + 1)
    with pytest.raises(NodeError, match=f"job {organ} is"):
        node.jobs.retry(organ)
    ended: Job = node.wait(lesion)
    assert (ended.outcome, node.wait(organ).state) == ("measured", "COMPLETED")
    node.jobs.retry(lesion)
    with pytest.raises(NodeError, match=f"job {lesion} of pipeline count-findings needs the result of job {organ}"):
        node.jobs.retry(organ)
    assert node.wait(lesion).outcome == "measured", "alone, it uses the result that is there"


def test_a_result_that_was_deleted_is_named(node: JobNode) -> None:
    organ, lesion = enqueue(node, "findings")
    node.wait(lesion)
    with begin_immediate(node.engine) as connection:
        connection.execute(sa.update(job_table).where(job_table.c.id == organ).values(results_purged_at=1.0))
    node.jobs.retry(lesion)
    assert "which was cancelled, retracted or deleted" in reason_text(node.wait(lesion).reason)


def toml(folder: Path, more: str = "") -> Path:
    path = folder / "config.toml"
    path.write_text(
        f'[storage]\nfolder = "{folder / "node"}"\n[pipelines.organ]\nfactory = "job_pipelines:create"\n'
        '[pipelines.lesion]\nfactory = "job_pipelines:create"\nafter = "organ"\n'
        'options = { does = "count in result", of = "organ" }\n' + more
    )
    return path


def test_try_runs_the_first_pipeline_too(tmp_path: Path) -> None:
    write(ct_series(n=4, size=16), tmp_path / "in")
    arguments = ["try", "--config", str(toml(tmp_path)), "lesion", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, "Voxels of the result 32" in result.output) == (0, True), result.output
    assert "Based on the result of organ (Scripted 1.2)." in result.output
    write(mr_series(n=3, size=16), tmp_path / "mr")
    result = CliRunner().invoke(main, [*arguments[:4], str(tmp_path / "mr")])
    wanted = "it needs the result of organ, whose outcome is not applicable: Modality is MR, needed is CT"
    assert (result.exit_code, wanted in result.output) == (0, True), result.output


def test_try_runs_what_after_names_before_a_pipeline_without_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write(ct_series(n=4, size=16), tmp_path / "in")
    (tmp_path / "counting.py").write_text(
        "from job_pipelines import create as scripted\n"
        "def create(*, weights, device, options):\n"
        "    chosen = {'does': 'count in result', 'of': 'organ'}\n"
        "    return scripted(weights=weights, device=device, options=chosen)\n"
    )
    start = ["try", "--config", str(toml(tmp_path)), "counting:create", str(tmp_path / "in")]
    for after in ("organ", "organ=job_pipelines:create"):
        result = CliRunner().invoke(main, [*start, "--after", after])
        assert (result.exit_code, "Voxels of the result 32" in result.output) == (0, True), result.output
        assert "Based on the result of organ (Scripted 1.2)." in result.output
    result = CliRunner().invoke(main, [*start, "--after", "job_pipelines:create", "--after", "organ"])
    based = [line.split("(")[0].strip() for line in result.output.splitlines() if "Based on" in line]
    assert based == ["Based on the result of job_pipelines", "Based on the result of organ"], result.output
    for after, fault in (("orgn", "pipeline 'orgn' is not installed"), ("counting:create", "twice")):
        result = CliRunner().invoke(main, [*start, "--after", after])
        assert (result.exit_code != 0, fault in " ".join(result.output.split())) == (True, True), result.output


SENT = '[[rules]]\nname = "a"\npipelines = ["lesion"]\n[[rules]]\nname = "b"\n'
SHADOWED = SENT + 'shadow = ["organ"]\n'
CHOSEN = SENT + 'pipelines = ["organ"]\nprefer = ["axial"]\n'


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            '[pipelines.x]\nafter = "orgn"\n',
            "pipelines.x.after names 'orgn', which is not defined (did you mean 'organ'?)",
        ),
        ('[pipelines.x]\nafter = "x"\n', "pipelines.x.after makes a circle ('x' after 'x'); remove one of them"),
        ('[pipelines.x]\nafter = "y"\n[pipelines.y]\nafter = "x"\n', "makes a circle ('x' after 'y' after 'x')"),
        (SHADOWED, "rule 'b': shadow names 'organ', whose result 'lesion' of rule 'a' needs"),
        (CHOSEN, "rule 'b' looks at the whole study for 'organ', whose result 'lesion' of rule 'a' needs; name both"),
    ],
)
def test_check_refuses_an_order_that_cannot_be(tmp_path: Path, more: str, message: str) -> None:
    result = CliRunner().invoke(main, ["check", "--config", str(toml(tmp_path, more))])
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())


def test_who_needs_no_other_pipeline_gets_no_other_job(node: JobNode) -> None:
    routes = [Route(pipeline="findings", rule="all", destinations=("pacs",), priority=2)]
    assert with_prerequisites(routes, node.config) == routes


def test_the_example_of_the_page_finds_what_lies_in_the_lung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "write-a-pipeline.md").read_text()
    for name in ("tissues", "nodules"):
        examples = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        (code,) = (block for block in examples if f"class {name.capitalize()}:" in block)
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    [tables] = [
        block for block in re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "after =" in block
    ]
    (tmp_path / "config.toml").write_text(f'[storage]\nfolder = "{tmp_path / "node"}"\n{tables}')
    hu = np.full((12, 32, 32), -1000, np.int32)
    hu[1:11, 4:28, 4:28], hu[4:7, 10:14, 10:14], hu[4:7, 0:2, 0:2] = -700, 40, 40
    write(ct_series(volume=hu), tmp_path / "in")
    arguments = ["try", "--config", str(tmp_path / "config.toml"), "nodules", str(tmp_path / "in"), "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    [series] = json.loads(result.stdout)["series"]
    assert (series["outcome"], series["segments"]) == ("findings", ["Nodule 1"]), "the spot outside of the lung is none"
    assert series["remarks"][0] == "Based on the result of tissues (Tissues 1.0)."
