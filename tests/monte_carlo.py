"""Measured statistics of random networks, to hold the analytic ones against.

    python3 -m tests.monte_carlo    # prints the table of README.md
"""
import math

import numpy as np
import torch

from util.network import Net
from util.signal_propagation import predict
from util.static_preconditioned_train import initialize


def sample(net, statistics, input_shape, networks, inputs, seed):
    """Draw a network's parameters anew and send standard normal inputs and output gradients through it, many times.

    Returns two dictionaries of (networks,) arrays, one entry per random network: the mean square of the pre-activations
    by layer, and that of a single input's gradients by parameter. (Several inputs' gradients add up in `.grad`; as the
    output gradients are independent and of zero mean, so do their squares in the mean.)
    """
    torch.manual_seed(seed)
    signals = {layer.name: [] for layer in statistics}
    gradients = {name: [] for name, _ in net.named_parameters()}

    def record(values):
        return lambda module, inputs, output: values.append(output.detach().square().mean().item())

    hooks = [net.get_submodule(name).register_forward_hook(record(values)) for name, values in signals.items()]
    for _ in range(networks):
        initialize(net, statistics)
        net.zero_grad()
        output = net(torch.randn(inputs, *input_shape))
        output.backward(torch.randn_like(output))
        for name, parameter in net.named_parameters():
            gradients[name].append(parameter.grad.square().mean().item() / inputs)
    for hook in hooks:
        hook.remove()
    return ({name: np.array(values) for name, values in signals.items()},
            {name: np.array(values) for name, values in gradients.items()})


def gradient_stds(statistics):
    """Return the predicted standard deviations of the gradients by parameter."""
    return {f"{layer.name}.{kind}": std for layer in statistics
            for kind, std in (("weight", layer.weight_gradient_std), ("bias", layer.bias_gradient_std))}


def root_mean_square(squares):
    """Return the root of the squares' mean, and its standard error."""
    root = math.sqrt(squares.mean())
    return root, squares.std(ddof=1) / math.sqrt(len(squares)) / (2 * root)


def main():
    net = Net()
    statistics = predict(net)
    _, gradients = sample(net, statistics, (3, 32, 32), networks=10_000, inputs=4, seed=0)
    print("| gradient of | predicted | measured | measured / predicted |\n|---|---|---|---|")
    for name, predicted in gradient_stds(statistics).items():
        measured, error = root_mean_square(gradients[name])
        print(f"| {name} | {predicted:.4f} | {measured:.4f} ± {error:.4f} | {measured / predicted:.3f} |")


if __name__ == "__main__":
    main()
