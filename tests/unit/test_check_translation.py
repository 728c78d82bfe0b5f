"""What `ainode check` and `ainode doctor` find, in the language of the locale."""

from __future__ import annotations

import json
import re
from pathlib import Path

import catalogs
import pytest
from click.testing import CliRunner

from node.__main__ import main
from node.config import parse
from node.doctor.fonts import fonts
from node.doctor.lint import lint
from node.results import picture_text
from node.translation import in_language

PLAIN = re.compile(r"(?:found|remedy)\s*=\s*f?[\"'](?:[^\"'{]|\{[^}]*\})*?[a-z]{2,} [a-z]{2,}")
"""A sentence of a check that no catalog has; names, commands and messages of errors are no sentences."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(f'[storage]\nfolder = "{tmp_path / "data"}"\nmin_free_gib = 0.0\n[web]\nenabled = false\n')
    return path


def shown(config: Path, *arguments: str, locale: str) -> str:
    return CliRunner().invoke(main, [*arguments, "--config", str(config)], env={"LC_ALL": locale}).output


def test_findings_of_check_are_in_the_language_of_the_locale_and_json_in_english(config: Path):
    german = shown(config, "check", locale="de_DE.UTF-8")
    assert "Konfiguration: Regeln: 0, Pipelines: 0" in german
    assert re.search(r"Speicher: .* GiB frei, ein Schreibvorgang mit Sync dauert \d+,\d ms", german)
    assert "Zugriffsrechte: Schlüssel, Passwörter und Datenbank sind für andere Benutzer gesperrt" in german
    assert "访问权限: 其他用户无法访问密钥、密码和数据库" in shown(config, "check", locale="zh_CN.UTF-8")
    texts = [result["found"] for result in json.loads(shown(config, "check", "--json", locale="de_DE.UTF-8"))]
    assert "0 rules, 0 pipelines" in texts


def test_remedies_for_probable_mistakes_are_translated():
    rule = '[[rules]]\nname = "CT"\npipelines = ["nodule"]\nmatch.Modality = "CT"\nunless.Modality = "CT"\n'
    with in_language("de"):
        checks = list(lint(parse(f"[pipelines.nodule]\n{rule}"), []))
    assert checks[0].found == "kann nie passen: [rules.unless] Modality schließt alles aus, was in match steht"
    assert checks[0].remedy == "Modality aus match oder aus unless entfernen"


@pytest.mark.parametrize("folder", ["node/check", "node/doctor"])
def test_no_sentence_of_a_check_is_english_alone(folder: str):
    for path in (catalogs.ROOT / folder).glob("*.py"):
        assert not PLAIN.findall(path.read_text(encoding="utf-8")), path


def test_a_destination_with_chinese_captions_needs_a_typeface(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    text = '[destinations.pacs]\ntitle = "PACS"\nhost = "127.0.0.1"\nport = 104\nlanguage = "{}"\n'
    picture_text._file_of.cache_clear()
    monkeypatch.setattr(picture_text, "_FOLDER", tmp_path)
    (missing,) = fonts(parse(text.format("zh")))
    assert (missing.good, missing.word) == (True, "note")
    assert missing.found == "no typeface with Chinese letters: captions of key images for pacs are in English"
    assert "fonts-noto-cjk" in missing.remedy
    assert list(fonts(parse(text.format("de")))) == []
    font = tmp_path / picture_text._CHINESE[0]
    font.parent.mkdir(parents=True)
    font.touch()
    picture_text._file_of.cache_clear()
    assert list(fonts(parse(text.format("zh")))) == []
    picture_text._file_of.cache_clear()
