"""What the READMEs show works as it stands there, and what they name exists."""
import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.theory.monte_carlo import extent
from tests.theory.networks import NETWORKS
from util.network import Net
from util.static_preconditioned_train import preconditioner
from util.study.methods import pytorch_zero_biases
from util.study.networks import vgg16
from util.theory import predict, predict_for, weight_gradient_spread
from util.theory.initializations import he, pytorch

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "util" / "study"
READMES = [ROOT / "README.md", ROOT / "util" / "theory" / "README.md", STUDY / "README.md"]
TEXT, THEORY, _ = (path.read_text(encoding="utf-8") for path in READMES)
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (STUDY / "results").glob("*.md")}
REMEDY, PROGRAM, FACTORS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def rows(text):
    """Yield the cells of each row of each table."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_remedy_prints_the_spread_and_keeps_signals_at_scale(capsys):
    torch.manual_seed(0)
    names = {"net": vgg16()}
    exec(REMEDY, names)
    assert float(capsys.readouterr().out) > 50_000
    assert 0.1 < names["net"](torch.randn(64, 3, 32, 32)).std() < 10


def test_own_network_is_trained(capsys):
    torch.manual_seed(0)
    exec(PROGRAM, {})
    first, *_, last = re.findall(r"loss (\S+)", capsys.readouterr().out)
    assert float(last) < float(first) / 2


def test_own_network_is_trained_with_factors():
    torch.manual_seed(0)
    start, loop = PROGRAM.split("\noptimizer")
    names = {}
    exec(start, names)
    net, plain = names["net"], copy.deepcopy(names["net"])
    exec(FACTORS, names)
    for each in net, plain:
        each.zero_grad()
        cross_entropy(each(torch.ones(2, 1, 28, 28)), torch.tensor([3, 4])).backward()
    for (parameter, factor), other in zip(preconditioner(net, names["statistics"]).items(), plain.parameters()):
        torch.testing.assert_close(parameter.grad, factor * other.grad)
    exec(f"optimizer{loop}".replace("lr=0.001", "lr=learning_rate"), names)
    assert names["loss"] < 1


def best_outcomes(page, column):
    """Return [loss, accuracy] of each method at its best rate, by the method and what a column of "Outcomes" says."""
    found = {}
    for method, place, _, *_, loss, _, accuracy, _ in rows(PAGES[page].split("## Outcomes")[1].split("## ")[0]):
        if method.startswith("**") and accuracy:
            mean_and_deviation = (f"{float(number):.1f}" for number in accuracy.split(" ± "))
            found[method.strip("*`").split("-decay")[0], place] = [loss, " ± ".join(mean_and_deviation)]
    return found


def test_opening_shows_what_the_study_found():
    """The best rates of one epoch: the loss as the study's page has it, the accuracy with a digit less."""
    found = best_outcomes("depth", "depth")
    shown = [cells for cells in rows(TEXT) if cells[0].startswith("*") and len(cells) == 5]
    assert len(shown) == 6
    for method, *cells in shown:
        assert cells == found[method.strip("*"), "5"] + found[method.strip("*"), "10"]


def test_networks_that_do_not_learn_have_the_losses_of_the_study():
    found = {**best_outcomes("networks", "network"), **best_outcomes("depth", "depth")}
    names = {"VGG-11": "vgg11", "VGG-16": "vgg16", "perceptron (GELU)": "perceptron", "LeNet-5": "lenet5",
             "the tutorial's (10 layers)": "10"}
    (_, _, *methods), *shown = (cells for cells in rows(TEXT) if cells[0] in ("network", *names))
    assert len(shown) == len(names)
    for name, _, *cells in shown:
        for method, cell in zip(methods, cells):
            loss, accuracy = found[method.strip("*"), names[name]]
            assert cell == f"{loss.split(' ')[0]} ({accuracy.split(' ')[0]} %)"


def test_networks_have_the_factors_that_are_shown():
    shown = {cells[0]: cells[1] for cells in rows(THEORY)}
    for name, (net, input_shape) in NETWORKS.items():
        assert shown[name] == extent([1 / layer.weight_gradient_std for layer in predict(net, input_shape)]), name


def perceptron(depth):
    hidden = [module for _ in range(depth - 1) for module in (nn.Linear(84, 84), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(84, 10))


def test_initializations_have_the_spreads_that_are_shown():
    initializations = {
        "PyTorch's initialization": lambda depth: predict_for(pytorch, Net(depth)),
        "PyTorch's, without biases": lambda depth: predict_for(pytorch_zero_biases, Net(depth)),
        "He's": lambda depth: predict_for(he, Net(depth)),
        "variance-preserving": lambda depth: predict(Net(depth)),
        "PyTorch's, in a perceptron of 84 neurons a layer":
            lambda depth: predict_for(pytorch, perceptron(depth), (84,)),
        "the same perceptron without biases": lambda depth: predict_for(pytorch_zero_biases, perceptron(depth), (84,)),
    }
    shown = {cells[0]: [cell.replace(",", "") for cell in cells[1:]] for cells in rows(TEXT)}
    depths = map(int, shown["weight-gradient spread, at depth"])
    for depth, *cells in zip(depths, *(shown[name] for name in initializations)):
        spreads = [weight_gradient_spread(statistics_at(depth)) for statistics_at in initializations.values()]
        assert [float(cell) for cell in cells] == [float(f"{spread:.3g}") for spread in spreads]


@pytest.mark.parametrize("path", READMES, ids=["demo", "theory", "study"])
def test_links_lead_to_files_and_headings(path):
    text = path.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.*)", text, re.M)
    headings = ["#" + re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
    links = re.findall(r"\]\((?!https?:)([^)]*)\)", text)
    assert links
    for link in links:
        if link.startswith("#"):
            assert link in headings
        else:
            assert (path.parent / link.split("#")[0]).exists(), link


def test_rooms_list_their_files():
    listed = {name for cells in rows(THEORY) for name in re.findall(r"`(\w+\.py)`", cells[0])}
    assert listed == {path.name for path in (ROOT / "util" / "theory").glob("*.py") if path.stem != "__init__"}
