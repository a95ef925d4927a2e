"""Measured statistics of random networks, to hold the analytic ones against.

    python3 -m tests.theory.monte_carlo [--data-dir data]    # for white noise, and for CIFAR-10 if its folder is named
"""
import argparse
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import sem
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.models import get_model

from tests.theory.networks import NARROW, NETWORKS as KINDS
from util.data import load, scale
from util.network import Net
from util.theory import gradient_stds, initialize, input_moments, predict
from util.theory.propagation import WHITE_NOISE
from util.theory.quadrature import activation_moments


NETWORKS = 10_000
INPUTS = 4  # that a network is sent at a time


def sample(net, draw_parameters, draw_inputs, networks, seed):
    """Draw a network's parameters anew and send inputs and standard normal output gradients through it, many times.

    Returns two dictionaries of (networks,) arrays: the mean squares of the pre-activations by layer, and those of a
    single input's gradients by parameter. (Several inputs' gradients add up in `.grad`; as the output gradients are
    independent and of zero mean, so do their squares in the mean.)
    """
    torch.manual_seed(seed)
    signals, gradients = defaultdict(list), defaultdict(list)

    def recorder(name):
        def record(module, inputs, output):
            signals[name].append(mean_square(output.detach()))
        return record

    hooks = [module.register_forward_hook(recorder(name)) for name, module in net.named_modules()
             if hasattr(module, "weight")]
    for _ in range(networks):
        draw_parameters()
        net.zero_grad()
        inputs = draw_inputs()
        output = net(inputs)
        output.backward(torch.randn_like(output))
        for name, parameter in net.named_parameters():
            gradients[name].append(mean_square(parameter.grad) / len(inputs))
    for hook in hooks:
        hook.remove()
    return as_arrays(signals), as_arrays(gradients)


def mean_square(tensor):
    return tensor.square().mean().item()


def as_arrays(lists):
    return {name: np.array(values) for name, values in lists.items()}


def sample_initialized(net, statistics, draw_inputs, networks):
    """Do the same with parameters that are drawn as the statistics say."""
    return sample(net, lambda: initialize(net, statistics), draw_inputs, networks, seed=0)


def named_stds(net, statistics):
    """Return the predicted standard deviation of each parameter tensor's gradient by its name."""
    names = [name for name, _ in net.named_parameters()]
    return dict(zip(names, gradient_stds(net, statistics).values()))


def root_mean_square(squares):
    """Return the root of the squares' mean, and its standard error."""
    root = np.sqrt(squares.mean())
    return root, sem(squares) / (2 * root)


def row(*cells):
    return f"| {' | '.join(map(str, cells))} |"


def ratio_table(columns):
    """Tabulate measured / predicted; a column is a pair of a function that draws inputs and the moments assumed."""
    net, rows = Net(), defaultdict(list)
    for draw_inputs, moments in columns.values():
        statistics = predict(net, input_moments=moments)
        signals, gradients = sample_initialized(net, statistics, draw_inputs, NETWORKS)
        for name, squares in signals.items():
            rows[f"variance of z, {name}"].append(f"{squares.mean():.3f} ± {sem(squares):.3f}")
        stds = named_stds(net, statistics)
        for name, squares in gradients.items():
            ratio, error = root_mean_square(squares / stds[name]**2)
            rows[f"gradient of {name}"].append(f"{ratio:.3f} ± {error:.3f}")
    yield row("measured / predicted", *columns)
    yield "|---|" + "---|" * len(columns)
    for name, cells in rows.items():
        yield row(name, *cells)


def narrow_table(networks):
    """Tabulate the same where few inputs feed a neuron."""
    return network_table(networks, NARROW)


def network_table(networks, kinds=KINDS):
    """Tabulate factors, and measured / predicted, of narrow networks of the kinds that people have."""
    yield row("network", "factors of the weights", "gradients of the weights", "of the biases", "variance of z")
    yield "|---|---|---|---|---|"
    for name, (net, input_shape) in kinds.items():
        statistics = predict(net, input_shape)
        factors = [1 / layer.weight_gradient_std for layer in statistics]
        signals, gradients = sample_initialized(net, statistics, lambda: torch.randn(INPUTS, *input_shape), networks)
        stds = named_stds(net, statistics)
        ratios = {tensor: root_mean_square(squares)[0] / stds[tensor] for tensor, squares in gradients.items()}
        weights = [ratio for tensor, ratio in ratios.items() if tensor.endswith("weight")]
        biases = [ratio for tensor, ratio in ratios.items() if tensor.endswith("bias")]
        variances = [squares.mean() for squares in signals.values()]
        yield row(name, *map(extent, (factors, weights, biases, variances)))


def full_size_table():
    """Tabulate the factors of torchvision's networks, as they come."""
    yield row("network", "factors of the weights", "of the biases")
    yield "|---|---|---|"
    for name in "alexnet", "vgg11", "vgg19":
        with torch.device("meta"):  # the theory needs no parameters
            net = get_model(name)
        statistics = predict(net, (3, 224, 224))
        weights = [1 / layer.weight_gradient_std for layer in statistics]
        biases = [1 / layer.bias_gradient_std for layer in statistics]
        yield row(name, extent(weights), extent(biases))


def extent(values):
    return f"{min(values):.2f} to {max(values):.2f}"


class PooledChain(NamedTuple):
    """A chain of convolutions and ReLUs before a single max pool."""

    name: str
    net: nn.Module
    input_shape: tuple


POOLED_CHAINS = [
    PooledChain("3x3, 3 to 32 channels, pool of 12x12",
                nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(12)), (3, 14, 14)),
    PooledChain("3x3, 1 to 32 channels, pool of 3x3",
                nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(3)), (1, 14, 14)),
    PooledChain("1x1, 3 to 32 channels, pool of 12x12",
                nn.Sequential(nn.Conv2d(3, 32, 1), nn.ReLU(), nn.MaxPool2d(12)), (3, 12, 12)),
    PooledChain("3x3, depthwise, 32 channels, pool of 12x12",
                nn.Sequential(nn.Conv2d(32, 32, 3, groups=32), nn.ReLU(), nn.MaxPool2d(12)), (32, 14, 14)),
    PooledChain("3x3, depthwise, 32 channels, pool of 2x2",
                nn.Sequential(nn.Conv2d(32, 32, 3, groups=32), nn.ReLU(), nn.MaxPool2d(2)), (32, 14, 14)),
    PooledChain("1x1, 1 to 64 to 64 channels, pool of 2x2",
                nn.Sequential(nn.Conv2d(1, 64, 1), nn.ReLU(), nn.Conv2d(64, 64, 1), nn.ReLU(), nn.MaxPool2d(2)),
                (1, 8, 8)),
    PooledChain("1x1, 3 to 64 to 128 to 1024 channels, pool of 128x1, 1024 to 512 neurons",
                nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU(), nn.Conv2d(64, 128, 1), nn.ReLU(), nn.Conv2d(128, 1024, 1),
                      nn.ReLU(), nn.MaxPool2d((128, 1)), nn.Flatten(), nn.Linear(1024, 512)), (3, 128, 1)),
]


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


def limits_table():
    """Tabulate how much larger than predicted the gradients of weights below a max pool come out."""
    yield row("convolutions, each with ReLU", "size variance k", "(m / pi - 1) k / 4",
              "each convolution's gradient, measured / predicted - 1", "variance of z behind the pool")
    yield "|---|---|---|---|---|"
    for name, net, input_shape in POOLED_CHAINS:
        statistics = predict(net, input_shape)
        signals, gradients = sample_initialized(
            net, statistics, lambda: torch.randn(INPUTS, *input_shape), NETWORKS // 4)
        convolutions = {layer: module for layer, module in net.named_children() if isinstance(module, nn.Conv2d)}
        excesses = []
        for layer in statistics:
            if layer.name in convolutions:
                squares = gradients[f"{layer.name}.weight"] / layer.weight_gradient_std**2
                ratio, error = root_mean_square(squares)
                excesses.append(f"{ratio - 1:.3f} ± {error:.3f}")
        behind = [f"{squares.mean():.3f}" for layer, squares in signals.items() if layer not in convolutions]
        places = (torch.tensor([number]) for number in (1.0, 0.04, pool_positions(net)))
        block = activation_moments(nn.ReLU(), (0.0,), *places)
        variance = size_variance(convolutions.values())
        rule = (block.second / block.slope - 1).item() * variance / 4
        yield row(name, f"{variance:.3f}", f"{rule:.3f}", ", ".join(excesses), *behind or ["-"])


def pool_positions(net):
    (pool,) = (module for module in net if isinstance(module, nn.MaxPool2d))
    return int(np.prod(np.broadcast_to(pool.kernel_size, 2)))


def single_networks():
    """Tell how far single networks, and narrow or deep ones, are from the average that is predicted."""
    net = Net()
    ratios = single_network_ratios(net, (3, 32, 32), networks=120, inputs=8, passes=25)
    low, middle, high = np.quantile(ratios, [0.025, 0.5, 0.975])
    yield (f"{len(ratios)} networks of the demo, RMS of a tensor's gradient / predicted: 95 % from {low:.2f} to "
           f"{high:.2f}, median {middle:.2f}")
    for width, depth, networks in ((64, 100, 500), (16, 30, 2000)):
        layers = [module for _ in range(depth) for module in (nn.Linear(width, width, bias=False), nn.ReLU())]
        ratios = single_network_ratios(nn.Sequential(*layers), (width,), networks, inputs=1, passes=32)
        middle = np.median(ratios[:, 0])
        yield (f"{networks} networks of {depth} layers of {width} neurons without biases, RMS of the first tensor's "
               f"gradient over 32 inputs / predicted: median {middle:.2f}")


def single_network_ratios(net, input_shape, networks, inputs, passes):
    """Return (networks, tensors): the root mean square of each network's gradients, relative to the predicted one."""
    statistics = predict(net, input_shape)
    stds = list(named_stds(net, statistics).values())
    ratios = []
    for network in range(networks):
        initialize(net, statistics)
        _, gradients = sample(net, lambda: None, lambda: torch.randn(inputs, *input_shape), passes, seed=network)
        mean_squares = [squares.mean() for squares in gradients.values()]
        ratios.append(np.sqrt(mean_squares) / stds)
    return np.array(ratios)


def loss_gradients(images):
    """Tell how much the gradient of the loss, of one image, differs between tensors from the predicted proportions."""
    torch.manual_seed(0)
    net = Net()
    statistics = predict(net)
    squares = np.zeros(len(list(net.parameters())))
    for _ in range(NETWORKS):
        initialize(net, statistics)
        net.zero_grad()
        chosen = torch.randint(len(images.labels), (1,))
        cross_entropy(net(scale(images.pixels[chosen])), images.labels[chosen]).backward()
        squares += [mean_square(parameter.grad) for parameter in net.parameters()]
    ratios = np.sqrt(squares / NETWORKS) / list(named_stds(net, statistics).values())
    weights = ratios[::2]
    yield (f"{NETWORKS} networks, RMS of the loss's gradient on an image / predicted, largest / smallest: of weights "
           f"{weights.max() / weights.min():.1f}, of all tensors {ratios.max() / ratios.min():.1f}")


def main():
    parser = argparse.ArgumentParser(description="Hold the analytic statistics against random networks.")
    parser.add_argument("--data-dir", help="folder with CIFAR-10, for two more columns (default: none)")
    folder = parser.parse_args().data_dir
    torch.set_num_threads(1)
    columns = {"white noise": (lambda: torch.randn(INPUTS, 3, 32, 32), WHITE_NOISE)}
    more = []
    if folder is not None:
        images = load("cifar10", folder, 50_000).training
        more.append(loss_gradients(images))

        def draw_images():
            chosen = torch.randint(len(images.pixels), (INPUTS,))
            return scale(images.pixels[chosen])

        for moments in WHITE_NOISE, input_moments(scale(images.pixels)):
            second, cross = moments
            columns[f"images, assumed moments {second:.3f}, {cross:.3f}"] = (draw_images, moments)
    tables = [ratio_table(columns), network_table(NETWORKS // 10), narrow_table(NETWORKS // 10), full_size_table(),
              limits_table(), single_networks()]
    for table in (*tables, *more):
        print("\n".join(table) + "\n", flush=True)


if __name__ == "__main__":
    main()
