"""The study's README says no other numbers than those of the pages that its command prints."""
import math
import re
from pathlib import Path

import pytest

from util.static_preconditioned_train import starting_rate
from util.study import __main__ as command
from util.study.methods import METHODS
from util.study.results import read_results
from util.study.statistics import PRIMARY, TRAINED, Results
from util.study.theory import predictions

STUDY = Path(__file__).resolve().parents[2] / "util" / "study"
FILES = sorted((STUDY / "results").glob("*.csv"))
TEXT = (STUDY / "README.md").read_text(encoding="utf-8")
DEMO = (STUDY.parents[1] / "README.md").read_text(encoding="utf-8")
GUESSING = f"{math.log(10):.3f}"


def sections(text):
    """Return the texts below the headings of a page, by the headings' anchors."""
    found = {}
    for part in re.split(r"^#+ ", text, flags=re.M)[1:]:
        title, _, rest = part.partition("\n")
        found[re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")] = rest
    return found


PAGES = {path.name: sections(path.read_text(encoding="utf-8")) for path in (STUDY / "results").glob("*.md")}
PAIRS = "what-the-preconditioner-adds-decaying-learning-rate"


def test_readme_names_each_file_and_its_page():
    assert FILES
    for file in FILES:
        assert f"| `{file.name}` | [{file.stem}.md](results/{file.stem}.md) |" in TEXT


def test_readme_links_to_every_page():
    for name in PAGES:
        assert f"[{name}](results/{name})" in TEXT


def test_readme_shows_the_pages_table_of_what_the_preconditioner_adds():
    shown = sections(TEXT)["what-the-preconditioner-adds"]
    tables = [re.findall(r"^\|.*$", text, re.M) for text in (shown, PAGES["depth.md"][PAIRS])]
    assert tables[0] == tables[1] != []


def rounded(spread):
    return float(f"{float(spread):.2g}")


def test_both_looks_at_the_rule_are_what_their_pages_say():
    """A row is found by its depth and the first two digits of its spread."""
    found = {}
    for name in "rule.md", "again.md":
        for line in re.findall(r"^\| [\d.]+ \|.*$", PAGES[name][PAIRS], re.M):
            spread, _, _, depth, _, _, difference = line.strip("| ").split(" | ")
            found.setdefault((depth, rounded(spread)), []).append(difference)
    shown = {}
    for line in re.findall(r"^\|.*±.*$", sections(TEXT)["a-test-of-the-rule-of-unequal-gradients"], re.M):
        _, _, depth, spread, _, _, *looks = line.strip("| ").split(" | ")
        shown[depth, rounded(spread)] = looks
    assert shown == found and len(found) == 9


def test_losses_and_differences_stand_in_the_tables_that_their_paragraph_links_to():
    """They are the numbers with three digits behind the point; a difference may be told without its sign."""
    linked = {f"results/{name}#{anchor}": text for name, page in PAGES.items() for anchor, text in page.items()}
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
    monkeypatch.setattr("sys.argv", ["util.study", "--help"])
    with pytest.raises(SystemExit):
        command.main()
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help"}
    (usage,) = re.findall(r"-m util\.study FILE (.*?)\n```", TEXT, re.S)
    assert set(re.findall(r"--[a-z][a-z-]*", usage)) == options


def test_best_rates_with_factors_are_where_the_demos_page_says():
    """Of all tuned pairs whose plain training learned: the best rate with factors over `starting_rate`."""
    ratios = []
    for name in "depth", "networks", "plateau", "result", "rule":
        results = Results(read_results(STUDY / "results" / f"{name}.csv"))
        for preconditioned, alone in results.pairs():
            if results.outcomes(alone)[:, PRIMARY].mean() <= TRAINED:
                network = alone.conditions.network
                statistics = list(predictions(METHODS[alone.method].initialization, network))
                expected = starting_rate(alone.learning_rate, network.build(), statistics)
                ratios.append(preconditioned.learning_rate / expected)
    within = [sum(1 / factor <= ratio <= factor for ratio in ratios) for factor in (2, 10)]
    words = " ".join(DEMO.split())
    claim = re.search(r"Of the study's (\d+) pairs .* within a factor of ten of it, and (\d+) within a", words)
    assert [len(ratios), within[1], within[0]] == [int(claim[1]), int(claim[1]), int(claim[2])]
