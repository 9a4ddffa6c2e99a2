"""Small results with the gaps that a chart meets: unfinished, not converged, without a band, without meaning."""

from __future__ import annotations

from typing import Any

from quant_lens_engine.schema import (
    Activation,
    Activations,
    Band,
    BatchNormDrift,
    ConvergenceStep,
    Curvature,
    DataFacts,
    Density,
    Eigenvalue,
    Evaluation,
    Histogram,
    InputRange,
    Landscape,
    LayerActivation,
    LayerCurvature,
    Line,
    ModelFacts,
    NormalizationDrift,
    OutputStatistics,
    ProbeEstimate,
    Reestimation,
    RunResult,
    Sharpness,
    SkippedLayer,
    TraceEstimate,
    Variant,
    Verdict,
    WorstCase,
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
            **spectrum(lambda_max),
        ),
        lines=[line("deployed", lift), line("smooth", lift)],
        activation_statistics=activations(lift, scheme is not None),
        batchnorm=drifts(lift),
    )  # fmt: skip


def activations(lift: float, quantized: bool) -> Activations:
    """Two layers: fc1 with outliers, fc2; the wider, the larger ``lift`` is."""
    layers = []
    for place, name in enumerate(("fc1", "fc2")):
        wide = (1 + place) * (1 + lift)
        beyond = int(9 * lift)
        output = OutputStatistics(
            elements=1000, minimum=-3 * wide, maximum=4 * wide, mean=0.1, std=wide, kurtosis=3.5 - place + lift,
            low_percentile=-2.5 * wide, high_percentile=3 * wide, outlier_share=0.01 * (1 - place) * (1 + lift),
            channels=8, channel_range_ratio=1.5 + place + lift,
            histogram=Histogram(
                low=-3.0 * (1 + place), high=4.0 * (1 + place), counts=[10, 500, 0, 490 - beyond], below=beyond,
            ),
        )  # fmt: skip
        given = InputRange(minimum=0.0, maximum=2.0, low=0.0, high=1.5, clipped_share=0.02) if quantized else None
        layers.append(
            LayerActivation(
                name=name, kind="Linear", quantized=quantized, output=output, input=given,
                sqnr_db=30.0 - 6 * place - 20 * lift if quantized else None,
                isolated_sqnr_db=30.0 - 2 * place - 20 * lift if quantized else None,
                reason=None if quantized else "the float model is what SQNR compares with",
            )
        )  # fmt: skip
    layers.append(LayerActivation(name="unused", kind="Linear", reason="its module is not called"))
    return Activations(layers=layers, samples=100)


def drifts(lift: float) -> BatchNormDrift:
    """Two normalisations that have drifted by ``lift``, and one that never runs."""
    layers = [
        NormalizationDrift(
            name=name, kind="BatchNorm2d", channels=8, mean_shift_rms=size + lift, mean_shift_worst=2 * (size + lift),
            worst_channel=3, variance_ratio=1 + lift, variance_ratio_min=0.9, variance_ratio_max=1.2 + 4 * lift,
        )
        for name, size in (("norm1", 0.01), ("norm2", 0.02))
    ]  # fmt: skip
    layers.append(NormalizationDrift(name="norm3", kind="BatchNorm2d", channels=8, reason="it is not called"))
    effect = Reestimation(
        layers=2, rows=100, overlap=True, loss_before=1.0 + lift, loss_after=1.0 + lift / 2, delta_loss=-lift / 2,
        delta_loss_standard_error=0.001, accuracy_before=0.98 - lift, accuracy_after=0.98 - lift / 2,
        delta_accuracy=lift / 2, delta_accuracy_standard_error=0.01,
    )  # fmt: skip
    return BatchNormDrift(layers=layers, samples=100, reestimation=effect)


def spectrum(top: float) -> dict[str, Any]:
    """What a curvature knows beyond λmax: two eigenvalues from each end, a coarse density, three steps, two layers."""
    values = [top, top / 2]
    return {
        "dimension": 2410,
        "largest": [Eigenvalue(value=v, lower=v, upper=1.1 * v, confidence=0.95, residual=0.01) for v in values],
        "smallest": [Eigenvalue(value=v, lower=2 * v, upper=v, confidence=0.95) for v in (-0.2, -0.1)],
        "density": Density(
            x=[-0.5, 0.0, top / 2, top], y=[0.1, 5.0, 0.0, 0.002], low=[0.0, 4.0, 0.0, 0.001],
            high=[0.2, 6.0, 0.01, 0.003], width=0.1, runs=4, confidence=0.95,
        ),
        "negative": ProbeEstimate(value=24.0, lower=10.0, upper=50.0, confidence=0.95),
        "positive": ProbeEstimate(value=300.0, lower=200.0, upper=410.0, confidence=0.95),
        "effective_rank": ProbeEstimate(value=13.0, standard_error=0.4, lower=12.2, upper=13.8, confidence=0.95),
        "convergence": [
            ConvergenceStep(products=n, highest=top - gap, highest_bound=top, highest_residual=gap)
            for n, gap in ((1, top / 2), (2, top / 100), (3, 0.0))
        ],
        "layers": [
            LayerCurvature(
                name=name, parameters=100,
                trace=TraceEstimate(
                    value=share * top, standard_error=0.1, lower=share * top - 0.2, upper=share * top + 0.2,
                ),
                lambda_max=Eigenvalue(value=share * top / 2, lower=share * top / 2, upper=share * top),
            )
            for name, share in (("fc1", 3.0), ("fc2", 6.0))
        ],
        "sharpness": Sharpness(
            relative_lambda_max=Eigenvalue(value=2 * top, residual=0.1),
            relative_trace=TraceEstimate(value=15 * top, standard_error=2.0),
            adaptive=WorstCase(radius=0.5, rise=1.5), plain=WorstCase(radius=0.05, rise=0.02),
        ),
        "hvps": 165.0,
        "products": {"eigenvalues": 108.0, "density": 36.0, "trace": 21.0},
    }  # fmt: skip


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
