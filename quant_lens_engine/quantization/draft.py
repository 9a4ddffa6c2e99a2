"""A variant while it is being made: what algorithms look at, and what they leave behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.objective import Objective
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.quantization.blocks import working
from quant_lens_engine.quantization.grid import Grid, observe_grid
from quant_lens_engine.quantization.layer_inputs import Moments, role_of, why_no_inputs
from quant_lens_engine.quantization.layer_order import layers_run
from quant_lens_engine.quantization.layers import WeightSite, WeightSurvey
from quant_lens_engine.quantization.quantized_forward import QuantizedForward
from quant_lens_engine.quantization.rounding import (
    UNSCALED,
    Decided,
    Moved,
    Observe,
    PointRounding,
    Scaling,
    ToNearest,
    WeightRounding,
    per_part,
)
from quant_lens_engine.schema import QuantizationScheme


@dataclass
class Draft:
    """A variant while it is being made.

    Attributes:
        model: the float model; not to be changed.
        scheme: what it is brought into.
        survey: its weights.
        calibration: the loss of the calibration rows, at the float point; None where there are none.
        overlap: calibration rows are among those that are evaluated.
        seed: of everything random.
        progress: told where the work is.
        stage: the stage's key.
        observe: the grid of a weight matrix; a clipping search takes its place.
        scalings: equivalent transformations, by the weight's name.
        smoothing: factors that an input is divided by before rounding, by the name of the module that reads it (and
            what of it, where attention reads query, key and value apart).
        decided: roundings that an algorithm has chosen, by the weight's name.
        shifts: what is added to parameters: corrected biases, trained weights.
        forward: the network with rounded activations, once their ranges are known.
        notes: what a reader should know, in sentences.
    """

    model: nn.Module
    scheme: QuantizationScheme
    survey: WeightSurvey
    calibration: Objective | None = None
    overlap: bool = False
    seed: int = 0
    progress: Progress = SILENT
    stage: str = ""
    observe: Observe = observe_grid
    scalings: dict[str, Scaling] = field(default_factory=dict)
    smoothing: dict[str, Tensor] = field(default_factory=dict)
    decided: dict[str, WeightRounding] = field(default_factory=dict)
    shifts: dict[str, Tensor] = field(default_factory=dict)
    forward: QuantizedForward | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> Objective:
        """The calibration rows' loss.

        Raises:
            SchemeError: ``needs_calibration``: there are none.
        """
        if self.calibration is None:
            raise needs_calibration(self.scheme.name)
        return self.calibration

    @property
    def weights(self) -> dict[str, Tensor]:
        """The float point."""
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}

    def matrix(self, site: WeightSite) -> Tensor:
        """The float weight as ``(channels, elements)``, transformed as it is when it is rounded."""
        weight = self.model.get_parameter(site.parameter).detach()
        return self.scaling(site).apply(working(site.layout.rows(weight)))

    def scaling(self, site: WeightSite) -> Scaling:
        """The transformation of a weight."""
        return self.scalings.get(site.parameter, UNSCALED)

    def scale(self, site: WeightSite, *, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
        """Transform a weight further."""
        self.scalings[site.parameter] = self.scaling(site).after(rows=rows, columns=columns)

    def smooth(self, sites: Sequence[WeightSite], factors: Tensor) -> None:
        """Divide the input of layers further before it is rounded."""
        for reader in dict.fromkeys(".".join(filter(None, (site.module, role_of(site)))) for site in sites):
            known = self.smoothing.get(reader)
            self.smoothing[reader] = factors if known is None else known * factors

    def grid(self, site: WeightSite) -> Grid:
        """The values that each weight of a layer can take."""
        return self.observe(self.matrix(site), self.scheme)

    def decide(self, site: WeightSite, chosen: Tensor, grid: Grid) -> None:
        """Keep the values chosen for a weight, in the coordinates of :meth:`matrix`."""
        weight = self.model.get_parameter(site.parameter)
        self.decided[site.parameter] = Decided.of(chosen, weight, grid, site.layout, self.scaling(site))

    def rounding(self, site: WeightSite) -> WeightRounding:
        """How a weight is rounded, as far as is decided."""
        inner = self.decided.get(site.parameter) or ToNearest(
            self.scheme, site.layout, self.scaling(site), self.observe
        )
        shift = self.shifts.get(site.parameter)
        return inner if shift is None else Moved(inner, shift)

    def requantize(self) -> PointRounding:
        """w → Q(w), as far as is decided."""
        roundings = {site.parameter: self.rounding(site) for site in self.survey.sites}
        return PointRounding(roundings, {name: shift for name, shift in self.shifts.items() if name not in roundings})

    def point(self) -> dict[str, Tensor]:
        """The dequantized parameters, as far as is decided."""
        return self.requantize()(self.weights)

    def sites_with_inputs(self, algorithm: str) -> list[WeightSite]:
        """The weights whose inputs are matrices, in the order in which their layers run; of the others a note is
        made."""
        kept: list[WeightSite] = []
        reasons: dict[str, list[str]] = {}
        run = layers_run(self.rows)
        for site in self.survey.sites:
            reason = why_no_inputs(self.model, site, by_function=site.module in run.by_function)
            if reason is None:
                kept.append(site)
            else:
                reasons.setdefault(reason, []).append(site.layer)
        for reason, names in reasons.items():
            self.notes.append(f"{algorithm} passes over {', '.join(names)}: {reason}")
        places = {name: place for place, name in enumerate(run.order)}
        return sorted(
            kept, key=lambda site: places.get(site.module, places.get(site.module.rpartition(".")[0], len(places)))
        )

    def reached(self, algorithm: str, sites: Sequence[WeightSite], moments: Mapping[str, Moments]) -> list[WeightSite]:
        """The layers that calibration rows have come to; of the others a note is made."""
        missed = [site.layer for site in sites if not moments[site.parameter].seen]
        if missed:
            self.notes.append(
                f"{algorithm} passes over {', '.join(missed)}: no calibration row comes by, or a function is given the "
                "weight that is not followed (followed are F.linear, convolutions and x @ weight.T)"
            )
        return [site for site in sites if moments[site.parameter].seen]

    def tell(self, what: str, done: int, total: int) -> None:
        """Progress of one algorithm within the stage."""
        self.progress.check_cancelled()
        self.progress.report(self.stage, done, total, what)


def needs_calibration(name: str) -> SchemeError:
    """There are no rows to look at."""
    return SchemeError(
        f"{name} needs calibration rows",
        hint="give QuantDiagnostic calibration=, or data with rows to spare",
        code="needs_calibration",
    )


def output_error(difference: Tensor, gram: Tensor) -> Tensor:
    """Σ over positions of ‖ΔW x‖², for each channel ``(channels,)``, from the inputs' second moments.

    Args:
        difference: ΔW ``(channels, elements)``.
        gram: Σ x xᵀ ``(parts, elements, elements)``.
    """
    delta = per_part(difference.double(), len(gram))
    errors: Tensor = ((delta @ gram) * delta).sum(-1)
    return errors.flatten()
