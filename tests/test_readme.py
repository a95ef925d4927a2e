"""What both READMEs show works as it stands there, and what they name exists."""
import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tests.theory.monte_carlo import extent
from tests.theory.networks import NETWORKS
from tests.theory.test_propagation import without_biases
from util.network import Net
from util.options import parse_options
from util.theory import predict, predict_current, predict_for, weight_gradient_spread
from util.theory.initializations import he, pytorch

ROOT = Path(__file__).resolve().parent.parent
STUDY = ROOT / "util" / "study"
READMES = [ROOT / "README.md", STUDY / "README.md"]
TEXT = READMES[0].read_text(encoding="utf-8")
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (STUDY / "results").glob("*.md")}
PROGRAM, OWN_INITIALIZATION = re.findall(r"```python\n(.*?)```", TEXT, re.S)
OWN_CLASS = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 14 * 14, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc(x.view(x.size(0), -1))

net = Net()
"""


def rows(text):
    """Yield the cells of each row of each table."""
    for line in text.splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("program", [PROGRAM, re.sub(r"\nnet = .*\n", OWN_CLASS, PROGRAM)], ids=["shown", "own class"])
def test_own_network_is_trained_with_preconditioned_gradients(program, capsys):
    torch.manual_seed(0)
    names = {}
    exec(program, names)
    assert names["step"] == 99 and names["loss"].isfinite()
    assert "weight-gradient spread " in capsys.readouterr().out
    check_factors(names)


def check_factors(names):
    """Hold the gradients of the network that a program leaves against plain ones."""
    plain = copy.deepcopy(names["net"])
    for net in names["net"], plain:
        net.zero_grad()
        cross_entropy(net(names["images"]), names["labels"]).backward()
    factors = [1 / std for layer in names["statistics"] for std in (layer.weight_gradient_std, layer.bias_gradient_std)]
    for parameter, other, factor in zip(names["net"].parameters(), plain.parameters(), factors):
        torch.testing.assert_close(parameter.grad, factor * other.grad)


def test_own_initialization_is_kept(capsys):
    torch.manual_seed(0)
    names = {}
    start, loop = re.fullmatch(r"(.*\nnet = .*?\n).*\n(\noptimizer = .*)", PROGRAM, re.S).groups()
    exec(start, names)
    before = copy.deepcopy(names["net"].state_dict())
    exec(OWN_INITIALIZATION, names)
    torch.testing.assert_close(names["net"].state_dict(), before)
    assert names["statistics"] == predict_current(names["net"], input_shape=(1, 28, 28))
    assert f"spread {weight_gradient_spread(names['statistics']):.3g}" in capsys.readouterr().out
    exec(loop, names)
    check_factors(names)


def test_options_have_the_defaults_that_are_shown(monkeypatch):
    monkeypatch.setattr("sys.argv", ["main.py"])
    defaults = vars(parse_options())
    shown = [(cells[0], cells[1]) for cells in rows(TEXT) if cells[0].startswith("`-")]
    assert shown
    for option, default in shown:
        name = re.search(r"--([\w-]+)", option).group(1)
        assert default == str(defaults[name.replace("-", "_")] or "off"), option


def test_opening_shows_what_the_study_found():
    """The best rates of one epoch: the loss as the study's page has it, the accuracy with a digit less."""
    found = {}
    for method, depth, _, *_, loss, _, accuracy, _ in rows(PAGES["depth"].split("## Outcomes")[1].split("## ")[0]):
        if method.startswith("**") and accuracy:
            mean_and_deviation = (f"{float(number):.1f}" for number in accuracy.split(" ± "))
            found[method.strip("*`").split("-decay")[0], depth] = [loss, " ± ".join(mean_and_deviation)]
    shown = [cells for cells in rows(TEXT) if cells[0].startswith("*")]
    assert len(shown) == 5
    for method, *cells in shown:
        assert cells == found[method.strip("*"), "5"] + found[method.strip("*"), "10"]


def test_networks_have_the_factors_that_are_shown():
    shown = {cells[0]: cells[1] for cells in rows(TEXT)}
    for name, (net, input_shape) in NETWORKS.items():
        assert shown[name] == extent([1 / layer.weight_gradient_std for layer in predict(net, input_shape)]), name


def perceptron(depth):
    hidden = [module for _ in range(depth - 1) for module in (nn.Linear(84, 84), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(84, 10))


def test_initializations_have_the_spreads_that_are_shown():
    initializations = {
        "PyTorch's initialization": lambda depth: predict_for(pytorch, Net(depth)),
        "PyTorch's, without biases": lambda depth: predict_for(without_biases, Net(depth)),
        "He's": lambda depth: predict_for(he, Net(depth)),
        "variance-preserving": lambda depth: predict(Net(depth)),
        "PyTorch's, in a perceptron of 84 neurons a layer": lambda depth: predict_for(pytorch, perceptron(depth), (84,)),
    }
    shown = {cells[0]: [cell.replace(",", "") for cell in cells[1:]] for cells in rows(TEXT)}
    depths = map(int, shown["weight-gradient spread, at depth"])
    for depth, *cells in zip(depths, *(shown[name] for name in initializations)):
        spreads = [weight_gradient_spread(statistics_at(depth)) for statistics_at in initializations.values()]
        assert [float(cell) for cell in cells] == [float(f"{spread:.3g}") for spread in spreads]


@pytest.mark.parametrize("path", READMES, ids=["demo", "study"])
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


def test_all_modules_are_among_the_files():
    named = {name for cells in rows(TEXT) for name in re.findall(r"`(util/\w+\.py)`", cells[0])}
    assert named == {f"util/{path.name}" for path in ROOT.glob("util/*.py") if path.stem != "__init__"}
