"""QuantDiagnostic: the Python contract of the design, on a network small enough for its exact Hessian."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from quant_lens_engine import QuantDiagnostic, fake_quantize, trace_1d_loss
from quant_lens_engine.errors import Cancelled, DataError, DeviceError, InputError, SchemeError, SpecError
from quant_lens_engine.schema import RunResult

QUICK = {"landscape_steps": 3, "directions": 1, "trace_probes": 4}


def whole(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    x, y = (torch.cat(column) for column in zip(*batches, strict=True))
    return x, y


def exact_hessian(model: nn.Module, point: dict[str, Tensor], batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    model = copy.deepcopy(model).double()
    x, y = whole(batches)
    names, shapes = list(point), [tensor.shape for tensor in point.values()]

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes])
        parameters = {n: piece.reshape(shape) for n, piece, shape in zip(names, pieces, shapes, strict=True)}
        return nn.functional.cross_entropy(functional_call(model, parameters, (x.double(),)), y)

    return torch.func.hessian(loss)(torch.cat([tensor.double().flatten() for tensor in point.values()]))


def test_the_contract_of_the_design(result: RunResult) -> None:
    assert [variant.name for variant in result.variants] == ["FP32", "Int8", "Int4", "int2"]
    assert [comparison.variant for comparison in result.comparisons] == ["Int8", "Int4", "int2"]
    assert all(comparison.verdict is not None and comparison.verdict.reasons for comparison in result.comparisons)
    assert result.failures == []
    assert result.task == "classification"
    assert result.data.samples == 90
    assert result.data.classes == 3
    assert result.execution["device"] == "cpu"
    again = RunResult.model_validate_json(result.model_dump_json())
    assert again == result
    json.loads(result.model_dump_json(), parse_constant=pytest.fail)  # no NaN, no Infinity


@pytest.mark.parametrize("name", ["FP32", "Int8", "Int4", "int2"])
def test_curvature_is_that_of_the_exact_hessian_at_the_dequantized_state(
    diagnostic: QuantDiagnostic, result: RunResult, trained: nn.Module, batches: list[tuple[Tensor, Tensor]], name: str
) -> None:
    exact = exact_hessian(trained, diagnostic.dequantized_state(name), batches)
    values = torch.linalg.eigvalsh(exact)
    curvature = result.variant(name).curvature
    assert curvature.lambda_max.value == pytest.approx(float(values[-1]), rel=1e-3)
    assert curvature.lambda_min.value == pytest.approx(float(values[0]), rel=1e-3)
    error = max(curvature.trace.standard_error, 1e-5 * float(exact.trace()))
    assert abs(curvature.trace.value - float(exact.trace())) <= 3 * error
    assert curvature.weights == ("float" if name == "FP32" else "dequantized")


def test_ratios_are_those_of_lambda_max(result: RunResult) -> None:
    reference = result.variant("FP32").curvature.lambda_max.value
    for comparison in result.comparisons:
        own = result.variant(comparison.variant).curvature.lambda_max.value
        assert comparison.sharpness_ratio == pytest.approx(own / reference)


def test_loss_and_accuracy_are_those_of_the_whole_sample(
    diagnostic: QuantDiagnostic, result: RunResult, trained: nn.Module, batches: list[tuple[Tensor, Tensor]]
) -> None:
    x, y = whole(batches)
    for variant in result.variants:
        logits = functional_call(trained, diagnostic.dequantized_state(variant.name), (x,)).double()
        assert variant.evaluation.loss == pytest.approx(float(nn.functional.cross_entropy(logits, y)), rel=1e-6)
        assert variant.evaluation.accuracy == pytest.approx(float((logits.argmax(1) == y).double().mean()))
        assert variant.evaluation.samples == 90


def test_an_even_number_of_steps_samples_alpha_zero_where_the_loss_is_the_evaluated_one(result: RunResult) -> None:
    for variant in result.variants:
        assert [line.landscape for line in variant.lines] == ["deployed", "smooth"]
        for line in variant.lines:
            assert len(line.alphas) == 7
            assert line.alphas[3] == 0
            assert line.loss[3] == pytest.approx(variant.evaluation.loss, rel=1e-12)


def test_layers_bits_and_skipped_layers_are_there(result: RunResult) -> None:
    variant = result.variant("Int4")
    assert [(layer.name, layer.kind) for layer in variant.layers] == [("0", "Linear"), ("3", "Linear")]
    assert [layer.name for layer in variant.skipped_layers] == ["1"]
    assert variant.effective_bits == pytest.approx(4 + 32 * 15 / (60 + 36))
    assert variant.size_bytes < result.variant("FP32").size_bytes
    assert variant.scheme["name"] == "int4"


def test_the_dequantized_state_is_the_fake_quantized_one(diagnostic: QuantDiagnostic, trained: nn.Module) -> None:
    state = diagnostic.dequantized_state("Int4")
    assert list(state) == [name for name, _ in trained.named_parameters()]
    assert torch.equal(state["0.weight"], fake_quantize(trained[0].weight.detach(), "int4"))
    assert torch.equal(state["1.weight"], trained[1].weight)
    state["0.weight"].zero_()
    assert diagnostic.dequantized_state("Int4")["0.weight"].abs().sum() > 0


def test_it_may_be_asked_before_the_analysis(trained: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> None:
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_variant("int3")
    assert len(diagnostic.dequantized_state("int3")["0.weight"].unique()) <= 7 * 12
    with pytest.raises(InputError, match="no variant 'Int8'") as refused:
        diagnostic.dequantized_state("Int8")
    assert refused.value.hint == "there are FP32, int3"


def test_sixteen_bits_and_float_coincide_on_every_line(
    trained: nn.Module, batches: list[tuple[Tensor, Tensor]]
) -> None:
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_variant("int16")
    result = diagnostic.run_analysis(**QUICK | {"directions": 2, "landscape_steps": 5})
    for ours, floats in zip(result.variant("int16").lines, result.variant("FP32").lines, strict=True):
        assert ours.loss == pytest.approx(floats.loss, rel=1e-3)
    assert result.comparison("int16").sharpness_ratio == pytest.approx(1, abs=1e-3)
    assert result.comparison("int16").verdict.level == "safe"


def numbers_of(result: RunResult) -> object:
    def timeless(value: object) -> object:
        if isinstance(value, dict):
            return {key: timeless(item) for key, item in value.items() if key != "elapsed_s"}
        return [timeless(item) for item in value] if isinstance(value, list) else value

    return timeless(result.model_dump())


def test_the_same_seed_gives_the_same_digits(trained: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> None:
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(torch.initial_seed() + 1)  # the global state must not matter
        diagnostic = QuantDiagnostic(trained, batches, seed=seed)
        diagnostic.add_int8_model()
        results.append(numbers_of(diagnostic.run_analysis(**QUICK)))
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_the_loader_is_read_once_so_shuffling_does_no_harm(trained: nn.Module, batches: list) -> None:
    reads = 0

    class Shuffling:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            nonlocal reads
            reads += 1
            x, y = whole(batches)
            order = torch.randperm(len(y))
            yield from zip(x[order].split(40), y[order].split(40), strict=True)

    diagnostic = QuantDiagnostic(trained, Shuffling())
    diagnostic.add_variant("int16")
    result = diagnostic.run_analysis(**QUICK)
    assert reads == 1
    assert result.comparison("int16").sharpness_ratio == pytest.approx(1, abs=1e-3)


class Remembered:
    """A model's state down to modes, gradients, identities and ties."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.values = copy.deepcopy(model.state_dict())
        self.modes = [module.training for module in model.modules()]
        self.parameters = [(name, id(p), p.requires_grad) for name, p in model.named_parameters(remove_duplicate=False)]
        self.gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    def assert_unchanged(self) -> None:
        now = Remembered(self.model)
        assert (now.modes, now.parameters) == (self.modes, self.parameters)
        assert all(torch.equal(value, now.values[key]) for key, value in self.values.items())
        assert now.gradients.keys() == self.gradients.keys()
        assert all(torch.equal(value, now.gradients[key]) for key, value in self.gradients.items())


class Tied(nn.Module):
    """Tied embedding and head, a frozen layer, dropout and normalisation in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.norm = nn.BatchNorm1d(6)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.dropout(self.norm(self.frozen(self.embedding(tokens).mean(1)))))


@pytest.fixture
def tied() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    torch.manual_seed(0)
    model = Tied().train()
    model.dropout.eval()
    tokens, labels = torch.randint(7, (20, 4)), torch.randint(7, (20,))
    nn.functional.cross_entropy(model(tokens), labels).backward()
    return model, [(tokens, labels)]


def test_the_model_comes_back_as_it_was(tied: tuple[nn.Module, list]) -> None:
    model, batches = tied
    before = Remembered(model)
    diagnostic = QuantDiagnostic(model, batches)
    diagnostic.add_int8_model(num_bits=3)
    result = diagnostic.run_analysis(**QUICK)
    before.assert_unchanged()
    assert list(diagnostic.dequantized_state("Int3")) == [name for name, _ in model.named_parameters()]
    assert result.variant("Int3").quantized_layers == 3
    assert result.variant("FP32").curvature.dimension == 7 * 6 + 12  # the frozen layer is not moved


def test_it_comes_back_from_an_exception_too(tied: tuple[nn.Module, list]) -> None:
    model, batches = tied
    before = Remembered(model)

    class Interrupted:
        calls = 0

        def report(self, stage: str, done: int, total: int, note: str = "") -> None:
            """Watch nothing."""

        def check_cancelled(self) -> None:
            self.calls += 1
            if self.calls == 7:
                raise Cancelled("enough")

    diagnostic = QuantDiagnostic(model, batches)
    diagnostic.add_int8_model()
    with pytest.raises(Cancelled):
        diagnostic.run_analysis(**QUICK, progress=Interrupted())
    before.assert_unchanged()
    with pytest.raises(InputError, match="nothing is measured yet"):
        diagnostic.report()


def test_a_criterion_of_the_callers_that_raises_is_let_through(trained: nn.Module, batches: list) -> None:
    before = Remembered(trained)

    def broken(output: Tensor, target: Tensor) -> Tensor:
        raise ZeroDivisionError("ours")

    with pytest.raises(ZeroDivisionError):
        QuantDiagnostic(trained, batches, criterion=broken).run_analysis(**QUICK)
    before.assert_unchanged()


def test_few_lanczos_products_are_said_not_to_converge(trained: nn.Module, batches: list) -> None:
    result = QuantDiagnostic(trained, batches).run_analysis(3, 2, directions=1, trace_probes=4)
    curvature = result.variant("FP32").curvature
    assert not curvature.converged
    assert "after 2 Hessian-vector products" in curvature.reason


def test_distance_reaches_the_grid(trained: nn.Module, batches: list) -> None:
    result = QuantDiagnostic(trained, batches).run_analysis(**QUICK, distance=0.25)
    assert result.variant("FP32").lines[0].alphas == [-0.25, 0, 0.25]


def test_sample_weights_count_in_loss_and_curvature(trained: nn.Module, batches: list) -> None:
    """A half of the rows at weight 0 is a sample of the other half."""
    first = batches[: len(batches) // 2]
    counted = sum(len(y) for _, y in first)
    weights = torch.zeros(sum(len(y) for _, y in batches))
    weights[:counted] = 2.0
    found, expected = (
        QuantDiagnostic(trained, rows, sample_weights=given) for rows, given in ((batches, weights), (first, None))
    )
    asked = {"landscape_steps": 5, "directions": 1}
    weighted, plain = (each.run_analysis(**asked).variants[0] for each in (found, expected))
    assert weighted.evaluation.loss == pytest.approx(plain.evaluation.loss, rel=1e-6)
    assert weighted.curvature.lambda_max.value == pytest.approx(plain.curvature.lambda_max.value, rel=1e-4)


def test_float_targets_are_a_regression() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    x = torch.randn(30, 4)
    diagnostic = QuantDiagnostic(model, [(x, torch.randn(30, 2))])
    diagnostic.add_int8_model()
    result = diagnostic.run_analysis(**QUICK)
    assert result.task == "regression"
    assert result.variant("Int8").evaluation.accuracy is None
    exact = (
        2
        / 60
        * torch.linalg.eigvalsh(
            torch.cat([x, torch.ones(30, 1)], 1).double().T @ torch.cat([x, torch.ones(30, 1)], 1).double()
        )
    )
    assert result.variant("FP32").curvature.lambda_max.value == pytest.approx(float(exact[-1]), rel=1e-4)


def test_yes_and_no_are_classes() -> None:
    model = nn.Linear(4, 1)
    data = [(torch.randn(30, 4), (torch.rand(30, 1) > 0.5).float())]
    result = QuantDiagnostic(model, data, criterion=nn.BCEWithLogitsLoss()).run_analysis(**QUICK)
    assert result.task == "classification"
    assert result.variant("FP32").evaluation.accuracy is not None


def test_batches_may_be_dicts_and_outputs_structured() -> None:
    class Scorer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(9, 4), nn.Linear(4, 3)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
            kept = self.embedding(input_ids) * attention_mask[..., None]
            return {"logits": self.head(kept.sum(1))}

    data = [
        {"input_ids": torch.randint(9, (16, 5)), "attention_mask": torch.ones(16, 5), "labels": torch.randint(3, (16,))}
    ]
    diagnostic = QuantDiagnostic(Scorer(), data)
    diagnostic.add_int8_model()
    assert diagnostic.run_analysis(**QUICK).variant("Int8").evaluation.accuracy is not None


def test_a_forward_and_a_criterion_of_ones_own(trained: nn.Module, batches: list) -> None:
    def halved(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return model(batch[0]) / 2

    def doubled(output: Tensor, target: Tensor) -> Tensor:
        return 3 * nn.functional.cross_entropy(2 * output, target)

    plain = QuantDiagnostic(trained, batches).run_analysis(**QUICK).variant("FP32")
    own = QuantDiagnostic(trained, batches, forward=halved, criterion=doubled).run_analysis(**QUICK).variant("FP32")
    assert own.evaluation.loss == pytest.approx(3 * plain.evaluation.loss, rel=1e-5)
    assert own.curvature.lambda_max.value == pytest.approx(3 * plain.curvature.lambda_max.value, rel=1e-3)


def test_without_targets_one_is_told_of_self_distillation(trained: nn.Module, batches: list) -> None:
    inputs = [x for x, _ in batches]
    with pytest.raises(DataError, match="no targets") as refused:
        QuantDiagnostic(trained, inputs)
    assert "self-distillation" in refused.value.hint
    diagnostic = QuantDiagnostic(trained, inputs, task="self-distillation")
    diagnostic.add_variant("int2")
    result = diagnostic.run_analysis(**QUICK)
    assert result.variant("FP32").evaluation.loss == pytest.approx(0, abs=1e-6)
    assert result.variant("int2").evaluation.loss > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_models_dtype_is_kept(trained: nn.Module, batches: list, dtype: torch.dtype) -> None:
    model = copy.deepcopy(trained).to(dtype)
    diagnostic = QuantDiagnostic(model, [(x.to(dtype), y) for x, y in batches])
    diagnostic.add_int8_model()
    result = diagnostic.run_analysis(**QUICK)
    assert all(tensor.dtype == dtype for tensor in diagnostic.dequantized_state("Int8").values())
    assert result.execution["dtype"] == str(dtype).removeprefix("torch.")
    assert result.variant("FP32").effective_bits == 8 * torch.empty(0, dtype=dtype).element_size()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there(trained: nn.Module, batches: list) -> None:
    with pytest.raises(DeviceError) as refused:
        QuantDiagnostic(trained, batches, device="cuda")
    assert refused.value.code == "device_unavailable"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_a_gpu_the_numbers_agree(trained: nn.Module, batches: list, result: RunResult) -> None:
    before = Remembered(trained)
    diagnostic = QuantDiagnostic(trained, batches, device="cuda")
    for bits in (8, 4):
        diagnostic.add_int8_model(bits)
    measured = diagnostic.run_analysis(landscape_steps=6, directions=2)
    before.assert_unchanged()
    for name in ("FP32", "Int8", "Int4"):
        ours, theirs = measured.variant(name), result.variant(name)
        assert ours.curvature.lambda_max.value == pytest.approx(theirs.curvature.lambda_max.value, rel=1e-3)
        assert ours.lines[0].loss == pytest.approx(theirs.lines[0].loss, rel=1e-3)


def test_a_state_dict_is_no_model(trained: nn.Module, batches: list) -> None:
    with pytest.raises(InputError, match="OrderedDict") as refused:
        QuantDiagnostic(trained.state_dict(), batches)
    assert "load_state_dict" in refused.value.hint


def test_names(trained: nn.Module, batches: list) -> None:
    diagnostic = QuantDiagnostic(trained, batches)
    diagnostic.add_int8_model(4, "Mine")
    diagnostic.add_int8_model(4, "Mine")  # a cell that is run twice
    for scheme, name in (("int8", "Mine"), ("int8", "FP32")):
        with pytest.raises(InputError, match="already") as refused:
            diagnostic.add_variant(scheme, name)
        assert refused.value.code == "duplicate_variant"
    with pytest.raises(SchemeError, match="unknown scheme"):
        diagnostic.add_int8_model(1)
    with pytest.raises(SchemeError, match="unknown scheme"):
        diagnostic.add_variant("int4-q")
    for said in ("int4+clip:steps=80", "int4+clip"):  # one recipe, so one variant
        diagnostic.add_variant(said)
    assert list(diagnostic.dequantized_state("int4+clip"))
    with pytest.raises(InputError, match="no variant"):
        diagnostic.dequantized_state("int4+clip:steps=80")
    diagnostic.add_variant({"bits": 4, "group_size": 32})
    assert list(diagnostic.dequantized_state("int4-g32"))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"landscape_steps": 1}, "landscape_steps"),
        ({"hessian_iters": 0}, "hessian_iters"),
        ({"distance": -1}, "distance"),
    ],
)
def test_options_out_of_range_are_named(trained: nn.Module, batches: list, options: dict, name: str) -> None:
    with pytest.raises(SpecError, match=name):
        QuantDiagnostic(trained, batches).run_analysis(**options)


def test_wrong_arguments_are_typed(
    trained: nn.Module, batches: list, tmp_path: Path, diagnostic: QuantDiagnostic
) -> None:
    for ask, code in (
        (lambda: QuantDiagnostic(trained, None), "bad_batch"),
        (lambda: QuantDiagnostic(trained, batches, task="guess"), "unknown_task"),
        (lambda: QuantDiagnostic(trained, batches).add_int8_model(model_int8="a path"), "no_model"),
        (lambda: QuantDiagnostic(trained, batches).add_variant(None), "unknown_scheme"),
        (lambda: trace_1d_loss(trained, batches, steps=1), "bad_argument"),
        (lambda: diagnostic.plot(tmp_path / "missing" / "plot.png"), "cannot_write"),
        (lambda: diagnostic.plot(tmp_path / "missing" / "plot.html"), "cannot_write"),
        (lambda: diagnostic.plot(tmp_path / "plot.png", landscape="rough"), "unknown_landscape"),
    ):
        with pytest.raises(InputError) as refused:
            ask()
        assert refused.value.code == code


def test_every_chart_of_the_page_is_a_figure_in_a_notebook(diagnostic: QuantDiagnostic, result: RunResult) -> None:
    for name in ("density", "eigenvalues", "convergence", "layer-curvature", "sharpness", "lines"):
        assert diagnostic.chart(name).data
    assert diagnostic.chart("density", mode="dark", horizontal="symlog").layout.xaxis.tickvals
    with pytest.raises(InputError, match="unknown chart"):
        diagnostic.chart("compare-density")


@pytest.mark.parametrize("curvature", [5, "all", [1], {1: 2}])
def test_options_that_are_no_dict_are_refused(
    curvature: object, trained: nn.Module, batches: list[tuple[Tensor, Tensor]]
) -> None:
    with pytest.raises(SpecError, match=r"^curvature is "):
        QuantDiagnostic(trained, batches).run_analysis(curvature=curvature, **QUICK)
