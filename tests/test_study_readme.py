"""The study's README says no other numbers than those of the pages that its command prints."""
import math
import re
from pathlib import Path

import pytest

from util.study import __main__ as command
from util.study.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "util" / "study"
FILES = sorted((STUDY / "results").glob("*.csv"))
PAGES = sorted((STUDY / "results").glob("*.md"))
TEXT = (STUDY / "README.md").read_text(encoding="utf-8")
GUESSING = f"{math.log(10):.3f}"


def show(arguments, monkeypatch, capsys):
    """Return what the study's command prints."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["util.study", *arguments])
    command.main()
    return capsys.readouterr().out


def sections(text):
    """Return the texts below the headings of a page, by the headings' anchors."""
    found = {}
    for part in re.split(r"^#+ ", text, flags=re.M)[1:]:
        title, _, rest = part.partition("\n")
        found[re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")] = rest
    return found


def test_readme_names_each_file_and_its_page():
    assert FILES
    for file in FILES:
        assert f"| `{file.name}` | [{file.stem}.md](results/{file.stem}.md) |" in TEXT


def test_readme_links_to_every_page():
    for page in PAGES:
        assert f"[{page.name}](results/{page.name})" in TEXT


def test_readme_shows_the_pages_table_of_what_the_preconditioner_adds():
    page = (STUDY / "results" / "depth.md").read_text(encoding="utf-8")
    expected = sections(page)["what-the-preconditioner-adds-decaying-learning-rate"]
    shown = sections(TEXT)["what-the-preconditioner-adds"].split("\n\n*Verdicts")[0]
    tables = [re.findall(r"^\|.*$", text, re.M) for text in (shown, expected)]
    assert tables[0] == tables[1] != []


def rounded(spread):
    return float(f"{float(spread):.2g}")


def test_both_looks_at_the_rule_are_what_their_pages_say():
    """A row is found by its depth and the first two digits of its spread."""
    heading = "what-the-preconditioner-adds-decaying-learning-rate"
    found = {}
    for name in "rule", "again":
        page = sections((STUDY / "results" / f"{name}.md").read_text(encoding="utf-8"))[heading]
        for line in re.findall(r"^\| [\d.]+ \|.*$", page, re.M):
            spread, _, _, depth, _, _, difference = line.strip("| ").split(" | ")
            found.setdefault((depth, rounded(spread)), []).append(difference)
    shown = {}
    for line in re.findall(r"^\|.*±.*$", sections(TEXT)["a-test-of-the-rule-of-unequal-gradients"], re.M):
        _, _, depth, spread, _, _, *looks = line.strip("| ").split(" | ")
        shown[depth, rounded(spread)] = looks
    assert shown == found and len(found) == 9


def test_losses_and_differences_stand_in_the_tables_that_their_paragraph_links_to():
    """They are the numbers with three digits behind the point; a difference may be told without its sign."""
    linked = {f"results/{page.name}#{anchor}": text for page in PAGES
              for anchor, text in sections(page.read_text(encoding="utf-8")).items()}
    prose = re.sub(r"^[|#].*$|^```[\s\S]*?^```$", "", TEXT, flags=re.M)
    paragraphs = re.split(r"\n\n|\n(?=- |\d+\. )", prose)
    checked = 0
    for paragraph in paragraphs:
        words = re.sub(r"`[^`]*`", "", paragraph.replace("\n", " "))
        numbers = set(re.findall(r"(?<![\d.])\d\.\d{3}(?: +± +\d\.\d{3})?(?!\d)", words)) - {GUESSING}
        links = [link for link in re.findall(r"\]\(([^)]*#[^)]*)\)", words) if "results/" in link]
        tables = "".join(linked[link] for link in links)
        for number in numbers:
            assert re.sub(" +", " ", number) in tables, f"{number} in: {paragraph}"
        checked += len(numbers)
    assert checked > 10


def test_readme_explains_every_method():
    for name in METHODS:
        assert f"`{name}`" in TEXT or f"`-{'-'.join(name.split('-')[1:])}`" in TEXT, name


def test_readme_shows_every_option(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        show(["--help"], monkeypatch, capsys)
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help"}
    (usage,) = re.findall(r"-m util\.study FILE (.*?)\n```", TEXT, re.S)
    assert set(re.findall(r"--[a-z][a-z-]*", usage)) == options
