"""Small results with the gaps that a chart meets: unfinished, not converged, without a band, without meaning."""

from __future__ import annotations

from quant_lens_engine.schema import (
    Activation,
    Band,
    Curvature,
    DataFacts,
    Eigenvalue,
    Evaluation,
    Landscape,
    Line,
    ModelFacts,
    RunResult,
    SkippedLayer,
    TraceEstimate,
    Variant,
    Verdict,
    compare_to_float,
    parse_recipe,
    parse_scheme,
)

ALPHAS = [-1.0, -0.5, 0.0, 0.5, 1.0]


def line(landscape: Landscape, lift: float, *, directions: int = 2) -> Line:
    loss = [1.0 + lift + alpha * alpha for alpha in ALPHAS]
    band = Band(low=[value * 0.9 for value in loss], high=[value * 1.1 for value in loss]) if directions > 1 else None
    return Line(landscape=landscape, directions=directions, alphas=ALPHAS, loss=list(loss), band=band, basin_width=0.4)


def variant(name: str, lambda_max: float | None, lift: float = 0.0, converged: bool = True) -> Variant:
    scheme = None if name == "FP32" else {"name": name, **parse_scheme(name).model_dump()}
    return Variant(
        name=name,
        scheme=scheme,
        effective_bits=32.0 if scheme is None else float(scheme["bits"]),
        size_bytes=377_000,
        evaluation=Evaluation(
            loss=1.0 + lift, loss_standard_error=0.01, accuracy=0.98 - lift, accuracy_standard_error=0.01, samples=100,
            delta_loss=None if scheme is None else lift, delta_loss_standard_error=None if scheme is None else 0.001,
        ),
        curvature=None if lambda_max is None else Curvature(
            lambda_max=Eigenvalue(value=lambda_max, residual=0.01, batch_std=0.5),
            trace=TraceEstimate(value=10 * lambda_max, standard_error=1.0, probes=64),
            converged=converged,
        ),
        lines=[line("deployed", lift), line("smooth", lift)],
    )  # fmt: skip


def result(*variants: Variant) -> RunResult:
    """A result of these variants, the float model first; the last one has a verdict."""
    found = RunResult(
        engine_version="0", variants=list(variants), model=ModelFacts(architecture="digits-mlp", parameters=2410),
        data=DataFacts(samples=100),
    )  # fmt: skip
    found.comparisons = [compare_to_float(variants[0], item) for item in variants[1:]]
    if found.comparisons:
        found.comparisons[-1].verdict = Verdict(level="caution", reasons=["accuracy falls by 2 points"])
    return found


def usual() -> RunResult:
    return result(variant("FP32", 10.0), variant("int8", 10.2, 0.001), variant("int2", 40.0, 0.3))


def recipes() -> RunResult:
    """A static scheme, a recipe with algorithms and skipped layers, and a plain one, on rows that overlap."""
    found = result(
        *(recipe_variant(name) for name in ("FP32", "w8a8", "w4a8+smoothquant:alpha=0.7+gptq+skip:head", "int8"))
    )
    static, recipe, plain = found.variants[1:]
    static.calibrated_by, recipe.calibrated_by = ["static activation ranges"], ["smoothquant", "gptq"]
    static.activations = [
        Activation(name="fc1", format="int8", low=-0.25, high=4.4821), Activation(name="fc2", format="int8-dynamic"),
    ]  # fmt: skip
    recipe.notes = ["deployed landscape: scales stay as they are"]
    recipe.skipped_layers = [SkippedLayer(name="fc2", reason="left in float by +skip:head")]
    static.quantized_layers, recipe.quantized_layers, plain.quantized_layers = 2, 1, 2
    found.data = DataFacts(samples=100, available=120, calibration_samples=120, overlap=True)
    return found


def recipe_variant(name: str) -> Variant:
    """A variant of a recipe, as a result has it."""
    base = variant(name.partition("+")[0], 10.0, 0.001)
    recipe = None if name == "FP32" else parse_recipe(name)
    return base.model_copy(
        update={
            "name": name,
            "algorithms": [step.model_dump() for step in recipe.algorithms] if recipe else [],
            "layer_choice": {"skip": list(recipe.layers.skip)} if recipe and recipe.layers.skip else {},
        }
    )
