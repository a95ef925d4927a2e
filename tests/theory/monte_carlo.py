"""Measured statistics of random networks, to hold the analytic ones against.

    python3 -m tests.theory.monte_carlo [--data-dir data]    # for white noise, and for CIFAR-10 if its folder is named
"""
import argparse
from collections import defaultdict

import numpy as np
import torch
from scipy.stats import sem
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.module import register_module_forward_hook
from torchvision.models import get_model

from tests.theory.networks import NARROW, NETWORKS as KINDS, POOLED
from util.data import load, scale
from util.network import Net
from util.theory import gradient_stds, initialize, input_moments, predict
from util.theory.moments import WHITE_NOISE
from util.theory.quadrature import activation_moments

NETWORKS = 10_000
INPUTS = 4  # that a network is sent at a time
CELL = "{:.3f} ± {:.3f}"


def random_loss(output):
    """Return a scalar whose gradient with respect to the output is standard normal."""
    return (output * torch.randn_like(output)).sum()


def sample(net, statistics, draw_inputs, networks, passes=1, loss=random_loss):
    """Draw a network's parameters as the statistics say, and send inputs and a loss's gradient through it, many times.

    Returns two dictionaries of lists with an entry for each pass: the mean squares of the pre-activations by layer, and
    those of a single input's gradients, relative to the predicted ones, by parameter. (Several inputs' gradients add up
    in `.grad`; as the output gradients are independent and of zero mean, so do their squares in the mean.)
    """
    torch.manual_seed(0)
    layers = {net.get_submodule(layer.name): layer.name for layer in statistics}
    stds = named_stds(net, statistics)
    signals, gradients = defaultdict(list), defaultdict(list)

    def record(module, inputs, output):
        if module in layers:
            signals[layers[module]].append(mean_square(output))

    with register_module_forward_hook(record):
        for _ in range(networks):
            initialize(net, statistics)
            for _ in range(passes):
                inputs = draw_inputs()
                net.zero_grad()
                loss(net(inputs)).backward()
                for name, parameter in net.named_parameters():
                    ratios = parameter.grad / stds[name]
                    gradients[name].append(mean_square(ratios) / len(inputs))
    return signals, gradients


def mean_square(tensor):
    return tensor.square().mean().item()


def white_noise(*input_shape):
    """Return a function that draws standard normal inputs."""
    return lambda: torch.randn(INPUTS, *input_shape)


def images(pixels, count):
    """Return a function that draws some of the images."""
    return lambda: scale(pixels[torch.randint(len(pixels), (count,))])


def named_stds(net, statistics):
    """Return the predicted standard deviation of each parameter tensor's gradient by its name."""
    stds = gradient_stds(net, statistics)
    return {name: stds[parameter] for name, parameter in net.named_parameters()}


def root_mean_square(squares):
    """Return the root of the squares' mean, and its standard error."""
    root = np.sqrt(np.mean(squares))
    return root, sem(squares) / (2 * root)


def root_mean_squares(gradients):
    """Return two lists, of all weights and of all biases."""
    roots = {"weight": [], "bias": []}
    for tensor, squares in gradients.items():
        root, _ = root_mean_square(squares)
        roots[tensor.split(".")[-1]].append(root)
    return roots["weight"], roots["bias"]


def row(*cells):
    return f"| {' | '.join(cells)} |"


def head(*cells):
    return row(*cells) + "\n" + "|---" * len(cells) + "|"


def extent(values):
    return f"{min(values):.2f} to {max(values):.2f}"


def factors(statistics):
    """Return the extent of the weights' factors."""
    return extent([1 / layer.weight_gradient_std for layer in statistics])


def ratio_table(columns):
    """Tabulate measured / predicted; a column is a pair of a function that draws inputs and the moments assumed."""
    net, rows = Net(), defaultdict(list)
    for draw_inputs, moments in columns.values():
        statistics = predict(net, input_moments=moments)
        signals, gradients = sample(net, statistics, draw_inputs, NETWORKS)
        for name, squares in signals.items():
            cell = CELL.format(np.mean(squares), sem(squares))
            rows[f"variance of z, {name}"].append(cell)
        for name, squares in gradients.items():
            cell = CELL.format(*root_mean_square(squares))
            rows[f"gradient of {name}"].append(cell)
    yield head("measured / predicted", *columns)
    for name, cells in rows.items():
        yield row(name, *cells)


def network_table(kinds):
    """Tabulate factors, and measured / predicted, of networks of the kinds that people have."""
    yield head("network", "factors of the weights", "gradients of the weights", "of the biases", "variance of z")
    for name, (net, input_shape) in kinds.items():
        statistics = predict(net, input_shape)
        signals, gradients = sample(net, statistics, white_noise(*input_shape), NETWORKS // 10)
        weights, biases = root_mean_squares(gradients)
        variances = list(map(np.mean, signals.values()))
        yield row(name, factors(statistics), extent(weights), extent(biases), extent(variances))


def full_size_table():
    """Tabulate the factors of torchvision's networks, as they come."""
    yield head("network", "factors of the weights")
    for name in "alexnet", "vgg11", "vgg19":
        with torch.device("meta"):  # the theory needs no parameters
            net = get_model(name)
        yield row(name, factors(predict(net, (3, 224, 224))))


def size_variance(convolutions, bias_variance=0.04):
    """Bound the relative variance of the squared norm of the vector that enters the last of some convolutions.

    For f independent standard normal inputs, it is 2 / f. Where it is k, pre-activations have a common random factor,
    their squared scale, of relative variance (1 - beta^2)^2 k. The squared norm of f ReLUs of them has (1 + that)
    (1 + 5 / f) - 1, since E[relu(z)^4] = 6 E[relu(z)^2]^2 for a normal z. Windows of several positions only average it.
    """
    first, *others = (convolution.weight[0].numel() for convolution in convolutions)
    variance = 2 / first
    for fan_in in others:
        scale_variance = (1 - bias_variance) ** 2 * variance
        variance = (1 + scale_variance) * (1 + 5 / fan_in) - 1
    return variance


def bound_table():
    """Tabulate bounds of how much larger than predicted the gradients of weights before a max pool come out."""
    yield head("network", "size variance k", "(m / pi - 1) k / 4")
    for name, (net, _) in POOLED.items():
        convolutions = [layer for layer in net if isinstance(layer, nn.Conv2d)]
        variance = size_variance(convolutions)
        positions = net[-1].kernel_size**2
        normals = torch.tensor([[1.0], [0.04], [positions]])  # variance, correlation and number
        second, _, slope, *_ = activation_moments(nn.ReLU(), (0.0,), *normals)
        excess = (second / slope - 1).item()
        bound = excess * variance / 4
        yield row(name, f"{variance:.3f}", f"{bound:.3f}")


def single_networks():
    """Tell how far single networks, and a deep and narrow one, are from the average that is predicted."""
    ratios = single_network_ratios(Net(), (3, 32, 32), networks=120, passes=50)
    low, middle, high = np.quantile(ratios, [0.025, 0.5, 0.975])
    yield f"RMS of a tensor's gradient in one of 120 networks of the demo / predicted: median {middle:.2f}"
    yield f"95 % are from {low:.2f} to {high:.2f}"
    layers = [module for _ in range(100) for module in (nn.Linear(64, 64, bias=False), nn.ReLU())]
    deep = nn.Sequential(*layers)
    first, *_ = single_network_ratios(deep, (64,), networks=500, passes=32)
    middle = np.median(first)
    yield f"the first tensor's in one of 500 networks of 100 layers of 64 neurons: median {middle:.2f}"


def single_network_ratios(net, input_shape, networks, passes):
    """Return (tensors, networks): the root mean square of each network's gradients, relative to the predicted one."""
    _, gradients = sample(net, predict(net, input_shape), white_noise(*input_shape), networks, passes)
    squares = np.reshape(list(gradients.values()), (-1, networks, passes))
    return np.sqrt(squares.mean(axis=2))


def loss_gradients(pixels):
    """Tell how much the gradient of the loss, of one image, differs between tensors from the predicted proportions.

    The label is always the first one: all outputs of random networks are alike.
    """
    net = Net()
    _, gradients = sample(net, predict(net), images(pixels, 1), NETWORKS, loss=first_label_loss)
    weights, biases = root_mean_squares(gradients)
    yield "RMS of the loss's gradient on an image / predicted, largest / smallest:"
    yield f"of weights {spread(weights):.1f}, of all tensors {spread(weights + biases):.1f}"


def first_label_loss(output):
    return cross_entropy(output, torch.tensor([0]))


def spread(values):
    return max(values) / min(values)


def main():
    parser = argparse.ArgumentParser(description="Hold the analytic statistics against random networks.")
    parser.add_argument("--data-dir", help="folder with CIFAR-10, for two more columns (default: none)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = {"white noise": (white_noise(3, 32, 32), WHITE_NOISE)}
    of_images = []
    if options.data_dir is not None:
        pixels = load("cifar10", options.data_dir, 50_000).training.pixels
        for moments in WHITE_NOISE, input_moments(scale(pixels)):
            name = "images, assumed moments {:.3f}, {:.3f}".format(*moments)
            columns[name] = (images(pixels, INPUTS), moments)
        of_images = [loss_gradients(pixels)]
    of_kinds = map(network_table, (KINDS, NARROW, POOLED))
    tables = [ratio_table(columns), *of_kinds, full_size_table(), bound_table(), single_networks(), *of_images]
    for table in tables:
        print("\n".join(table) + "\n", flush=True)


if __name__ == "__main__":
    main()
