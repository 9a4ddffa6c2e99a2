"""What the documents must say: every setting, every command, every scheme; and what they show must run."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from quant_lens_engine.quantization.catalog import available_algorithms, available_observers, available_schemes
from quant_lens_engine.schema import AlgorithmFacts, Execution, SchemeFacts
from worker.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented_with_its_description(name: str) -> None:
    row = next(
        (line for line in (ROOT / "docs/settings.md").read_text().splitlines() if f"`{PREFIX}{name.upper()}`" in line),
        "",
    )
    assert Settings.model_fields[name].description, f"the setting {name} describes itself nowhere"
    assert str(Settings.model_fields[name].description) in row, f"docs/settings.md: no row, or an old one, for {name}"


@pytest.mark.parametrize("target", ["run", "test", "quick", "fmt", "lint", "types", "bench", "docs"])
def test_the_makefile_has_the_promised_targets(target: str) -> None:
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()


def test_the_pages_of_the_documentation_are_all_in_its_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    left_out = [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in menu]
    assert not left_out


def scheme_row(facts: SchemeFacts) -> str:
    """A scheme's row in docs/schemes.md."""
    return f"| `{facts.name}` | {facts.effective_bits:.4g} | {facts.description} |"


def algorithm_row(facts: AlgorithmFacts) -> str:
    """An algorithm's row there."""
    options = ", ".join(f"`{name}={str(value).lower()}`" for name, value in facts.options.items())
    looks = "yes" if facts.needs_calibration else ""
    return f"| `{facts.name}` | {facts.phase} | {looks} | {options} | {facts.description} |"


def test_every_scheme_observer_and_algorithm_is_listed_as_it_is() -> None:
    _, _, lists = (ROOT / "docs/schemes.md").read_text().partition("## Integer, weights only")
    rows = [line for line in lists.splitlines() if line.startswith("| `")]
    expected = [
        *map(scheme_row, available_schemes()),
        *(f"| `{facts.name}` | {facts.description} |" for facts in available_observers()),
        *map(algorithm_row, available_algorithms()),
    ]
    missing = "\n".join(row for row in expected if row not in rows)
    assert not missing, f"docs/schemes.md lacks, or has an older form of:\n{missing}"
    unknown = "\n".join(row for row in rows if row not in expected)
    assert not unknown, f"docs/schemes.md lists what there is not:\n{unknown}"


TRIED = {
    "adding-a-data-format": """
        import tempfile
        from pathlib import Path
        from quant_lens_engine.intake import read_arrays
        path = Path(tempfile.mkdtemp()) / "rows"
        path.write_bytes(MAGIC + bytes([2, 0, 0, 0, 3, 0, 0, 0]) + bytes([1, 2, 3, 0, 4, 5, 6, 1]))
        name, found = read_arrays(path, "rows")
        assert (name, found.x.tolist(), found.y.tolist()) == ("mine", [[1, 2, 3], [4, 5, 6]], [0, 1])
        for content in (MAGIC, path.read_bytes()[:-1], MAGIC + bytes([255]) * 8):
            path.write_bytes(content)
            try:
                read_arrays(path, "rows")
                raise AssertionError("it was read")
            except DataError as error:
                assert error.code == "truncated_file"
        """,
    "adding-a-scheme": """
        import torch
        from quant_lens_engine.quantization import available_schemes, fake_quantize
        from quant_lens_engine.schema import parse_scheme
        from quant_lens_engine.schema.format_choices import weight_choices
        weights = torch.randn(4, 200)
        rounded = fake_quantize(weights, "pow4-g64")
        assert torch.equal(fake_quantize(rounded, "pow4-g64"), rounded)
        assert (rounded - weights).norm() < 0.2 * weights.norm()
        assert parse_scheme("pow4-act-int8").name == "pow4-act-int8"
        assert any(facts.name == "pow4-g64" and facts.effective_bits == 4.25 for facts in available_schemes())
        assert any(choices.widths == (2, 3, 4, 5) for choices in weight_choices())
        """,
    "adding-an-observer": """
        import torch
        from quant_lens_engine.quantization.catalog import available_observers
        from quant_lens_engine.schema import parse_scheme
        fmt = parse_scheme("w8a8-four-sigma").activations
        whole, parts = OBSERVERS["four-sigma"](), OBSERVERS["four-sigma"]()
        values = torch.randn(1000, 3).double()
        values[7, 1] = 50.0
        whole.update(values)
        [parts.update(part) for part in values.split(300)]
        assert 3 < float(whole.span(fmt).high) < 12
        torch.testing.assert_close(whole.span(fmt).high, parts.span(fmt).high)
        assert any(facts.name == "four-sigma" for facts in available_observers())
        """,
    "adding-an-operator": """
        import torch
        from torch import nn
        from quant_lens_engine.curvature import top_eigenvalues
        from quant_lens_engine.curvature.dense import as_dense
        from quant_lens_engine.objective import Objective
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        batches = [(torch.randn(6, 3).double(), torch.tensor([0, 1, 1, 0, 1, 0]))]
        objective = Objective(model, batches)
        whole, linear, rest = (as_dense(OPERATORS[name](objective)) for name in ("hessian", "gauss-newton", "residual"))
        torch.testing.assert_close(rest, whole - linear)
        assert float(rest.norm()) > 1e-3
        found = top_eigenvalues(model, batches, k=1, tol=1e-8, operator="residual")
        assert abs(found.values[0] - float(torch.linalg.eigvalsh(rest)[-1])) < 1e-6
        """,
    "adding-an-algorithm": """
        import torch
        from torch import nn
        from quant_lens_engine.errors import SchemeError
        from quant_lens_engine.quantization import quantize
        from quant_lens_engine.quantization.catalog import available_algorithms
        model = nn.Sequential(nn.Linear(200, 50))
        nearest, drawn = (quantize(model, f"int4{step}").point["0.weight"] for step in ("", "+stochastic"))
        assert torch.equal(quantize(model, "int4+stochastic:amount=0").point["0.weight"], nearest)
        step = (model[0].weight.abs().amax(1, keepdim=True) / 7).detach()
        assert (drawn - model[0].weight).abs().le(step * 1.001).all() and not torch.equal(drawn, nearest)
        try:
            quantize(model, "nf4-g64+stochastic")
        except SchemeError as error:
            assert error.code == "not_defined"
        facts = next(facts for facts in available_algorithms() if facts.name == "stochastic")
        assert facts.option_facts[0].meaning and {refusal.format for refusal in facts.refusals} >= {"nf4", "float"}
        """,
}


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(TRIED))
def test_the_example_of_a_guide_works(page: str, tmp_path: Path) -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / f"docs/{page}.md").read_text(), re.DOTALL)
    assert found is not None
    script = tmp_path / "example.py"
    script.write_text(found[1] + "\n".join(line.strip("\n")[8:] for line in TRIED[page].splitlines()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_notebook_that_brings_its_own_model_runs() -> None:
    page = (ROOT / "docs/notebooks-and-scripts.md").read_text()
    _, _, section = page.partition("### The diagonal, weighted rows, some of the parameters")
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None
    exec(compile(found[1], "notebooks-and-scripts.md", "exec"), {})


def test_every_way_to_take_products_is_told() -> None:
    page = (ROOT / "docs/notebooks-and-scripts.md").read_text()
    plans = get_args(get_args(Execution.model_fields["hvp_plan"].annotation)[0])
    assert plans
    assert not [plan for plan in plans if f"| `{plan}` |" not in page]
