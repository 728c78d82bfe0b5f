"""Where a value stands in config.toml: an error that names the line is found at once."""

from __future__ import annotations

import pytest

from node.config import parse
from node.config.source_lines import line_of
from node.errors import ConfigError

TEXT = """# a comment
[ae]
title = "NODE"

[pipelines.nodule] # with a remark
options = { threshold = 0.5 }
[pipelines."two words"]
factory = "x:y"
[[rules]]
name = "one"
match = { Modality = "CT" }
[[rules]]
name = "two"
[rules.prior]
source = "pacs"
days = 9
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (("ae",), 2),
        (("ae", "title"), 3),
        (("ae", "port"), 2),
        (("pipelines", "nodule", "options", "threshold"), 6),
        (("pipelines", "two words", "factory"), 8),
        (("rules", 0, "match", "Modality"), 11),
        (("rules", 1, "name"), 13),
        (("rules", 1, "pipelines"), 12),
        (("rules", 1, "prior", "days"), 16),
        (("web", "port"), None),
    ],
)
def test_a_value_is_found_in_its_line_or_in_that_of_the_table_that_lacks_it(place, line):
    assert line_of(TEXT, place) == line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[ae]\n# x = 1\nprot = 104", "config.toml line 3: unknown key ae.prot"),
        ('[ae]\ntitle = "A"\nport = "104"', "config.toml line 3: ae.port = '104'"),
        ('[[rules]]\nname = "a"\n[[rules]]\nnmae = "b"', "config.toml line 4: unknown key rules.1.nmae"),
    ],
)
def test_an_error_names_its_line(text, said):
    with pytest.raises(ConfigError) as raised:
        parse(text)
    assert any(line.startswith(said) for line in str(raised.value).splitlines()), raised.value
