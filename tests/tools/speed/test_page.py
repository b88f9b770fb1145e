import re

import pandas as pd
import pytest

from maskinv_lib.tools.speed import page, quality, whole
from maskinv_lib.tools.speed.measuring import Row
from tests.conftest import ROOT

MACHINE = {
    "processor": "Abacus 3000",
    "cores": "2",
    "features": "bf16 no",
    "load": "0.3",
    "size": "whole",
    "GPU": "none",
    "torch": "2.0",
    "duration": "9.1 minutes",
}
ROWS = [
    *(Row(group="machine", name=name, value=value) for name, value in MACHINE.items()),
    Row(
        group="masks",
        name="batch 8",
        value=2616.7,
        unit="faces/s",
        baseline=1308.4,
        ratio=2.0,
        repeats=5,
        against="OpenCV",
    ),
    Row(group="training", name="compact", error="ValueError: no paper left"),
    *(Row(group="growth", name=f"head, {n} people, 1 thread", value=n / 50, unit="s") for n in (10, 20, 40, 80)),
    Row(group="growth", name="head", value=1.0, unit="exponent"),
    Row(group="memory", name="head", value=412.2, unit="MiB", repeats=1),
]
TRAINED = pd.DataFrame(
    [("narrow", 100, 10.0, 0.04), ("narrow", 400, 40.0, 0.01)], columns=["candidate", "faces", "seconds", "eer"]
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1,230"), (12.345, "12.3"), (0.12345, "0.123"), (100.0, "100"), (5.0, "5.00"), (None, "")],
)
def test_numbers_have_three_digits(value, text):
    assert page.in_digits(value) == text


def test_the_table_has_the_machine_every_row_and_the_failures():
    text = page.as_text(ROWS)
    assert "processor: Abacus 3000" in text
    assert re.search(r"masks +batch 8 +2,620 faces/s +1,310 +2\.00 +5 +OpenCV", text)
    assert re.search(r"training +compact +FAILED +ValueError: no paper left", text)
    assert text.endswith("1 measurement failed.")


def test_the_section_names_the_machine_and_shows_what_was_measured():
    text = page.section(ROWS, TRAINED)
    assert "Abacus 3000 with 2 core(s)" in text and "the start was 0.3" in " ".join(text.split())
    assert "whole benchmark took 9.1 minutes" in " ".join(text.split())
    assert "| masks | batch 8 | 2,620 faces/s | 1,310 faces/s | 2.00 | 5 | OpenCV |" in text
    assert "| head | 10 people: 0.200 s | 20 people: 0.400 s | 40 people: 0.800 s | 80 people: 1.60 s | 1.00 |" in text
    assert "412 MiB" in text and "paper" not in text
    assert "| narrow | at most 10 s (100 faces) | " in text and "| 20 s (200 faces) | 40 s (400 faces) | 400 |" in text


def test_a_level_that_no_budget_reached_is_no_number():
    line = page.times_to_quality(TRAINED[:1])[-1]
    assert line.count("not reached") == 3 and line.endswith("| 100 | 4.00 % |")


def test_the_section_is_written_between_its_marks(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# A\n\n<!-- end -->\n{page.MARKS[0]}\nold\n{page.MARKS[1]}\n\n## B\n")
    page.renew_readme(readme, ROWS, TRAINED)
    begin, end = page.MARKS
    assert readme.read_text() == f"# A\n\n<!-- end -->\n{begin}\n{page.section(ROWS, TRAINED)}\n\n{end}\n\n## B\n"
    readme.write_text("# A\n")
    with pytest.raises(ValueError, match="has no lines"):
        page.renew_readme(readme, ROWS, TRAINED)


def test_the_readme_shows_the_stored_results():
    stored = whole.read(ROOT / "results" / "bench" / whole.NAME)
    trained = quality.read(ROOT / "results" / "bench" / quality.NAME)
    begin, end = page.MARKS
    shown = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"{begin}\n")[2].partition(f"\n{end}")[0]
    assert shown.strip() == page.section(stored, trained).strip()
    assert not [row.name for row in stored if row.error]
