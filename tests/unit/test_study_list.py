"""Lists of studies as people have them: lines, and tables that a RIS or a spreadsheet exports."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from node.__main__ import main
from node.deliver.study_list import listed_studies
from node.errors import ConfigError

ACCESSION, STUDY = "AccessionNumber", "StudyInstanceUID"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", []),
        ("A1\n\n  A2 \r\n1.2.840.3\n", [(ACCESSION, "A1"), (ACCESSION, "A2"), (STUDY, "1.2.840.3")]),
        ("\ufeffAccession Number\nA1\n", [(ACCESSION, "A1")]),
        ('Name;Accession no.;Date\n"Doe; Jane";A1;2025\nRoe;;2025\nPoe;A3\n', [(ACCESSION, "A1"), (ACCESSION, "A3")]),
        ("AccessionNumber\tStudyInstanceUID\nA1\t1.2.3\n", [(STUDY, "1.2.3")]),
        ("study_uid\n2026.17\n", [(STUDY, "2026.17")]),
        ('"A1"\n"A,2"\n', [(ACCESSION, "A1"), (ACCESSION, "A,2")]),
    ],
)
def test_lists_name_studies_by_line_or_by_titled_column(text: str, keys: list[tuple[str, str]]):
    assert listed_studies(text) == keys


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Doe,A1\nRoe,A2\n", "line 1 has several columns"),
        ("A1\nA2,2025\n", "line 2 has several columns"),
        ("AccessionNumber,Name\n*,Doe\n", "names more than one study"),
    ],
)
def test_what_names_no_study_is_refused_and_no_patient_is_repeated(text: str, why: str):
    with pytest.raises(ConfigError, match=why) as error:
        listed_studies(text)
    assert "Doe" not in str(error.value)


def test_a_spreadsheet_is_no_list(tmp_path: Path):
    config, file = tmp_path / "config.toml", tmp_path / "list.xlsx"
    config.write_text("")
    file.write_bytes(b"PK\x03\x04\xff\xfe")
    result = CliRunner().invoke(main, ["fetch", "--config", str(config), "pacs", "--list", str(file)])
    assert result.exit_code == 2
    assert "save it as CSV in UTF-8" in result.output
