"""``ainode doctor`` beside real peers: what it finds, and the remedy it names."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import real_peers
from certificates import Authority
from click.testing import CliRunner
from dicom_files import ct_series, write
from receivers import Node, until

from node.__main__ import main
from node.check import Check, check
from node.check.pipelines import describe_pipelines
from node.config import Config, load, parse
from node.doctor.certificates import certificates
from node.doctor.lint import lint
from node.doctor.machine import disk_speed, integrity, our_clock
from node.doctor.network import callers, habits, host_names, presentation, reports, their_clock
from node.doctor.trial import try_pipelines
from node.ledger.tables import association
from node.translation import in_language

PAGE = (Path(__file__).parents[2] / "docs" / "install.md").read_text(encoding="utf-8")
RULE = '[[rules]]\nname = "all"\npipelines = ["bright"]\ndestinations = ["pacs"]\n[rules.match]\nModality = "CT"\n'


def configured(folder: Path, *tables: str, ae: str = "") -> str:
    port = real_peers.free_port()
    return "\n".join(
        (
            f'[ae]\naddress = "127.0.0.1"\nport = {port}\n{ae}',
            f'[storage]\nfolder = "{folder / "data"}"\nmin_free_gib = 0.0',
            '[devices]\nuse = ["cpu"]',
            '[pipelines.bright]\nfactory = "bright_pipeline:create"',
            *tables,
        )
    )


def examined(transcript: str) -> set[str]:
    """What was looked at, whatever pipelines and peers are called."""
    lines = (line.strip() for line in transcript.splitlines())
    told = {line[5:].partition(":")[0] for line in lines if line[:5].strip() in ("ok", "note", "FAIL")}
    return {re.sub(r"(pipeline|self-test of|caller) \S+", r"\1", name) for name in told}


def towards(peer: real_peers.Orthanc | real_peers.StoreScp, more: str = "", title: str = "") -> str:
    port = peer.dicom_port if isinstance(peer, real_peers.Orthanc) else peer.port
    return f'[destinations.pacs]\ntitle = "{title or peer.aet}"\nhost = "127.0.0.1"\nport = {port}\n{more}'


def told(checks: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_peers.Orthanc]:
    with real_peers.orthanc(tmp_path_factory.mktemp("pacs")) as running:
        yield running


def test_a_node_that_is_well_is_told_so_and_its_ledger_stays_empty(pacs: real_peers.Orthanc, tmp_path: Path):
    config = tmp_path / "config.toml"
    config.write_text(configured(tmp_path, towards(pacs, "commitment = true\nfind = true"), RULE))
    folders = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run(
        [sys.executable, "-m", "node", "doctor", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "ok   configuration: every rule can match, every pipeline and destination is used",
        "ok   ledger integrity: ok",
        "ok   destination pacs, Segmentation Storage (seg): accepted in Explicit VR Little Endian and Implicit VR",
        "ok   destination pacs, Comprehensive 3D SR Storage (sr): accepted",
        "ok   destination pacs, MR Image Storage (derived): accepted",
        "ok   destination pacs, Storage Commitment Push Model SOP Class (commitment): accepted",
        "ok   clock of pacs: DICOM does not report it",
        "note caller ORTHANC: has sent no images yet",
        "ok   self-test of bright: no findings on CT phantom",
    ):
        assert line in done.stdout, done.stdout
    names = {name for name in examined(done.stdout) if not name.endswith("(find)")}  # the page's node does not ask
    assert names == examined(PAGE.split("$ ainode doctor\n")[1].split("\n\n")[0])
    with sqlite3.connect(tmp_path / "data" / "ledger.sqlite") as ledger:
        assert ledger.execute("SELECT count(*) FROM instance").fetchone() == (0,)
        assert ledger.execute("SELECT count(*) FROM job").fetchone() == (0,)
    ledger.close()


def test_a_self_test_says_in_the_language_of_the_user_why_a_pipeline_refuses_the_phantom(tmp_path: Path):
    config = tmp_path / "config.toml"
    config.write_text(configured(tmp_path).replace("bright", "brain").replace('factory = "brain_pipeline:create"', ""))
    with in_language("de"):
        loaded = load(config)
        (check,) = try_pipelines(loaded, config, list(describe_pipelines(loaded)))
    assert check.name == "Selbsttest von brain"
    assert check.found.endswith(": die Serie hat 28 Bilder, benötigt werden mindestens 80")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"title": "NOBODY"}, "association rejected: called AE title 'NOBODY' is not recognised"),
        ({"port": 1}, "connection refused; check that it is running, and its port"),
    ],
)
def test_a_destination_that_does_not_answer_is_told_once_with_its_remedy(
    pacs: real_peers.Orthanc, tmp_path: Path, change: dict[str, object], words: str
):
    config = tmp_path / "config.toml"
    table = towards(pacs, title=str(change.get("title", "")))
    if "port" in change:
        table = table.replace(str(pacs.dicom_port), "1")
    config.write_text(configured(tmp_path, table).replace('[pipelines.bright]\nfactory = "bright_pipeline:create"', ""))
    done = CliRunner().invoke(main, ["doctor", "--config", str(config)])
    assert done.exit_code == 1
    assert done.output.count(words) == 1, done.output
    assert done.output.count("FAIL") == 1


def test_a_destination_that_refuses_segmentations_is_found_before_the_first_result(tmp_path: Path):
    profile = tmp_path / "storescp.cfg"
    profile.write_text(
        "[[TransferSyntaxes]]\n[Plain]\nTransferSyntax1 = LittleEndianExplicit\n"
        "[[PresentationContexts]]\n[Images]\nPresentationContext1 = VerificationSOPClass\\Plain\n"
        "PresentationContext2 = CTImageStorage\\Plain\n[[Profiles]]\n[Default]\nPresentationContexts = Images\n"
    )
    with real_peers.storescp(tmp_path, "--config-file", str(profile), "Default") as peer:
        checks = told(presentation(parse(configured(tmp_path, towards(peer), RULE)), "pacs"))
    seg = checks["destination pacs, Segmentation Storage (seg)"]
    assert not seg.good
    assert seg.found == "refused: SOP Class not supported"
    assert seg.remedy.startswith("ask its administrator to allow")
    assert checks["destination pacs, CT Image Storage (derived)"].found == "accepted in Explicit VR Little Endian"


def test_the_ledger_tells_when_a_peer_called(node: Node, tmp_path: Path):
    (path,) = write(ct_series()[:1], tmp_path)
    real_peers.dcmtk("storescu", "-aet", "CT1", "-aec", "AINODE", "127.0.0.1", node.port, path)
    node.rows(association)
    ae = node.config.ae.model_copy(
        update={"callers": parse('[ae]\ncallers = [{title="CT1"}, {title="CT2"}]').ae.callers}
    )
    checks = told(callers(node.config.model_copy(update={"ae": ae})))
    assert checks["caller CT1"].found.endswith("from 127.0.0.1"), checks
    assert checks["caller CT2"].word == "note"
    assert "send a C-ECHO from there to AINODE" in checks["caller CT2"].remedy


def test_a_caller_that_breaks_off_every_transfer_is_proposed_to_be_declared(node: Node, tmp_path: Path):
    for image in ct_series(6, 16):
        (path,) = write([image], tmp_path)
        real_peers.dcmtk("storescu", "--abort", "-aet", "CT1", "-aec", "AINODE", "127.0.0.1", node.port, path)
        real_peers.dcmtk("storescu", "-aet", "CT2", "-aec", "AINODE", "127.0.0.1", node.port, path)
    until(lambda: all(row.closed_at for row in node.rows(association)))
    checks = told(habits(node.config))
    assert list(checks) == ["endings CT1"]
    assert checks["endings CT1"].found.startswith("6 of 6 associations ended without a release")
    assert checks["endings CT1"].remedy.endswith("set aborts_after_transfer = true for CT1 in [ae] callers")


def test_the_clock_of_a_dicomweb_service_is_compared_with_ours(pacs: real_peers.Orthanc, tmp_path: Path):
    web = f'[destinations.web]\nurl = "{pacs.http_url}/dicom-web"\n'
    check = their_clock(parse(configured(tmp_path, web)), "web")
    assert check.good
    assert check.found in {
        "+0 s from this machine",
        "-0 s from this machine",
        "+1 s from this machine",
        "-1 s from this machine",
        "not known: its responses have no Date header",
    }


def test_our_clock_is_told_or_said_to_be_unknown():
    assert our_clock().good


def test_a_clock_that_nothing_keeps_right_is_named(monkeypatch: pytest.MonkeyPatch):
    kernel = SimpleNamespace(adjtimex=lambda _: 5)  # TIME_ERROR of adjtimex(2)
    monkeypatch.setattr("node.doctor.machine.ctypes.CDLL", lambda *_, **__: kernel)
    check = our_clock()
    assert check.word == "note"
    assert "not synchronised" in check.found


def test_a_disk_that_takes_long_to_sync_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("node.doctor.machine.os.fsync", lambda _: time.sleep(1.4))
    check = disk_speed(tmp_path)
    assert check.word == "note"
    assert "use a local disk" in check.remedy
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_the_pinned_ones_fail(tmp_path: Path):
    weights = tmp_path / "other.safetensors"
    weights.write_bytes(b"not these")
    weights.with_suffix(".sha256").write_text(f"{'0' * 64}  other.safetensors\n")
    config = parse(configured(tmp_path, f'[pipelines.tumor]\nweights = "{weights}"\n'))
    pipeline_check = told(check(config))["pipeline tumor"]
    assert not pipeline_check.good
    assert "restore the file or pin the new one" in pipeline_check.found


def test_a_host_without_an_address_is_named_with_its_table(tmp_path: Path):
    more = '[destinations.pacs]\ntitle = "P"\nhost = "no-such-host.invalid"\nport = 104\n'
    (check,) = host_names(parse(configured(tmp_path, more)))
    assert (check.name, check.good) == ("host no-such-host.invalid", False)
    assert "[destinations.pacs]" in check.remedy


def test_certificates_are_told_with_their_end_and_one_that_has_ended_fails(tmp_path: Path):
    made = Authority(tmp_path)
    made.issue("old", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z")
    for name, good in (("ainode", True), ("old", False)):
        ours = f'certificate = "{made.pem(name)}"\nkey = "{made.key(name)}"\nca = "{made.pem("ca")}"\n'
        checks = told(certificates(parse(f"[ae.tls]\nenabled = true\n{ours}")))
        assert checks[f"certificate {made.pem('ca')}"].good
        leaf = checks[f"certificate {made.pem(name)}"]
        assert leaf.good == good
        assert ("days" if good else "expired") in leaf.found
    broken = parse(f'[web]\ncertificate = "{tmp_path}/none.pem"\nkey = "{tmp_path}/none.key"\n')
    assert [c.good for c in certificates(broken)] == [False]


def test_a_ledger_with_a_damaged_page_is_found(tmp_path: Path):
    config = parse(configured(tmp_path))
    assert integrity(config).good
    path = tmp_path / "data" / "ledger.sqlite"
    raw = bytearray(path.read_bytes())
    for page in range(3, len(raw) // 4096):
        raw[page * 4096 + 8 : page * 4096 + 200] = b"\xff" * 192
    path.write_bytes(bytes(raw))
    check = integrity(config)
    assert not check.good
    assert check.remedy or "cannot be opened" in check.found


def linted(tmp_path: Path, *tables: str, ae: str = "", needs: str = "CT") -> list[str]:
    known = [{"name": "bright", "needs": {"modalities": [needs]}}]
    return [f"{c.word} {c.name}: {c.found}" for c in lint(parse(configured(tmp_path, *tables, ae=ae)), known)]


PACS = '[destinations.pacs]\ntitle = "PACS"\nhost = "127.0.0.1"\nport = 104\n'


@pytest.mark.parametrize(
    ("unless", "never"),
    [
        ('Modality = "ct"', True),
        ('Modality = "*"', True),
        ('PatientSex = "*"', True),
        ('Modality = ["MR", "C?"]', True),
        ('Modality = "MR"', False),
        ('SeriesDescription = "*scout*"', False),
    ],
)
def test_a_rule_that_takes_back_what_it_wants_is_named(tmp_path: Path, unless: str, never: bool):  # noqa: FBT001
    lines = linted(tmp_path, PACS, f"{RULE}[rules.unless]\n{unless}\n")
    assert any("FAIL rule 'all': can never match" in line for line in lines) == never


@pytest.mark.parametrize(
    ("tables", "ae", "words"),
    [
        (
            (PACS, RULE.replace("pipelines", 'senders = ["CT9"]\npipelines')),
            'callers = [{ title = "CT1" }]',
            "can never",
        ),
        ((PACS, RULE.replace('"CT"', '"MR"')), "", "needs Modality CT, which the rule does not match"),
        ((PACS.replace('"PACS"', '"AINODE"'), RULE), "", "has the same AE title as this node, 'AINODE'"),
        ((PACS,), "", "no rule uses [destinations.pacs]"),
        (
            (f"{PACS}keep_days = 3\n", RULE),
            "",
            "[destinations.pacs] keep_days = 3 has no effect: rule 'all' keeps images for 14 days",
        ),
        ((f"{PACS}keep_days = 3\n",), "", "keep_days = 3 is about results, and no rule sends any there"),
        (("[pipelines.other]\nquota_gib = 2\n",), "", "quota_gib = 2 deletes nothing: no rule sends its results"),
        ((PACS,), "", "no rule uses [pipelines.bright]"),
        ((), "", "there are no rules: nothing is analysed"),
        ((RULE.replace('destinations = ["pacs"]\n', ""),), "", "has no destinations"),
    ],
)
def test_what_a_valid_file_gets_wrong_is_named(tmp_path: Path, tables: tuple[str, ...], ae: str, words: str):
    assert any(words in line for line in linted(tmp_path, *tables, ae=ae))


def test_a_port_open_to_everyone_and_a_limit_above_the_disk_are_named(tmp_path: Path):
    config = parse(
        f'[storage]\nfolder = "{tmp_path}"\nmin_free_gib = 1e9\n[web]\nenabled = true\naddress = "0.0.0.0"\n'
    )
    words = " ".join(c.found for c in lint(config, []))
    assert "any system in the network may send images" in words
    assert "passwords cross the network unencrypted" in words
    assert "the whole disk has" in words


def test_the_shipped_configuration_has_nothing_that_fails():
    shipped = parse((Path(__file__).parents[2] / "config.toml").read_text())
    assert isinstance(shipped, Config)
    assert [c.found for c in lint(shipped, []) if not c.good] == []


def test_a_caller_that_takes_reports_is_echoed_where_they_go(tmp_path: Path):
    with real_peers.storescp(tmp_path) as scp:
        here = f'{{ title = "{scp.aet}", host = "127.0.0.1", port = {scp.port} }}'
        gone = f'{{ title = "CT9", host = "127.0.0.1", port = {real_peers.free_port()} }}'
        checks = told(reports(parse(f'[ae]\ncallers = [{here}, {gone}, {{ title = "CT1" }}]')))
    assert set(checks) == {f"reports to {scp.aet}", "reports to CT9"}
    assert checks[f"reports to {scp.aet}"].good
    assert not checks["reports to CT9"].good
    assert "connection refused" in checks["reports to CT9"].found
