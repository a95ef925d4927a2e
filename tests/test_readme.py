"""What both READMEs show works as it stands there, and their results are those of the files beside them."""
import re
import shlex
from pathlib import Path

import pytest
import torch

from util.study import __main__ as command

ROOT = Path(__file__).resolve().parent.parent
READMES = [ROOT / "README.md", ROOT / "util" / "study" / "README.md"]
REPORT = re.compile(r"-m util\.study (util/study/results/\w+\.csv(?: --reference \S+)?)$")


def test_own_network_is_trained_with_preconditioned_gradients():
    (program,) = re.findall(r"```python\n(.*?)```", READMES[0].read_text(encoding="utf-8"), re.S)
    torch.manual_seed(0)
    names = {}
    exec(program, names)
    plain = [parameter.grad.clone() for parameter in names["net"].parameters()]
    names["optimizer"].step()
    factors = [1 / std for layer in names["statistics"] for std in (layer.weight_gradient_std, layer.bias_gradient_std)]
    for gradient, parameter, factor in zip(plain, names["net"].parameters(), factors):
        torch.testing.assert_close(parameter.grad, factor * gradient)
    assert names["step"] == 99 and names["loss"].isfinite()


def tables_by_command():
    """Return the tables, as lists of lines, that follow each command which only reports, up to the next heading."""
    tables = {}
    arguments = None
    for readme in READMES:
        before = ""
        for line in readme.read_text(encoding="utf-8").splitlines():
            found = REPORT.search(line)
            if line.startswith("#"):
                arguments = None
            elif found:
                arguments = found.group(1)
            elif arguments and line.startswith("|"):
                if not before.startswith("|"):
                    tables.setdefault(arguments, []).append([])
                tables[arguments][-1].append(line)
            before = line
    return tables


@pytest.mark.parametrize("arguments, shown", tables_by_command().items(), ids=list(tables_by_command()))
def test_tables_are_printed_by_the_command_before_them(monkeypatch, capsys, arguments, shown):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["util.study", *shlex.split(arguments)])
    command.main()
    printed = [table.splitlines() for table in capsys.readouterr().out.split("\n\n")]
    assert [table for table in shown if table not in printed] == []


def test_losses_and_differences_in_the_studys_text_stand_in_its_tables():
    """They are the numbers with three digits behind the point; a difference may be told without its sign."""
    lines = READMES[1].read_text(encoding="utf-8").splitlines()
    tables = "\n".join(line for line in lines if line.startswith("|"))
    text = " ".join(line.strip() for line in lines if not line.startswith("|"))
    numbers = re.findall(r"(?<![\d.])\d\.\d{3}(?: ± \d\.\d{3})?(?!\d)", text)
    assert len(numbers) > 10
    assert [number for number in numbers if number not in tables] == []


def test_each_file_of_results_has_a_table():
    shown = {arguments.split()[0] for arguments in tables_by_command()}
    held = {str(path.relative_to(ROOT)) for path in ROOT.glob("util/study/results/*.csv")}
    assert shown == held and held
