"""Measured statistics of random networks, to hold the analytic ones against.

    python3 -m tests.monte_carlo [--data-dir data]    # for white noise, and for CIFAR-10 if its folder is named
"""
import argparse
from collections import defaultdict
from itertools import permutations

import numpy as np
import torch
from scipy.stats import sem
from torch import nn

from util.curves import overtaking_epoch
from util.data import load, scale
from util.default_train import default_train
from util.network import Net
from util.signal_propagation import STANDARD, block_moments, gradient_stds, input_moments, predict
from util.static_preconditioned_train import initialize

NETWORKS, INPUTS = 10_000, 4


def sample(net, draw_parameters, draw_inputs, networks, seed):
    """Draw a network's parameters anew and send inputs and standard normal output gradients through it, many times.

    Returns two dictionaries of (networks,) arrays: the mean squares of the pre-activations by layer, and those of a
    single input's gradients by parameter. (Several inputs' gradients add up in `.grad`; as the output gradients are
    independent and of zero mean, so do their squares in the mean.)
    """
    torch.manual_seed(seed)
    signals, gradients = defaultdict(list), defaultdict(list)

    def record(name):
        return lambda module, inputs, output: signals[name].append(output.detach().square().mean().item())

    layers = [(name, module) for name, module in net.named_modules() if hasattr(module, "weight")]
    hooks = [module.register_forward_hook(record(name)) for name, module in layers]
    for _ in range(networks):
        draw_parameters()
        net.zero_grad()
        inputs = draw_inputs()
        output = net(inputs)
        output.backward(torch.randn_like(output))
        for name, parameter in net.named_parameters():
            gradients[name].append(parameter.grad.square().mean().item() / len(inputs))
    for hook in hooks:
        hook.remove()
    return tuple({name: np.array(values) for name, values in squares.items()} for squares in (signals, gradients))


def root_mean_square(squares):
    """Return the root of the squares' mean, and its standard error."""
    root = np.sqrt(squares.mean())
    return root, sem(squares) / (2 * root)


def ratio_table(columns):
    """Tabulate measured / predicted; a column is a pair of a function that draws inputs and the moments assumed."""
    net, rows = Net(), defaultdict(list)
    for draw_inputs, moments in columns.values():
        statistics = predict(net, input_moments=moments)
        signals, gradients = sample(net, lambda: initialize(net, statistics), draw_inputs, NETWORKS, seed=0)
        for name, squares in signals.items():
            rows[f"variance of z, {name}"].append(f"{squares.mean():.3f} ± {sem(squares):.3f}")
        for (name, squares), std in zip(gradients.items(), gradient_stds(net, statistics)):
            rows[f"gradient of {name}"].append("{:.3f} ± {:.3f}".format(*root_mean_square(squares / std**2)))
    yield f"| measured / predicted | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}"
    for name, cells in rows.items():
        yield f"| {name} | {' | '.join(cells)} |"


def limits_table():
    """Tabulate how much larger than predicted the gradients of weights below a max pool come out."""
    yield "| convolution, ReLU and | fan-in f | (m / pi - 1) / (2 f) | measured / predicted - 1 |\n|---|---|---|---|"
    for name, convolution, pool, width in (
            ("3x3, 3 to 32 channels, pool of 12x12", nn.Conv2d(3, 32, 3), 12, 14),
            ("3x3, 1 to 32 channels, pool of 3x3", nn.Conv2d(1, 32, 3), 3, 14),
            ("1x1, 3 to 32 channels, pool of 12x12", nn.Conv2d(3, 32, 1), 12, 12),
            ("3x3, depthwise, 32 channels, pool of 12x12", nn.Conv2d(32, 32, 3, groups=32), 12, 14),
            ("3x3, depthwise, 32 channels, pool of 2x2", nn.Conv2d(32, 32, 3, groups=32), 2, 14)):
        net = nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(pool))
        input_shape = (convolution.in_channels, width, width)
        statistics = predict(net, input_shape)
        _, gradients = sample(net, lambda: initialize(net, statistics), lambda: torch.randn(INPUTS, *input_shape),
                              NETWORKS // 4, seed=0)
        ratio, error = root_mean_square(gradients["0.weight"] / statistics[0].weight_gradient_std**2)
        fan_in = convolution.weight[0].numel()
        block = block_moments(0.04, pool**2, True)
        rule = (block.second / block.pass_probability - 1) / (2 * fan_in)
        yield f"| {name} | {fan_in} | {rule:.3f} | {ratio - 1:.3f} ± {error:.3f} |"


def single_networks():
    """Tell how far single networks, and narrow deep ones, are from the average that is predicted."""
    deep = nn.Sequential(*(module for _ in range(30) for module in (nn.Linear(16, 16), nn.ReLU())))
    for net, input_shape, networks, passes in ((Net(), (3, 32, 32), 120, 25), (deep, (16,), 1500, 1)):
        statistics = predict(net, input_shape)
        ratios = []
        for network in range(networks):
            initialize(net, statistics)
            _, gradients = sample(net, lambda: None, lambda: torch.randn(8, *input_shape), passes, seed=network)
            ratios.append([np.sqrt(squares.mean()) / std
                           for squares, std in zip(gradients.values(), gradient_stds(net, statistics))])
        low, middle, high = np.quantile(ratios, [0.025, 0.5, 0.975])
        first = np.median(ratios, axis=0)[0]
        yield (f"{networks} networks of {len(statistics)} layers, RMS of a tensor's gradient / predicted: 95 % from "
               f"{low:.2f} to {high:.2f}, median {middle:.2f}; median of the first tensor {first:.2f}")


def false_overtakings(images):
    """Tell how many of default trainings overtake another that differs in nothing but its initial parameters."""
    runs = []
    for seed in range(6):
        torch.manual_seed(seed)
        runs.append(default_train(Net(), images, 0.001, epochs=2, seed=0, report=lambda line: None))
    pairs = [overtaking_epoch(*pair, len(images.labels) // 4) for pair in permutations(runs, 2)]
    yield f"{len(pairs)} ordered pairs of default trainings, overtaken: {sum(epoch is not None for epoch in pairs)}"


def main():
    parser = argparse.ArgumentParser(description="Hold the analytic statistics against random networks.")
    parser.add_argument("--data-dir", help="folder with CIFAR-10, for two more columns (default: none)")
    folder = parser.parse_args().data_dir
    torch.set_num_threads(1)
    columns = {"white noise": (lambda: torch.randn(INPUTS, 3, 32, 32), STANDARD)}
    if folder is not None:
        images = load("cifar10", folder, 50_000).training
        for second, cross in STANDARD, input_moments(scale(images.pixels)):
            columns[f"images, assumed moments {second:.3f}, {cross:.3f}"] = (
                lambda: scale(images.pixels[torch.randint(len(images.pixels), (INPUTS,))]), (second, cross))
    more = (false_overtakings(images),) if folder is not None else ()
    for table in (ratio_table(columns), limits_table(), single_networks(), *more):
        print("\n".join(table) + "\n", flush=True)


if __name__ == "__main__":
    main()
