"""From a float model and a recipe to a variant: its weights rounded, its activations too where the scheme says so."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.objective.model_call import Computation, check_finite_weights
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.quantization.algorithms import Algorithm, check_recipe
from quant_lens_engine.quantization.blocks import stored_bits
from quant_lens_engine.quantization.draft import Draft, needs_calibration
from quant_lens_engine.quantization.layer_order import run_order
from quant_lens_engine.quantization.layers import EMBEDDINGS, ENDS, WeightSite, WeightSurvey, survey_weights
from quant_lens_engine.quantization.quantized_forward import QuantizedForward
from quant_lens_engine.quantization.rounding import PointRounding
from quant_lens_engine.quantization.variant import QuantizedLayer, QuantizedVariant
from quant_lens_engine.schema import FLOAT_VARIANT, QuantizationScheme, Recipe, parse_recipe
from quant_lens_engine.schema.algorithms import rounds_nothing


def quantize(
    model: nn.Module, recipe: str | QuantizationScheme | Recipe, calibration: Objective | None = None, *,
    overlap: bool = False, seed: int = 0, progress: Progress = SILENT, stage: str = "",
) -> QuantizedVariant:  # fmt: skip
    """``model`` as a recipe says. The model itself is not touched.

    Args:
        model: a float model on any device; frozen and tied parameters are rounded like others.
        recipe: a name such as ``"int4-g128"`` or ``"w8a8+smoothquant"``, a scheme, or a recipe.
        calibration: the loss of the calibration rows as a function of ``model``'s parameters, at the float point;
            needed for static activation ranges and by most algorithms.
        overlap: calibration rows are among those that will be evaluated.
        seed: of everything random.
        progress: told which layer is worked on.
        stage: the stage's key.

    Raises:
        SchemeError: an unknown scheme or algorithm, ``not_defined``, ``needs_calibration``, ``no_such_layer``, or
            ``nothing_to_quantize``: no layer of the model has a weight to round.
        CheckpointError: ``non_finite_weights``, naming the tensors.

    Example:
        >>> variant = quantize(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), "int4")
        >>> variant.quantized_layers, sorted(variant.point)
        (2, ['0.bias', '0.weight', '2.bias', '2.weight'])
        >>> variant.effective_bits  # 4, and an fp32 scale for every 8 or 4 weights
        8.8
    """
    parsed = parse_recipe(recipe)
    algorithms = check_recipe(parsed)
    scheme = parsed.scheme
    if calibration is None and calibrated_by(parsed):
        raise needs_calibration(parsed.name)
    check_finite_weights(model)
    survey = _survey(model, parsed, algorithms, calibration)
    draft = Draft(model, scheme, survey, calibration, overlap, seed, progress, stage)
    _note_order(draft, parsed)
    for phase in ("prepare", "activations", "range", "round", "correct", "train"):
        if phase == "activations" and scheme.rounds_activations:
            draft.forward = _calibrated(draft, calibration)
            _note_activations(draft, calibration)
        for _, algorithm, options in algorithms:
            if algorithm.phase == phase:
                algorithm.apply(draft, options)
    return _finished(draft, parsed)


def refuse_recipe(model: nn.Module, recipe: Recipe, rows: Objective) -> None:
    """Raise what :func:`quantize` would raise for a recipe that does not go with the model, before anything is made.

    Args:
        model: the float model.
        recipe: what is asked for.
        rows: a few of them tell in which order layers run.

    Raises:
        SchemeError: an unknown algorithm, ``not_defined``, ``no_such_layer`` or ``nothing_to_quantize``.
    """
    _survey(model, recipe, check_recipe(recipe), rows)


def calibrated_by(recipe: Recipe) -> list[str]:
    """What of a recipe looks at calibration rows; empty where nothing does.

    Example:
        >>> from quant_lens_engine.schema import parse_recipe
        >>> calibrated_by(parse_recipe("w8a8+equalize")), calibrated_by(parse_recipe("int4-g128"))
        (['static activation ranges'], [])
    """
    static = ["static activation ranges"] if recipe.scheme.needs_calibration else []
    return static + [name for name, algorithm, _ in check_recipe(recipe) if algorithm.needs_calibration]


def float_variant(model: nn.Module) -> QuantizedVariant:
    """The float model itself as the variant ``FP32``: the baseline of every comparison.

    Raises:
        CheckpointError: ``non_finite_weights``, naming the tensors.

    Example:
        >>> float_variant(nn.Linear(4, 2).half()).effective_bits
        16.0
    """
    check_finite_weights(model)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return QuantizedVariant(
        name=FLOAT_VARIANT,
        recipe=None,
        point=weights,
        requantize=None,
        **_stored(model, []),
    )


def as_stored(variant: QuantizedVariant, model: nn.Module) -> QuantizedVariant:
    """``variant`` with the bits and bytes that it has beside ``model``: what is computed in float64 is not stored in
    it.

    Example:
        >>> model = nn.Linear(4, 2)
        >>> import copy
        >>> wide = float_variant(copy.deepcopy(model).double())
        >>> wide.size_bytes, as_stored(wide, model).size_bytes
        (80, 40)
    """
    return replace(variant, **_stored(model, variant.layers))


def model_bytes(model: nn.Module) -> int:
    """Bytes of all parameters and buffers as they are; tied tensors once.

    Example:
        >>> model_bytes(nn.Linear(3, 2))
        32
    """
    return sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))


def measure_rounding(weight: Tensor, rounded: Tensor) -> tuple[float | None, float]:
    """SQNR in dB (None where the weight is zero or nothing was lost) and the mean squared error, in float64.

    Example:
        >>> import torch
        >>> measure_rounding(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5]))
        (20.0, 0.125)
    """
    signal = float(weight.detach().double().square().sum())
    noise = float((weight.detach().double() - rounded.detach().double()).square().sum())
    sqnr = 10 * math.log10(signal / noise) if signal and noise else None
    return sqnr, noise / max(weight.numel(), 1)


@dataclass(frozen=True)
class Redeployment:
    """w → the network as it is deployed at w: weights rounded, static activation ranges calibrated anew."""

    draft: Draft
    requantize: PointRounding

    def __call__(self, weights: Point) -> tuple[dict[str, Tensor], Computation | None]:
        """The rounded point, and how activations are rounded there."""
        draft = self.draft
        if draft.forward is None or not draft.scheme.needs_calibration:
            return self.requantize(weights), draft.forward
        return self.requantize(weights), _calibrated(draft, draft.rows.at(weights))


def _survey(
    model: nn.Module, recipe: Recipe, algorithms: list[tuple[str, Algorithm, object]], calibration: Objective | None
) -> WeightSurvey:
    order = run_order(calibration) if calibration is not None else None
    survey = survey_weights(model, recipe.layers, order)
    trains = any(algorithm.phase == "train" for _, algorithm, _ in algorithms)
    if not survey.sites and not trains:
        raise _nothing_left(recipe, survey)
    if recipe.scheme.format != "float":
        return survey
    if not recipe.scheme.rounds_activations and not trains:
        raise rounds_nothing(recipe.name)
    return replace(survey, sites=[])


def _nothing_left(recipe: Recipe, survey: WeightSurvey) -> SchemeError:
    listed = "; ".join(f"{item.name}: {item.reason}" for item in survey.skipped[:5])
    if recipe.layers.skip or recipe.layers.only:
        return SchemeError(
            f"{recipe.name} leaves every layer of this model in float",
            hint=f"skip fewer. {listed}",
            code="nothing_to_quantize",
        )
    return SchemeError(
        "no layer of this model has a weight that can be rounded",
        hint=f"quantized are Linear, convolutions, Embedding, attention and recurrent layers. {listed}".strip(),
        code="nothing_to_quantize",
    )


def _calibrated(draft: Draft, rows: Objective | None) -> QuantizedForward:
    forward = QuantizedForward(draft.model, draft.scheme, draft.survey.modules, draft.smoothing)
    if rows is not None and draft.scheme.needs_calibration:
        forward.calibrate(rows, draft.progress)
    return forward


def _note_order(draft: Draft, recipe: Recipe) -> None:
    """Say where ``first`` and ``head`` are not by the order of running."""
    ends = [pattern for pattern in ENDS if pattern in (*recipe.layers.only, *recipe.layers.skip)]
    if draft.calibration is None and ends:
        draft.notes.append(
            f"{' and '.join(ends)} by the order in which layers are named: in which they run is not known without "
            "calibration rows"
        )


def _note_activations(draft: Draft, rows: Objective | None) -> None:
    """Say which activations stay in float although the scheme rounds activations."""
    assert draft.forward is not None
    modules = [(name, draft.model.get_submodule(name)) for name in draft.survey.modules]
    recurrent = [name for name, module in modules if isinstance(module, nn.RNNBase | nn.RNNCellBase)]
    experts = [site.layer for site in draft.survey.sites if site.layout.experts]
    if draft.scheme.activations is not None and recurrent:
        draft.notes.append(f"the hidden state of {', '.join(recurrent)} stays in float; its input is rounded")
    if draft.scheme.activations is not None and experts:
        draft.notes.append(
            f"what is computed between {', '.join(experts)} stays in float; the experts' input is rounded"
        )
    if rows is None:
        return
    draft.forward.meet(rows)
    met = {item.place.module for item in draft.forward.quantizers.values() if not item.place.inside_attention}
    unmet = [name for name, module in modules if name not in met and not isinstance(module, EMBEDDINGS)]
    if draft.scheme.activations is not None and unmet:
        draft.notes.append(
            f"no input of {', '.join(unmet)} was met on the calibration rows: where a layer's module is not called in "
            "the forward pass, and its weight not given to F.linear, a convolution or x @ weight.T, its input stays in "
            "float"
        )
    products = [item for item in draft.forward.quantizers.values() if item.place.inside_attention]
    if draft.forward.rounds_products and not products:
        seen = ["nn.MultiheadAttention", "F.scaled_dot_product_attention"]
        seen += ["products of two activations by @, matmul or bmm"] if draft.scheme.attention else []
        draft.notes.append(
            f"no attention was found whose products could be rounded: {', '.join(seen[:-1])} and {seen[-1]} are seen"
        )


def _finished(draft: Draft, recipe: Recipe) -> QuantizedVariant:
    weights, requantize = draft.weights, draft.requantize()
    point = requantize(weights)
    layers = [
        _measure(site, draft.scheme, weights[site.parameter], point[site.parameter]) for site in draft.survey.sites
    ]
    if draft.decided:
        draft.notes.append("deployed landscape: scales and the algorithm's choice of codes stay as they are")
    return QuantizedVariant(
        name=recipe.name,
        recipe=recipe,
        point=point,
        requantize=requantize,
        forward=draft.forward,
        redeploy=Redeployment(draft, requantize),
        layers=layers,
        skipped=draft.survey.skipped,
        notes=draft.notes,
        **_stored(draft.model, layers),
        quantized_layers=draft.survey.layers if layers or draft.forward else 0,
    )


def _measure(site: WeightSite, scheme: QuantizationScheme, weight: Tensor, rounded: Tensor) -> QuantizedLayer:
    channels, elements = site.layout.rows(weight).shape
    sqnr, error = measure_rounding(weight, rounded)
    return QuantizedLayer(
        name=site.layer,
        kind=site.kind,
        parameter=site.parameter,
        parameters=weight.numel(),
        sqnr_db=sqnr,
        weight_mse=error,
        bits=stored_bits(channels, elements, scheme) / weight.numel(),
    )


def _stored(model: nn.Module, layers: list[QuantizedLayer]) -> dict[str, Any]:
    """Effective bits and size of a model with these layers quantized; of the float model where there are none."""
    weights = dict(model.named_parameters())
    if not layers:
        sites = [weights[site.parameter] for site in survey_weights(model).sites] or list(weights.values())
        count, bits = sum(weight.numel() for weight in sites), 8.0 * sum(weight.nbytes for weight in sites)
        return {"effective_bits": bits / count if count else None, "size_bytes": model_bytes(model)}
    count, bits = sum(layer.parameters for layer in layers), sum(layer.bits * layer.parameters for layer in layers)
    rest = model_bytes(model) - sum(weights[layer.parameter].nbytes for layer in layers)
    return {"effective_bits": bits / count, "size_bytes": rest + math.ceil(bits / 8)}
