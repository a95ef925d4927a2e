"""Measured statistics of random networks, to hold the analytic ones against.

    python3 -m tests.monte_carlo                    # prints the tables of README.md for white noise
    python3 -m tests.monte_carlo --data-dir data    # and the one for CIFAR-10, which must be in that folder
"""
import argparse
import math

import numpy as np
import torch
from torch import nn

from util.data import input_moments, load, scale
from util.network import Net
from util.signal_propagation import STANDARD, block_moments, gradient_stds, predict
from util.static_preconditioned_train import initialize

NETWORKS, INPUTS = 10_000, 4
LIMITS = {  # a convolution, a pool over a square of positions, the width of the input
    "3x3, 3 to 32 channels, pool of 12x12": (nn.Conv2d(3, 32, 3), 12, 14),
    "3x3, 1 to 32 channels, pool of 3x3": (nn.Conv2d(1, 32, 3), 3, 14),
    "1x1, 3 to 32 channels, pool of 12x12": (nn.Conv2d(3, 32, 1), 12, 12),
    "3x3, depthwise, 32 channels, pool of 12x12": (nn.Conv2d(32, 32, 3, groups=32), 12, 14),
    "3x3, depthwise, 32 channels, pool of 2x2": (nn.Conv2d(32, 32, 3, groups=32), 2, 14),
}


def sample(net, draw_parameters, draw_inputs, networks, seed):
    """Draw a network's parameters anew and send inputs and standard normal output gradients through it, many times.

    Returns two dictionaries of (networks,) arrays, one entry per random network: the mean square of the pre-activations
    by layer, and that of a single input's gradients by parameter. (Several inputs' gradients add up in `.grad`; as the
    output gradients are independent and of zero mean, so do their squares in the mean.)
    """
    torch.manual_seed(seed)
    layers = {name: module for name, module in net.named_modules() if hasattr(module, "weight")}
    signals = {name: [] for name in layers}
    gradients = {name: [] for name, _ in net.named_parameters()}

    def record(values):
        return lambda module, inputs, output: values.append(output.detach().square().mean().item())

    hooks = [module.register_forward_hook(record(signals[name])) for name, module in layers.items()]
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
    return ({name: np.array(values) for name, values in signals.items()},
            {name: np.array(values) for name, values in gradients.items()})


def root_mean_square(squares):
    """Return the root of the squares' mean, and its standard error."""
    root = math.sqrt(squares.mean())
    return root, squares.std(ddof=1) / math.sqrt(len(squares)) / (2 * root)


def white_noise_table():
    """Tabulate the gradients' standard deviations for standard normal inputs."""
    net = Net()
    statistics = predict(net)
    _, gradients = sample(net, lambda: initialize(net, statistics), lambda: torch.randn(INPUTS, 3, 32, 32), NETWORKS, 0)
    yield "| gradient of | predicted | measured | measured / predicted |\n|---|---|---|---|"
    for (name, squares), predicted in zip(gradients.items(), gradient_stds(net, statistics)):
        measured, error = root_mean_square(squares)
        yield f"| {name} | {predicted:.4f} | {measured:.4f} ± {error:.4f} | {measured / predicted:.3f} |"


def limits_table():
    """Tabulate how much larger than predicted the gradients of weights below a max pool come out."""
    yield "| convolution, ReLU and | fan-in f | (s - 1) / (2 f) | measured / predicted - 1 |\n|---|---|---|---|"
    for name, (convolution, pool, width) in LIMITS.items():
        positions = (width - convolution.kernel_size[0] + 1) // pool
        net = nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(pool), nn.Flatten(), nn.Linear(32 * positions**2, 10))
        input_shape = (convolution.in_channels, width, width)
        statistics = predict(net, input_shape)
        _, gradients = sample(net, lambda: initialize(net, statistics), lambda: torch.randn(INPUTS, *input_shape),
                              NETWORKS // 4, 0)
        measured, error = root_mean_square(gradients["0.weight"])
        predicted = statistics[0].weight_gradient_std
        fan_in = convolution.weight[0].numel()
        block = block_moments(0.04, pool**2, True)
        rule = (block.second / block.passing - 1) / (2 * fan_in)
        yield f"| {name} | {fan_in} | {rule:.3f} | {measured / predicted - 1:.3f} ± {error / predicted:.3f} |"


def single_networks():
    """Tell how far single networks, and narrow deep ones, are from the average that is predicted."""
    deep = nn.Sequential(*(module for _ in range(30) for module in (nn.Linear(16, 16), nn.ReLU())))
    for net, input_shape, networks, passes in ((Net(), (3, 32, 32), 120, 25), (deep, (16,), 1500, 1)):
        statistics = predict(net, input_shape)
        torch.manual_seed(0)
        ratios = []
        for _ in range(networks):
            initialize(net, statistics)
            _, gradients = sample(net, lambda: None, lambda: torch.randn(8, *input_shape), passes, seed=len(ratios))
            ratios.append([math.sqrt(squares.mean()) / predicted
                           for squares, predicted in zip(gradients.values(), gradient_stds(net, statistics))])
        low, middle, high = np.quantile(ratios, [0.025, 0.5, 0.975])
        first = np.median([ratio[0] for ratio in ratios])
        yield (f"{networks} networks of {len(statistics)} layers, RMS of a tensor's gradient / predicted: 95 % from "
               f"{low:.2f} to {high:.2f}, median {middle:.2f}; median of the first tensor {first:.2f}")


def images_table(images):
    """Tabulate what real images make of the predictions, for both assumptions about the input's moments."""
    def draw_inputs():
        return scale(images.pixels[torch.randint(len(images.pixels), (INPUTS,))])

    columns = []
    for moments in (STANDARD, input_moments(images)):
        net = Net()
        statistics = predict(net, input_moments=moments)
        signals, gradients = sample(net, lambda: initialize(net, statistics), draw_inputs, NETWORKS, 0)
        column = {f"variance of z, {name}": f"{squares.mean():.3f} ± {squares.std(ddof=1) / math.sqrt(NETWORKS):.3f}"
                  for name, squares in signals.items()}
        for (name, squares), predicted in zip(gradients.items(), gradient_stds(net, statistics)):
            measured, error = root_mean_square(squares)
            column[f"gradient of {name}"] = f"{measured / predicted:.3f} ± {error / predicted:.3f}"
        columns.append((moments, column))
    heads = " | ".join(f"assumed moments {second:.3f}, {cross:.3f}" for (second, cross), _ in columns)
    yield f"| measured / predicted | {heads} |\n|---|---|---|"
    for name in columns[0][1]:
        yield f"| {name} | {' | '.join(column[name] for _, column in columns)} |"


def main():
    parser = argparse.ArgumentParser(description="Hold the analytic statistics against random networks.")
    parser.add_argument("--data-dir", help="folder with CIFAR-10, for a second table (default: none)")
    folder = parser.parse_args().data_dir
    torch.set_num_threads(1)
    for table in (white_noise_table(), limits_table(), single_networks()):
        print("\n".join(table) + "\n", flush=True)
    if folder is not None:
        print("\n".join(images_table(load("cifar10", folder, 50_000, quiet=True).training)))


if __name__ == "__main__":
    main()
