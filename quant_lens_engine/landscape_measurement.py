"""Lines and planes of variants that are in memory: what landscape, curvature and quantization do together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from quant_lens_engine.curvature import HvpPlan, gradient_of, leading_eigenvectors
from quant_lens_engine.errors import Cancelled, InputError, QuantLensError
from quant_lens_engine.evaluation import FloatDistance, FloatOutputs
from quant_lens_engine.landscape import LineFrames, Surroundings, basin_rise, measure_lines, measure_path
from quant_lens_engine.landscape.distance import Reach
from quant_lens_engine.landscape.plane_frame import PlaneFrame, plane_frame
from quant_lens_engine.landscape.planes import (
    Adaptive,
    PlaceOf,
    deployed_places,
    measure_rows,
    quick_places,
    smooth_places,
)
from quant_lens_engine.landscape.quick_network import quick_network
from quant_lens_engine.landscape.readings import Divergence, Reader
from quant_lens_engine.landscape.surroundings import length, no_variant
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.function import Point
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.quantization import QuantizedVariant
from quant_lens_engine.schema import (
    FLOAT_VARIANT,
    CurvatureOptions,
    DirectionName,
    Line,
    LineOptions,
    LinePayload,
    PlaneOptions,
    PlanePart,
    PlanePayload,
    PlanePoint,
    PlannedPlane,
    StageKey,
    plane_parts,
    planned_planes,
)

PointOf = Callable[[str], Point]


@dataclass(frozen=True)
class LandscapeMeasurement:
    """How lines and planes of a run are measured; directions and grids are made once, for every variant.

    Attributes:
        objective: at the float point.
        line: options of lines.
        plane: options of planes.
        curvature: options of the eigenvectors that directions may follow.
        seed: of the directions.
        progress: told where the work is.
        hvp_plan: how Hessian products are taken.
        point_of: the dequantized parameters of a variant of the run, by name.
        checkpoints: further checkpoints of the same training, by name.
    """

    objective: Objective
    line: LineOptions
    plane: PlaneOptions = field(default_factory=PlaneOptions)
    curvature: CurvatureOptions = field(default_factory=CurvatureOptions)
    seed: int = 0
    progress: Progress = SILENT
    hvp_plan: HvpPlan | None = None
    point_of: PointOf = no_variant
    checkpoints: Mapping[str, Point] = field(default_factory=dict)
    _frames: list[LineFrames] = field(default_factory=list, repr=False)
    _planes: dict[tuple[str, str], PlaneFrame] = field(default_factory=dict, repr=False)
    _reaches: dict[tuple[str, str], Reach] = field(default_factory=dict, repr=False)
    _quick: dict[PlannedPlane, tuple[PlaceOf, str] | None] = field(default_factory=dict, repr=False)
    _scales: list[float] = field(default_factory=list, repr=False)
    _vectors: dict[int, Tensor] = field(default_factory=dict, repr=False)

    @property
    def around(self) -> Surroundings:
        """The float point, and where directions can lead from it."""
        return Surroundings(
            self.objective,
            self.seed,
            point_of=self.point_of,
            eigenvector=self._eigenvector,
            gradient=lambda: gradient_of(self.objective, self.progress.check_cancelled)[0],
            checkpoints=tuple(self.checkpoints.values()),
        )

    def walk(self, variant: QuantizedVariant, reference: FloatOutputs | None, stage: str) -> LinePayload:
        """The loss along the shared directions, deployed and smooth, and on the way from FP32."""
        if variant.unmapped is not None:
            return LinePayload(lines=[Line(landscape="smooth", reason=variant.unmapped)])
        is_float = variant.name == FLOAT_VARIANT
        live = variant.live(self.objective)
        if not self._frames:
            ranging = Reader(self.progress, stage, 0, _divergence(reference))
            self._frames.append(LineFrames(self.around, self.line, ranging))
        lines = measure_lines(
            self.objective,
            base_point=self.objective.point,
            variant=None if is_float else live,
            smooth=variant.smooth(self.objective),
            redeploy=variant.redeploy,
            options=self.line,
            seed=self.seed,
            frames=self._frames[0],
            divergence=_divergence(reference),
            progress=self.progress,
            stage=stage,
        )
        path = None
        if self.line.path and not is_float:
            path = measure_path(
                self.objective, live, points=self.line.points, divergence=_divergence(reference),
                progress=self.progress, stage=stage,
            )  # fmt: skip
        spent = sum(line.elapsed_s for line in (*lines, *([path] if path else [])))
        return LinePayload(lines=lines, path=path, elapsed_s=spent)

    def planned(self, schemes: Sequence[str]) -> dict[str, list[tuple[StageKey, PlannedPlane, PlanePart]]]:
        """Every piece of every plane, by the variant whose network it is of."""
        found: dict[str, list[tuple[StageKey, PlannedPlane, PlanePart]]] = {}
        for plane in planned_planes(self.plane, schemes):
            for part in plane_parts(plane, self.plane):
                key = StageKey("plane", plane.variant, str(part))
                found.setdefault(plane.variant, []).append((key, plane, part))
        return found

    def piece(
        self, variant: QuantizedVariant, plane: PlannedPlane, part: PlanePart, variants: Sequence[str], stage: str
    ) -> PlanePayload:
        """Some rows of a plane. The first piece also says where the models are.

        In memory stand the parameters, the two axes and the place that is measured (deployed: and that place rounded),
        or, while axes are made, the models that they lead to. Of other planes and of lines nothing is kept.

        Args:
            variant: whose network it is.
            plane: which plane.
            part: which rows.
            variants: names of the run's models.
            stage: the stage's key.

        Raises:
            InputError: ``unmapped_variant``; a direction cannot be made.
        """
        rows = part.rows(self.plane.points)
        marked = variants if part.piece == 0 else ()
        if variant.unmapped is not None:
            raise InputError(variant.unmapped, code="unmapped_variant")
        reader = Reader(self.progress, stage, len(rows) * self.plane.points)
        frame = self._frame(plane.directions, stage)
        origin = self.objective.point if frame.joins or plane.landscape == "deployed" else variant.point
        at, method = self._places(variant, plane, frame, origin)
        measured = measure_rows(
            frame, at, rows, landscape=plane.landscape, reader=reader,
            points=list(self._points(frame, origin, marked)), network=_network(variant, plane), method=method,
            adaptive=self._adaptive(plane),
        )  # fmt: skip
        return PlanePayload(plane=measured, elapsed_s=measured.elapsed_s)

    def _frame(self, directions: tuple[str, str], stage: str) -> PlaneFrame:
        """The axes of one plane are kept, for its next pieces and other variants; of others the distance, which takes
        losses to find."""
        if directions not in self._planes:
            self._quick.clear()
            self._planes.clear()
            for lines in self._frames:
                lines.let_go()
            silent, reach = Reader(self.progress, stage, 0), self._reaches.get(directions)
            frame = self._planes[directions] = plane_frame(self.around, directions, self.plane, silent, reach)
            self._reaches[directions] = frame.reach
            if not self._follows_eigenvectors_still():
                self._vectors.clear()
        return self._planes[directions]

    def _follows_eigenvectors_still(self) -> bool:
        """Whether a line or another plane needs what an eigenvector plane has made its axes from."""
        pairs = [name for pair in self.plane.pairs or () if tuple(pair) not in self._planes for name in pair]
        return any(DirectionName.parse(name).kind == "eigenvector" for name in (*pairs, *self.line.kinds))

    def _places(
        self, variant: QuantizedVariant, plane: PlannedPlane, frame: PlaneFrame, origin: Point
    ) -> tuple[PlaceOf, str]:
        """The losses of a plane by place, and how they are computed; the quick form is made once a plane."""
        if plane.landscape == "deployed" and variant.redeploy is not None:
            return deployed_places(frame, self.objective, variant.redeploy), ""
        if plane not in self._quick:
            self._quick.clear()  # of another plane, whose pieces are done
            quick = quick_network(variant.smooth(self.objective), origin, frame.axes, self.plane.points**2)
            self._quick[plane] = None if quick is None else (quick_places(frame, quick), quick.sentence)
        return self._quick[plane] or (smooth_places(frame, variant.smooth(self.objective), origin), "")

    def _adaptive(self, plane: PlannedPlane) -> Adaptive | None:
        """A staircase is measured in full: nothing foretells a step."""
        if self.plane.sampling == "full" or plane.landscape == "deployed":
            return None
        if not self._scales:
            self._scales.append(basin_rise(self.objective.loss()))
        return Adaptive(self.plane.tolerance, self._scales[0])

    def _points(self, frame: PlaneFrame, origin: Point, marked: Sequence[str]) -> Iterator[PlanePoint]:
        """One model after the other, so that no more than one copy of the parameters is held for it."""
        around = self.around
        whole = length(around.base)
        for name in (*marked, *(self.checkpoints if marked else ())):
            try:
                steps = around.steps_to(self._model(name), origin)
            except Cancelled:
                raise
            except QuantLensError:  # a variant that cannot be made has no place, and fails by itself
                continue
            yield frame.locate(name, steps, whole)
            del steps  # and the model with it, before the next is made

    def _model(self, name: str) -> Point:
        if name == FLOAT_VARIANT:
            return self.objective.point
        return self.checkpoints[name] if name in self.checkpoints else self.point_of(name)

    def _eigenvector(self, number: int) -> Tensor:
        """By a computation of its own: a vector has other last digits beside more of them, and whatever a worker has
        made before, its pieces go with those of the others."""
        count = max(number, 2)
        if count not in self._vectors:
            self._vectors[count], _ = leading_eigenvectors(
                self.objective, count, tolerance=self.curvature.tolerance, seed=self.seed,
                max_products=self.curvature.max_products, hvp_plan=self.hvp_plan,
            )  # fmt: skip
        return self._vectors[count][number - 1]


def _divergence(reference: FloatOutputs | None) -> Callable[[], Divergence] | None:
    """Where the float model's scores are not kept, every point would compute them again: then there is no KL."""
    if reference is None or reference.logits is None:
        return None
    return lambda: FloatDistance(reference)


def _network(variant: QuantizedVariant, plane: PlannedPlane) -> str:
    if variant.forward is None:
        return ""
    if plane.landscape == "deployed":
        return "activations are rounded anew at each point"
    return "activations keep the rounding offsets that they have at the variant"
