"""What a run is about: a checkpoint as a model, and the rows that it is measured on, checked against each other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quant_lens_engine.errors import DataError, SpecError, is_out_of_memory
from quant_lens_engine.intake import (
    EXAMPLE_DATA,
    Architecture,
    Arrays,
    Checkpoint,
    Rows,
    build_model,
    choose_architecture,
    draw_calibration,
    example_path,
    folder_sha256,
    load_plugins,
    open_checkpoint,
    read_arrays,
    read_trajectory,
    rows_for,
    select_rows,
)
from quant_lens_engine.intake.adapters import merge_adapter, read_adapter
from quant_lens_engine.intake.label_fit import check_columns, check_label_range, check_positions
from quant_lens_engine.intake.language_rows import LANGUAGE_TASKS
from quant_lens_engine.intake.matching import loading_notes
from quant_lens_engine.objective import Objective
from quant_lens_engine.objective.model_call import ModelCall, checked_scores
from quant_lens_engine.objective.tasks import TASKS
from quant_lens_engine.progress import SILENT, Progress
from quant_lens_engine.quantization import calibrated_by, usual_options
from quant_lens_engine.schema import DataSource, ModelSource, RunSpec, Transform
from quant_lens_engine.schema.recipe_check import distinct_recipes

Files = Mapping[str, Path]
"""Where each file is: by its SHA-256, and by the name of each allowed path."""

AVAILABLE_TASKS = (
    "classification", "multi-label", "segmentation", "token-classification", "regression", "causal-lm",
    "masked-lm", "self-distillation",
)  # fmt: skip
"""What a data file can be measured for."""

_TRIED_ROWS = 2
_MAY_BE_FOLDERS = ("model", "adapter", "data", "calibration")


@dataclass(frozen=True)
class CalibrationRows:
    """Rows that static activation ranges and algorithms look at.

    Attributes:
        rows: transformed like those of the evaluation.
        overlap: whether some of them are evaluated too: there were too few others.
        sha256: of their file, where it is not the data's own.
    """

    rows: Rows
    overlap: bool = False
    sha256: str | None = None


@dataclass(frozen=True)
class Subject:
    """A model and its rows.

    Attributes:
        spec: the run.
        checkpoint: the model's file.
        architecture: what it was built as.
        model: on the CPU, in float32 and ``eval()`` mode.
        rows: the run's fixed sample, transformed.
        model_sha256: of the checkpoint's bytes.
        data_sha256: of the data file's bytes, or of an example's arrays.
        outputs: width of the model's answer; None where it has none.
        notes: sentences on what was recognised.
        calibration: rows for ranges and algorithms; None where no scheme of the run needs them.
        trajectory: the parameters of further checkpoints of the same training, by name.
    """

    spec: RunSpec
    checkpoint: Checkpoint
    architecture: Architecture
    model: nn.Module
    rows: Rows
    model_sha256: str
    data_sha256: str
    outputs: int | None = None
    notes: tuple[str, ...] = ()
    calibration: CalibrationRows | None = None
    trajectory: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def read(
        cls, spec: RunSpec, files: Files, plugins: Path | None = None, progress: Progress = SILENT, *,
        trusted: bool = False,
    ) -> Subject:  # fmt: skip
        """Read both files, build the model and try it on the first rows.

        Args:
            spec: the run.
            files: where each file is.
            plugins: the team's folder of plug-ins.
            progress: told what is being read.
            trusted: the model's file may be run to read it, where its format is code; no other file ever is.

        Raises:
            SpecError: an unknown example, a file that is not there, a task that has no data here.
            CheckpointError: the model file; ``non_finite_weights``.
            ArchitectureError: nothing fits, or not what was chosen.
            DataError: the data file, its labels, or rows that the model does not take.
            SchemeError: an algorithm that is unknown, or not defined for its scheme; two recipes that mean the same.
        """
        calibrated = [recipe for recipe in spec.schemes if calibrated_by(recipe)]
        distinct_recipes(spec.schemes, usual_options())
        if spec.task not in AVAILABLE_TASKS:
            raise SpecError(
                f"the task {spec.task!r} cannot be measured here",
                hint=f"one of {', '.join(AVAILABLE_TASKS)}",
                code="task_unavailable",
            )
        load_plugins(plugins)
        checkpoint, model_sha256 = _open_model(spec.model, files, trusted=trusted)
        checkpoint.check_finite()
        if checkpoint.named is not None:
            checkpoint.named.require(spec.task)
        architecture = choose_architecture(checkpoint, spec.model.architecture, spec.model.options)
        progress.report("inspect", 1, 4, "building the model")
        model = build_model(checkpoint, architecture, spec.model.options)
        progress.report("inspect", 2, 4, "reading the data")
        shown, arrays, data_sha256 = _open_data(spec.data, files)
        arrays = rows_for(arrays, checkpoint, model, spec, shown)
        rows = select_rows(
            arrays,
            spec.data.transform,
            limit=spec.data.limit,
            seed=spec.seed,
            task=spec.task,
            tokens=_holds_tokens(model, arrays, spec.data.transform),
            dtype=spec.execution.dtype,
            shown=shown,
        )
        notes = (*loading_notes(checkpoint, architecture, spec.model.options), *arrays.notes)
        found = cls(spec, checkpoint, architecture, model, rows, model_sha256, data_sha256, notes=notes)
        found = replace(found._tried(shown), trajectory=_open_trajectory(spec.model, files, architecture))
        return replace(found, calibration=found._calibration(arrays, shown, files)) if calibrated else found

    def objective(self, block: Mapping[str, Any]) -> Objective:
        """The loss of these rows as a function of the model's parameters, computed as the execution block says."""
        return Objective(
            self.model,
            list(self._batches(self.rows)),
            task=self.spec.task,
            device=block["device"],
            dtype=block["dtype"],
            micro_batch=block["micro_batch"],
        )

    def calibration_objective(self, evaluated: Objective, block: Mapping[str, Any]) -> Objective | None:
        """The loss of the calibration rows, computed like ``evaluated``; None where there are none."""
        if self.calibration is None:
            return None
        return evaluated.over(list(self._batches(self.calibration.rows)), block["micro_batch"])

    def _batches(self, rows: Rows) -> Iterator[tuple[Tensor, ...] | dict[str, Tensor]]:
        size = self.spec.data.batch_size
        columns = {"x": rows.x} if rows.mask is None else {"input_ids": rows.x, "attention_mask": rows.mask}
        columns |= {} if rows.y is None else {"labels": rows.y}
        for first in range(0, len(rows.x), size):
            batch = {name: torch.from_numpy(column[first : first + size]) for name, column in columns.items()}
            yield tuple(batch.values()) if rows.mask is None else batch

    def _calibration(self, arrays: Arrays, shown: str, files: Files) -> CalibrationRows:
        """Rows that the evaluation has not: from a file of their own, from what came along, or from the same file."""
        wanted = self.spec.data.calibration
        evaluated: np.ndarray | None = None
        sha256 = None
        if wanted.file is not None and wanted.file != self.data_sha256:  # the same file has the same rows
            path, shown, sha256 = _find(wanted.file, None, files, "calibration")
            arrays = rows_for(read_arrays(path, shown)[1], self.checkpoint, self.model, self.spec, shown)
        elif arrays.calibration is not None:
            arrays = arrays.calibration
        else:
            evaluated = self.rows.indices
        drawn, overlap = draw_calibration(len(arrays.x), wanted.limit, self.spec.seed, evaluated)
        rows = select_rows(
            arrays,
            self.spec.data.transform,
            seed=self.spec.seed,
            task=self.spec.task,
            tokens=self.rows.x.dtype.kind == "i",
            dtype=self.spec.execution.dtype,
            shown=shown,
            indices=drawn,
        )
        return CalibrationRows(self._fitting(rows, shown), overlap, sha256)

    def _fitting(self, rows: Rows, shown: str) -> Rows:
        """Calibration rows that the model can take and whose labels it has."""
        if rows.mask is not None:  # texts, as long as they are
            return rows
        if rows.x.shape[1:] != self.rows.x.shape[1:]:
            raise DataError(
                f"{shown}: a calibration row has the shape {list(rows.x.shape[1:])}, a row of the data "
                f"{list(self.rows.x.shape[1:])}",
                hint="calibrate on rows like those that are measured",
                code="wrong_shape",
            )
        if self.rows.y is not None and rows.y is not None and rows.y[0].size != self.rows.y[0].size:
            raise DataError(
                f"{shown}: calibration labels have the shape {list(rows.y.shape[1:])} a row, those of the data "
                f"{list(self.rows.y.shape[1:])}",
                hint="calibrate on rows like those that are measured",
                code="wrong_shape",
            )
        if self.rows.y is not None and self.rows.y.dtype.kind == "i":
            check_label_range(rows, self.outputs or 0, shown)
        elif self.rows.y is not None and rows.y is not None:
            return replace(rows, y=rows.y.reshape(len(rows.y), *self.rows.y.shape[1:]))
        return rows

    def _tried(self, shown: str) -> Subject:
        """The same, once the model has taken the first rows and its answer goes with the labels."""
        answer = self._answer_to_first_rows(shown)
        if self.spec.task == "regression" and self.rows.y is not None:
            return replace(self, rows=_fit_targets(self.rows, answer, shown), outputs=answer[0].numel())
        if self.spec.task in LANGUAGE_TASKS:
            return replace(self, outputs=answer.shape[-1])
        if TASKS[self.spec.task].labels == "position":
            classes, said = check_positions(self.rows, answer, self.spec.task, shown)
            return replace(self, outputs=classes, notes=(*self.notes, *said))
        if answer.ndim != 2:
            raise DataError(
                f"the model answers a row of {shown} with the shape {list(answer.shape[1:])}, not one score a class",
                hint="choose another architecture or task",
                code="bad_output",
            )
        if TASKS[self.spec.task].labels == "several":
            check_columns(self.rows, answer.shape[1], shown)
        else:
            check_label_range(self.rows, answer.shape[1], shown)
        return replace(self, outputs=answer.shape[1])

    def _answer_to_first_rows(self, shown: str) -> Tensor:
        first = torch.from_numpy(self.rows.x[:_TRIED_ROWS])
        first = first.to(torch.float32) if first.is_floating_point() else first
        masked = None if self.rows.mask is None else torch.from_numpy(self.rows.mask[:_TRIED_ROWS])
        try:
            with torch.no_grad():
                batch = first if masked is None else {"input_ids": first, "attention_mask": masked}
                answer = checked_scores(ModelCall(self.model)(batch))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if is_out_of_memory(error):
                raise
            raise DataError(
                f"{self.architecture.name} does not take rows of shape {list(first.shape[1:])} from {shown}: "
                f"{str(error).partition(chr(10))[0][:300]}",
                hint="check the transform's layout (NHWC, NCHW or NHW), and that data and model belong together",
                code="wrong_shape",
                details={"row_shape": list(first.shape[1:])},
            ) from None
        if not isinstance(answer, Tensor) or answer.ndim == 0 or len(answer) != len(first):
            kind = f"shape {list(answer.shape)}" if isinstance(answer, Tensor) else type(answer).__name__
            raise DataError(
                f"{self.architecture.name} answers {len(first)} rows with {kind}",
                hint="a model answers with one tensor, a row of it for each row of x",
                code="bad_output",
            )
        return answer


def _open_model(source: ModelSource, files: Files, *, trusted: bool) -> tuple[Checkpoint, str]:
    """The checkpoint, with its adapter where it has one, and the SHA-256 of its own file."""
    checkpoint, sha256 = _open_base(source, files, trusted=trusted)
    if source.adapter is None:
        return checkpoint, sha256
    path, shown, _ = _find(source.adapter, None, files, "adapter")
    return merge_adapter(checkpoint, read_adapter(path, shown)), sha256


def _open_base(source: ModelSource, files: Files, *, trusted: bool) -> tuple[Checkpoint, str]:
    if source.example is not None:
        path = example_path(source.example)
        return open_checkpoint(path, part=source.part), file_sha256(path)
    path, shown, known = _place(source, files, "model")
    return open_checkpoint(path, shown, source.part, trusted=trusted), known or file_sha256(path)


def _open_trajectory(
    source: ModelSource, files: Files, architecture: Architecture
) -> dict[str, dict[str, Tensor]]:  # fmt: skip
    places = [_find(sha256, None, files, f"checkpoint {number}") for number, sha256 in enumerate(source.checkpoints, 1)]
    return read_trajectory([(path, shown) for path, shown, _ in places], architecture, source)


def _open_data(source: DataSource, files: Files) -> tuple[str, Arrays, str]:
    if source.example is not None:
        arrays = EXAMPLE_DATA[source.example].load()
        return source.example, arrays, arrays_sha256(arrays)
    path, shown, known = _place(source, files, "data")
    return shown, read_arrays(path, shown)[1], known or file_sha256(path)


def _place(source: ModelSource | DataSource, files: Files, what: str) -> tuple[Path, str, str | None]:
    """Path, the name for messages, and the SHA-256 where the name is one."""
    return _find(source.file, source.path, files, what)


def _find(sha256: str | None, name: str | None, files: Files, what: str) -> tuple[Path, str, str | None]:
    path = files.get(sha256 or name or "")
    if path is None or not (path.is_file() or (path.is_dir() and what in _MAY_BE_FOLDERS)):
        shown = f"with the SHA-256 {sha256[:12]}…" if sha256 else f"{Path(name or '').name!r}"
        raise SpecError(
            f"the {what} file {shown} is not there",
            hint="upload it first" if sha256 else "only files on the administrator's list of paths can be used",
            code="file_not_found",
        )
    anonymous = sha256 is not None and path.name.startswith(sha256)  # a store's own name for it
    return path, f"the {what} file" if anonymous else path.name, sha256


def _holds_tokens(model: nn.Module, arrays: Arrays, transform: Transform) -> bool:
    """Integers that nobody asked to scale, for a model that begins with an embedding."""
    embeds = any(isinstance(module, nn.Embedding) for module in model.modules())
    return embeds and arrays.x.dtype.kind in "iu" and transform == Transform()


def _fit_targets(rows: Rows, answer: Tensor, shown: str) -> Rows:
    assert rows.y is not None
    wanted = tuple(answer.shape[1:])
    if rows.y[0].size != answer[0].numel():
        raise DataError(
            f"{shown}: a target has the shape {list(rows.y.shape[1:])}, the model answers with {list(wanted)}",
            hint="y needs one target a row, of the shape that the model answers with",
            code="bad_labels",
        )
    # (rows,) against (rows, 1) would broadcast to (rows, rows)
    return replace(rows, y=rows.y.reshape(len(rows.y), *wanted))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal; of a folder, over the names and bytes of its files."""
    if path.is_dir():
        return folder_sha256(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrays_sha256(arrays: Arrays) -> str:
    """SHA-256 over shape, type and bytes of x and y: for data that is no file."""
    total = hashlib.sha256()
    for array in (arrays.x, arrays.y):
        if array is not None:
            total.update(f"{array.dtype.str}{array.shape}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
