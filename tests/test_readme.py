"""What the README shows works as it stands there."""
import re
from pathlib import Path

import torch

README = Path(__file__).resolve().parent.parent / "README.md"


def test_own_network_is_trained_with_preconditioned_gradients():
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    torch.manual_seed(0)
    names = {}
    exec(program, names)
    plain = [parameter.grad.clone() for parameter in names["net"].parameters()]
    names["optimizer"].step()
    factors = [1 / std for layer in names["statistics"] for std in (layer.weight_gradient_std, layer.bias_gradient_std)]
    for gradient, parameter, factor in zip(plain, names["net"].parameters(), factors):
        torch.testing.assert_close(parameter.grad, factor * gradient)
    assert names["step"] == 99 and names["loss"].isfinite()
