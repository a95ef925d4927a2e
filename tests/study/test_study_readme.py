"""The study's README says no other numbers than those of the pages that its command prints."""
import math
import re
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import sections
from util.static_preconditioned_train import starting_rate
from util.study import __main__ as command
from util.study.methods import METHODS
from util.study.results import read_results
from util.study.statistics import PRIMARY, TRAINED, Results
from util.study.theory import predictions

STUDY = Path(__file__).resolve().parents[2] / "util" / "study"
FILES = sorted(path.stem for path in (STUDY / "results").glob("*.csv"))
TEXT = (STUDY / "README.md").read_text(encoding="utf-8")
DEMO = (STUDY.parents[1] / "README.md").read_text(encoding="utf-8")
GUESSING = f"{math.log(10):.3f}"
PAIRS = "what-the-preconditioner-adds-decaying-learning-rate"
OPTION = "--[a-z][a-z-]*"


def rows(text):
    """Return the rows of a section's table, a list of cells for each; the first two are its head."""
    return [line.split(" | ") for line in re.findall(r"^\| (.*) \|$", text, re.M)]


PAGES = {path.name: sections(path.read_text(encoding="utf-8")) for path in (STUDY / "results").glob("*.md")}


@pytest.mark.parametrize("name", FILES)
def test_readme_names_each_file_beside_its_page(name):
    assert f"| `{name}.csv` | [{name}.md](results/{name}.md) |" in TEXT


@pytest.mark.parametrize("name", PAGES)
def test_readme_links_to_every_page(name):
    assert f"[{name}](results/{name})" in TEXT


def differences(text, depth, spread, difference):
    """Return a column of a section's table; a row is found by its depth and the first two digits of its spread."""
    return {(row[depth], f"{float(row[spread]):.2g}"): row[difference] for row in rows(text)[2:]}


@pytest.mark.parametrize("page, column", [("rule.md", 6), ("again.md", 7)])
def test_both_looks_at_the_rule_are_what_their_pages_say(page, column):
    text = sections(TEXT)["a-test-of-the-rule-of-unequal-gradients"]
    shown = differences(text, depth=2, spread=3, difference=column)
    assert shown == differences(PAGES[page][PAIRS], spread=0, depth=3, difference=6)


def test_losses_and_differences_stand_in_the_tables_that_their_paragraph_links_to():
    """They are the numbers with three digits behind the point; a difference may be told without its sign."""
    prose = re.sub(r"^[|#].*$|^```[\s\S]*?^```$", "", TEXT, flags=re.M)
    for paragraph in re.split(r"\n\n|\n(?=- |\d+\. )", prose):
        words = re.sub(r"`[^`]*`|\s+", " ", paragraph)
        links = re.findall(r"\]\(results/([^)#]*)#([^)]*)\)", words)
        tables = "".join(PAGES[name][anchor] for name, anchor in links)
        numbers = re.findall(r"(?<![\d.])\d\.\d{3}(?: ± \d\.\d{3})?(?!\d)", words)
        missing = [number for number in numbers if number not in tables + GUESSING]
        assert missing == [], paragraph


@pytest.mark.parametrize("name", METHODS)
def test_readme_explains_every_method(name):
    _, _, ending = name.partition("-")
    assert f"`{name}`" in TEXT or f"`-{ending}`" in TEXT


def test_readme_shows_every_option(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["util.study", "--help"])
    with pytest.raises(SystemExit):
        command.main()
    options = set(re.findall(OPTION, capsys.readouterr().out)) - {"--help"}
    (usage,) = re.findall(r"-m util\.study FILE (.*?)\n```", TEXT, re.S)
    assert set(re.findall(OPTION, usage)) == options


def ratio_to_starting_rate(preconditioned, alone):
    """Return a best rate with factors over the one that the demo's page advises to start from."""
    network = alone.network
    statistics = predictions(alone.initialization, network)
    advised = starting_rate(alone.learning_rate, network.build(), list(statistics))
    return preconditioned.learning_rate / advised


def test_best_rates_with_factors_are_where_the_demos_page_says():
    """Of all tuned pairs whose plain training learned."""
    ratios = []
    for name in "depth", "networks", "plateau", "result", "rule":
        results = Results(read_results(STUDY / "results" / f"{name}.csv"))
        for pair in results.pairs():
            loss_alone = results.outcomes(pair[1])[:, PRIMARY].mean()
            if loss_alone <= TRAINED:
                ratios.append(ratio_to_starting_rate(*pair))
    factors = np.exp(np.abs(np.log(ratios)))
    words = " ".join(DEMO.split())
    claim = re.search(r"within ten times .* in all of the study's (\d+) pairs .* within two times in (\d+)\.", words)
    pairs, within_two = map(int, claim.groups())
    assert [len(ratios), sum(factors <= 10), sum(factors <= 2)] == [pairs, pairs, within_two]
