"""What the READMEs show works as it stands there, and what they name exists."""
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers import sections
from tests.theory.monte_carlo import factors
from tests.theory.networks import NETWORKS
from util.network import Net
from util.study.methods import pytorch_zero_biases
from util.study.networks import NAMED, Network
from util.study.theory import rounded_spread
from util.theory import predict, predict_for, weight_gradient_spread
from util.theory.initializations import he, pytorch

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "util" / "study"
READMES = [ROOT / "README.md", ROOT / "util" / "theory" / "README.md", STUDY / "README.md"]
TEXT, THEORY, _ = (path.read_text(encoding="utf-8") for path in READMES)
REMEDY, PROGRAM, FACTORS = re.findall(r"```python\n(.*?)```", TEXT, re.S)
WITH_FACTORS = PROGRAM.replace("\noptimizer", f"\n{FACTORS}\noptimizer").replace("lr=0.001", "lr=learning_rate")
NAMES = {"VGG-11": "vgg11", "VGG-16": "vgg16", "perceptron (GELU)": "perceptron", "residual network": "resnet20"}
INITIALIZATIONS = {
    "PyTorch's initialization": lambda depth: predict_for(pytorch, Net(depth)),
    "PyTorch's, without biases": lambda depth: predict_for(pytorch_zero_biases, Net(depth)),
    "He's": lambda depth: predict_for(he, Net(depth)),
    "variance-preserving": lambda depth: predict(Net(depth)),
    "PyTorch's, in a perceptron of 84 neurons a layer": lambda depth: predict_for(pytorch, perceptron(depth), (84,)),
    "the same perceptron without biases": lambda depth: predict_for(pytorch_zero_biases, perceptron(depth), (84,)),
}


def perceptron(depth):
    hidden = [module for _ in range(depth - 1) for module in (nn.Linear(84, 84), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(84, 10))


def rows(text):
    """Yield the cells of each row of each table."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def best_outcomes(page):
    """Return loss and accuracy of each method at its best rate, by the method and the network or its depth."""
    text = (STUDY / "results" / page).read_text(encoding="utf-8")
    found = {}
    for method, network, _, *_, loss, _, accuracy, _ in rows(sections(text)["outcomes"]):
        if method.startswith("**") and accuracy:
            mean_and_deviation = [f"{float(number):.1f}" for number in accuracy.split(" ± ")]
            name = method.strip("*`").split("-decay")[0]
            found[name, network] = loss, " ± ".join(mean_and_deviation)
    return found


@pytest.fixture(scope="module")
def best():
    return {**best_outcomes("networks.md"), **best_outcomes("depth.md")}


def test_remedy_prints_the_spread_and_keeps_signals_at_scale(capsys):
    torch.manual_seed(0)
    names = {"net": Network(NAMED, "vgg16").build()}
    exec(REMEDY, names)
    assert float(capsys.readouterr().out) > 50_000
    assert 0.1 < names["net"](torch.randn(64, 3, 32, 32)).std() < 10


@pytest.mark.parametrize("program", [PROGRAM, WITH_FACTORS], ids=["plain", "with factors"])
def test_own_network_is_trained(capsys, program):
    torch.manual_seed(0)
    exec(program, {})
    first, *_, last = re.findall(r"loss (\S+)", capsys.readouterr().out)
    assert float(last) < float(first) / 2


def test_opening_shows_what_the_study_found(best):
    """The best rates of one epoch: the loss as the study's page has it, the accuracy with a digit less."""
    shown = [cells for cells in rows(TEXT) if cells[0].startswith("*") and len(cells) == 5]
    assert len(shown) == 6
    for method, *cells in shown:
        name = method.strip("*")
        assert cells == [*best[name, "5"], *best[name, "10"]]


def test_networks_that_do_not_learn_have_the_spreads_and_losses_of_the_study(best):
    (header,) = (cells for cells in rows(TEXT) if cells[0] == "network")
    shown = [cells for cells in rows(TEXT) if cells[0] in NAMES]
    assert len(shown) == len(NAMES)
    for name, spread_cell, *cells in shown:
        assert float(spread_cell.replace(",", "")) == rounded_spread("PyTorch", Network(NAMED, NAMES[name]))
        for method, cell in zip(header[2:], cells):
            loss, accuracy = best[method.strip("*"), NAMES[name]]
            mean_loss, *_ = loss.split(" ")
            mean_accuracy, *_ = accuracy.split(" ")
            assert cell == f"{mean_loss} ({mean_accuracy} %)"


def test_networks_have_the_factors_that_are_shown():
    shown = {cells[0]: cells[1] for cells in rows(THEORY)}
    for name, (net, input_shape) in NETWORKS.items():
        assert shown[name] == factors(predict(net, input_shape)), name


@pytest.mark.parametrize("name", INITIALIZATIONS)
def test_initializations_have_the_spreads_that_are_shown(name):
    shown = {title: cells for title, *cells in rows(TEXT)}
    for depth, cell in zip(shown["weight-gradient spread, at depth"], shown[name]):
        found = weight_gradient_spread(INITIALIZATIONS[name](int(depth)))
        assert float(cell.replace(",", "")) == float(f"{found:.3g}")


@pytest.mark.parametrize("path", READMES, ids=["demo", "theory", "study"])
def test_links_lead_to_files_and_headings(path):
    links = re.findall(r"\]\((?!https?:)([^)]*)\)", path.read_text(encoding="utf-8"))
    assert links
    for link in links:
        file, _, heading = link.partition("#")
        page = path.parent / file if file else path
        assert page.exists(), link
        assert not heading or heading in sections(page.read_text(encoding="utf-8")), link


def test_rooms_list_their_files():
    listed = [re.findall(r"`(\w+\.py)`", place) for place, *_ in rows(THEORY)]
    files = {path.name for path in (ROOT / "util" / "theory").glob("*.py")}
    assert {*sum(listed, [])} == files - {"__init__.py"}
