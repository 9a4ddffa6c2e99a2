"""The notebook's face: a model and a loader in, every variant measured beside the float model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from quant_lens_engine.diagnostic_options import diagnostic_options, option_mapping
from quant_lens_engine.errors import InputError
from quant_lens_engine.execution import computing, resolve_execution
from quant_lens_engine.intake.graphs.script_network import module_of_script
from quant_lens_engine.landscape_measurement import LandscapeMeasurement
from quant_lens_engine.measurement import VariantMeasurement, measure_variants
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.model_call import Forward
from quant_lens_engine.objective.placement import available_device
from quant_lens_engine.objective.sample import Sample
from quant_lens_engine.objective.sample_weights import checked_weights
from quant_lens_engine.objective.task_inference import count_classes, infer_task
from quant_lens_engine.objective.tasks import TASKS
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.quantization import (
    QuantizedVariant,
    calibrated_by,
    check_recipe,
    custom_variant,
    float_variant,
    quantize,
    usual_options,
)
from quant_lens_engine.report import written_report
from quant_lens_engine.schema import (
    FLOAT_VARIANT,
    ActivationOptions,
    BatchNormOptions,
    DataFacts,
    Execution,
    InspectPayload,
    Landscape,
    ModelFacts,
    QuantizationScheme,
    Recipe,
    RunResult,
    parse_recipe,
    parse_scheme,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

Loss = nn.Module | Callable[..., Tensor]


class QuantDiagnostic:
    """What quantization does to a model: loss, accuracy, curvature and landscape of every variant, on the same data
    and along the same directions.

    The model is never changed: device, mode, gradients, weights, frozen and tied parameters stay as they are, an
    exception included. The loader is read once, here, and kept on the CPU, so a shuffling one does no harm.

    Args:
        model: a float model, as it would be evaluated; it is always measured in ``eval()`` mode. A TorchScript module
            is measured as torch's own layers, put together from its frozen graph under its names.
        dataloader: any iterable of batches: tuples ``(x, y)``, or dicts with a key such as ``labels``.
        device: where to compute, such as ``"cuda"``; None for where the model is.
        criterion: the loss; None for the task's own. A function ``(output, target) -> loss`` of your own gives one loss
            a row, or the mean over the rows of its batch: batches are taken together by that, and taken apart where
            memory is short. Of a loss between rows (contrastive, ranking), or one divided by something else, every
            number depends on how rows are grouped.
        seed: of directions, start vectors and probes.
        forward: ``(model, batch) -> output``, for models that are called in their own way.
        calibration: batches of other rows, for static activation ranges and algorithms such as GPTQ; None: the rows
            that are evaluated are looked at too, and the result says so.
        task: ``"classification"``, ``"multi-label"``, ``"segmentation"``, ``"token-classification"``,
            ``"regression"``, ``"causal-lm"``, ``"masked-lm"`` or ``"self-distillation"``; None
            for classification where the targets are whole numbers, and regression where they are not.
        sample_weights: how much each row counts in the loss and its curvature ``(rows,)``; None: all the same.

    Raises:
        DeviceError: this machine does not have the device.
        DataError: no rows, NaN or infinity in them, or no targets where the loss needs them.
        CheckpointError: NaN or infinity in the weights.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> loader = [(torch.randn(32, 4), torch.randint(3, (32,)))]
        >>> diagnostic = QuantDiagnostic(model, loader)
        >>> diagnostic.add_int8_model()
        >>> diagnostic.add_variant("int4-g128")
        >>> metrics = diagnostic.run_analysis(landscape_steps=5, directions=1)
        >>> ", ".join(variant.name for variant in metrics.variants)
        'FP32, Int8, int4-g128'
        >>> metrics.variant("Int8").curvature.lambda_max.value > 0
        True
    """

    def __init__(
        self,
        model: nn.Module,
        dataloader: Iterable[Any],
        device: str | torch.device | None = None,
        *,
        criterion: Loss | None = None,
        seed: int = 0,
        forward: Forward | None = None,
        task: str | None = None,
        calibration: Iterable[Any] | None = None,
        sample_weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise InputError(
                f"a model is needed, not a {type(model).__name__}",
                hint="build the network, then network.load_state_dict(torch.load(path, weights_only=True))",
                code="no_model",
            )
        if isinstance(model, torch.jit.ScriptModule):  # torch cannot call one as a function of its parameters
            model = module_of_script(model)
        self.device = available_device(_device_of(model) if device is None else device)
        self.seed = seed
        self._model = model
        self._sample = Sample.read(dataloader)
        if sample_weights is not None:
            self._sample = self._sample.weighted(checked_weights(sample_weights, self._sample.rows))
        if calibration is dataloader:  # its rows are no others
            calibration = None
        self._calibration = None if calibration is None else Sample.read(calibration)
        self._criterion = criterion
        self._forward = forward
        self._task = TASKS[task].name if task else infer_task(self._sample, criterion)
        self._builders: dict[str, tuple[object, Callable[[Objective], QuantizedVariant]]] = {}
        self._measured: dict[str, QuantizedVariant] = {}
        self._result: RunResult | None = None

    def add_int8_model(
        self, num_bits: int = 8, name: str | None = None, *, model_int8: nn.Module | None = None
    ) -> None:
        """Add an integer variant (``intB``: symmetric, per-channel, weights only), or a quantized model of your own.

        Args:
            num_bits: 2 to 8, or 16.
            name: of the variant; None for ``Int8``, ``Int4`` …
            model_int8: a model that was quantized from this one: by ``torch.ao.quantization`` (dynamic, static, FX),
                torchao's ``quantize_`` or QAT, or PT2E. Loss and accuracy are then its own; curvature and the smooth
                landscape are taken at its dequantized weights
                (:func:`quant_lens_engine.quantization.custom_variant`).

        Raises:
            SchemeError: no such number of bits.
            InputError: ``duplicate_variant``: another variant has the name; ``no_model``.
        """
        scheme = parse_scheme(f"int{num_bits}")
        label = f"Int{num_bits}" if name is None else name
        if model_int8 is not None and not isinstance(model_int8, nn.Module):
            raise InputError(f"model_int8 is a model, not a {type(model_int8).__name__}", code="no_model")
        if model_int8 is None:
            self.add_variant(scheme, label)
        else:
            self._add(label, model_int8, lambda _: custom_variant(self._model, model_int8, label))

    def add_variant(self, scheme: str | QuantizationScheme | Recipe | dict[str, Any], name: str | None = None) -> None:
        """Add a variant in any scheme, by any algorithm: ``"int4-g128"``, ``"w8a8+smoothquant"``,
        ``"int3+gptq+skip:head"``.

        Args:
            scheme: the name of a scheme or a recipe, its JSON, or itself.
            name: of the variant; None for the recipe's.

        Raises:
            SchemeError: an unknown scheme or algorithm, or one that has no meaning for the scheme.
            InputError: ``duplicate_variant``: another variant has the name.
        """
        parsed = parse_recipe(scheme)
        check_recipe(parsed)
        parsed = parsed.without_usual(usual_options())
        label = name or parsed.name
        self._add(label, parsed, lambda objective: self._quantized(objective, parsed, label))

    def run_analysis(
        self,
        landscape_steps: int = 50,
        hessian_iters: int | None = None,
        *,
        distance: float | None = None,
        directions: int = 3,
        trace_probes: int = 64,
        tolerance: float = 1e-4,
        top: int = 5,
        bottom: int = 5,
        curvature: dict[str, Any] | None = None,
        line: dict[str, Any] | None = None,
        plane: dict[str, Any] | None = None,
        activations: bool = True,
        batchnorm: bool = True,
        progress: Progress = SILENT,
    ) -> RunResult:
        """Measure the float model and every variant that was added.

        Args:
            landscape_steps: points of a line; an even number becomes one more, so that α = 0 is sampled.
            hessian_iters: cap on Lanczos' Hessian-vector products; None for as many as λ to ``tolerance`` takes, at
                most 150. What did not converge says so (``curvature.converged``, ``curvature.reason``).
            distance: a line spans −distance to +distance, in units of ‖θ‖ per filter; None: as far as the float loss
                needs to double.
            directions: shared, filter-normalised random directions; several give a mean and a band.
            trace_probes: Rademacher probes of the trace.
            tolerance: relative accuracy aimed at for λmax and λmin.
            top: how many of the largest eigenvalues.
            bottom: how many of the smallest.
            curvature: more options of :class:`~quant_lens_engine.schema.CurvatureOptions`, such as
                ``{"layer_eigenvalues": "all", "density_runs": 8, "sharpness": False}``.
            line: more options of :class:`~quant_lens_engine.schema.LineOptions`, such as
                ``{"kinds": ["random", "eigenvector:1"]}``.
            plane: options of :class:`~quant_lens_engine.schema.PlaneOptions`, such as ``{"steps": 21}``; None: no plane
                is measured (41 × 41 points cost as many forward passes over the sample).
            activations: whether ranges, outliers and SQNR of each layer's output are measured.
            batchnorm: whether running statistics are compared with the data's, and estimated anew.
            progress: told where the work is; may stop it.

        Returns:
            the result, as command line and server give it; also kept for :meth:`report` and :meth:`plot`.

        Raises:
            SpecError: an option that is out of range.
        """
        named = {"max_products": hessian_iters, "trace_probes": trace_probes, "tolerance": tolerance, "top": top,
                 "bottom": bottom}  # fmt: skip
        walks = {"steps": landscape_steps, "distance": distance, "directions": directions}
        spectrum, lines, planes = diagnostic_options(
            named | option_mapping("curvature", curvature),
            walks | option_mapping("line", line),
            {"steps": 0} if plane is None else option_mapping("plane", plane),
        )
        block = self._execution()
        with computing(block):
            objective = self._objective(block)
            variants = {FLOAT_VARIANT: float_variant(objective.model)}
            variants |= {name: build(objective) for name, (_, build) in self._builders.items()}
            measurement = VariantMeasurement(
                objective=objective,
                curvature=spectrum,
                landscape=LandscapeMeasurement(
                    objective=objective,
                    line=lines,
                    plane=planes,
                    curvature=spectrum,
                    seed=self.seed,
                    progress=progress,
                    hvp_plan=block["hvp_plan"],
                    point_of=lambda name: variants[name].point,
                ),
                seed=self.seed,
                progress=progress,
                objective_on=lambda device: self._objective(block | {"device": str(device)}),
                hvp_plan=block["hvp_plan"],
                activations=ActivationOptions(enabled=activations),
                batchnorm=BatchNormOptions(enabled=batchnorm),
                calibration=self._calibrating(objective),
                overlap=self._calibration is None,
            )
            result = measure_variants(measurement, variants, self._inspect(block))
        self._measured, self._result = variants, result
        return result

    @property
    def result(self) -> RunResult:
        """What :meth:`run_analysis` returned last.

        Raises:
            InputError: ``not_analysed``: it has not been called.
        """
        if self._result is None:
            raise InputError("nothing is measured yet", hint="call run_analysis() first", code="not_analysed")
        return self._result

    def report(self) -> str:
        """The result as text: the verdict, a table of variants, the sharpness ratio of each, and how to read it."""
        return written_report(self.result)

    def plot(
        self, save_path: str | Path | None = None, *, landscape: Landscape = "smooth", mode: str = "light"
    ) -> Figure | Path:
        """Sharpness and loss lines of every variant.

        Args:
            save_path: ``.png``, ``.svg`` or ``.pdf`` (matplotlib; needs neither browser nor display), or ``.html`` (a
                self-contained interactive report). None to look at it in a notebook.
            landscape: ``"smooth"`` L(Q(w) + αd), or ``"deployed"`` L(Q(w + αd)).
            mode: ``"light"`` or ``"dark"``.

        Returns:
            the path that was written, or the figure.

        Raises:
            InputError: ``unknown_image_format``, ``unknown_landscape``, ``cannot_write``.
        """
        from quant_lens_engine.diagnostic_figure import draw_diagnostic, write_diagnostic

        if save_path is None:
            return draw_diagnostic(self.result, landscape=landscape, mode=mode)
        return write_diagnostic(self.result, Path(save_path), landscape=landscape, mode=mode)

    def chart(self, name: str, *, mode: str = "light", **options: Any) -> go.Figure:
        """One of the page's charts as an interactive Plotly figure.

        Args:
            name: ``"density"`` (options ``scale="log" | "linear"``, ``horizontal="linear" | "symlog"``),
                ``"eigenvalues"``, ``"convergence"``, ``"layer-curvature"`` (``measure="trace" | "lambda" |
                "per-parameter"``), ``"sharpness"``, ``"lines"`` (``landscape="smooth" | "deployed"``).
            mode: ``"light"`` or ``"dark"``.
            options: of the chart.

        Returns:
            the figure; an empty one where nothing was measured for it.

        Raises:
            InputError: ``unknown_figure``, ``unknown_mode``; ``not_analysed``.
        """
        from quant_lens_engine.diagnostic_figure import draw_chart

        return draw_chart(self.result, name, mode, **options)

    def dequantized_state(self, name: str) -> dict[str, Tensor]:
        """Every parameter of the float model as the variant has it: the point at which curvature was taken.

        Args:
            name: of the variant; ``"FP32"`` for the float model's own.

        Returns:
            ``{parameter: tensor}``, copies on the model's device, in its dtype; tied parameters once.

        Raises:
            InputError: ``unknown_variant``; ``no_dequantized_weights`` for a custom model whose weights could not be
                found under the float model's names.
        """
        variant = self._measured.get(name) or self._build(name)
        if variant.unmapped is not None:
            raise InputError(
                f"{name!r} has no dequantized weights: {variant.unmapped}",
                hint="quantize the float model itself, so that modules and names stay",
                code="no_dequantized_weights",
            )
        device = _device_of(self._model)
        return {key: tensor.detach().to(device, copy=True) for key, tensor in variant.point.items()}

    def _add(self, name: str, source: object, build: Callable[[Objective], QuantizedVariant]) -> None:
        taken = self._builders.get(name, (None, None))[0]
        if name == FLOAT_VARIANT or (taken is not None and taken != source):
            raise InputError(
                f"there is a variant {name!r} already", hint="give it another name=", code="duplicate_variant"
            )
        self._builders[name] = (source, build)  # the same one again is a cell that was run twice
        self._measured.pop(name, None)

    def _build(self, name: str) -> QuantizedVariant:
        if name == FLOAT_VARIANT:
            return float_variant(self._model)
        if name not in self._builders:
            raise InputError(
                f"no variant {name!r}",
                hint=f"there are {', '.join([FLOAT_VARIANT, *self._builders])}",
                code="unknown_variant",
            )
        block = self._execution()
        with computing(block):
            return self._builders[name][1](self._objective(block))

    def _quantized(self, objective: Objective, recipe: Recipe, name: str) -> QuantizedVariant:
        """The variant, made on the calibration rows where it looks at any."""
        rows = self._calibrating(objective) or objective
        variant = quantize(objective.model, recipe, rows, overlap=self._calibration is None, seed=self.seed)
        return replace(variant, name=name)

    def _calibrating(self, objective: Objective) -> Objective | None:
        """The same loss on the calibration rows; None where there are none of their own."""
        largest = max(batch.rows for batch in objective.sample.batches)
        return None if self._calibration is None else objective.over(self._calibration, largest)

    def _execution(self) -> dict[str, Any]:
        """How it is computed: the caller's threads, the model's dtype, the loader's batches where they fit."""
        largest = max(batch.rows for batch in self._sample.batches)
        asked = Execution(device=str(self.device), threads=torch.get_num_threads())
        block = resolve_execution(asked, self._objective, batch_size=largest)
        dtypes = {str(p.dtype).removeprefix("torch.") for p in self._model.parameters() if p.is_floating_point()}
        return block | {
            "dtype": " ".join(sorted(dtypes)),
            "micro_batch": None if block["micro_batch"] >= largest else block["micro_batch"],
        }

    def _objective(self, block: dict[str, Any]) -> Objective:
        return Objective(
            self._model,
            self._sample,
            self._criterion,
            task=self._task,
            forward=self._forward,
            device=block["device"],
            micro_batch=block["micro_batch"],
        )

    def _calibrating_rows(self) -> int:
        """Rows that a recipe has looked at."""
        recipes = [source for source, _ in self._builders.values() if isinstance(source, Recipe)]
        if not any(calibrated_by(recipe) for recipe in recipes):
            return 0
        return self._sample.rows if self._calibration is None else self._calibration.rows

    def _inspect(self, block: dict[str, Any]) -> InspectPayload:
        parameters = list(self._model.parameters())
        return InspectPayload(
            model=ModelFacts(
                architecture=type(self._model).__name__,
                parameters=sum(parameter.numel() for parameter in parameters),
                size_bytes=sum(tensor.nbytes for tensor in (*parameters, *self._model.buffers())),
            ),
            data=DataFacts(
                samples=self._sample.rows,
                available=self._sample.rows,
                batch_size=max(batch.rows for batch in self._sample.batches),
                calibration_samples=self._calibrating_rows(),
                overlap=bool(self._calibrating_rows()) and self._calibration is None,
                classes=count_classes(self._sample),
            ),
            execution=block,
        )


def _device_of(model: nn.Module) -> torch.device:
    tensor = next(iter([*model.parameters(), *model.buffers()]), None)
    return torch.device("cpu") if tensor is None else tensor.device
