"""Options that every command that measures has: on this machine and on a server the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Architecture = Annotated[str, typer.Option(help="A family's name; auto matches keys and shapes.")]
ArchitectureOptions = Annotated[str | None, typer.Option(help="JSON: options of the architecture.")]
Part = Annotated[
    str | None, typer.Option(help="Which state dict of a training checkpoint, such as ema; else the likeliest.")
]
Transform = Annotated[str | None, typer.Option(help="JSON: layout, scale, mean, std.")]
Text = Annotated[str | None, typer.Option(help="JSON: length of a row in tokens, packed; for texts.")]
Schemes = Annotated[list[str] | None, typer.Option(help="A quantization scheme; may be given again.")]
Curvature = Annotated[str | None, typer.Option(help="JSON: options that change the preset's, such as top.")]
Line = Annotated[str | None, typer.Option(help="JSON: the same of lines, such as kinds, steps, distance.")]
Plane = Annotated[str | None, typer.Option(help="JSON: the same of planes, such as pairs, steps.")]
Activations = Annotated[
    bool | None, typer.Option("--activations/--no-activations", help="Ranges, outliers and SQNR of each layer.")
]
BatchNorm = Annotated[
    bool | None, typer.Option("--batchnorm/--no-batchnorm", help="Running statistics against the data's.")
]
Task = Annotated[str, typer.Option(help="classification, multi-label, segmentation, causal-lm, masked-lm …")]
Limit = Annotated[int | None, typer.Option(help="Rows to measure on, drawn by the seed; 1024 unless given.")]
BatchSize = Annotated[int | None, typer.Option(help="Rows of one pass; 128 unless given.")]
CalibrationLimit = Annotated[int | None, typer.Option(help="Rows to calibrate on; 256 unless given.")]
Seed = Annotated[int, typer.Option(help="Of the sample, directions and probes.")]
JsonPath = Annotated[Path | None, typer.Option("--json", help="Write the result there; - for the output.")]
HtmlPath = Annotated[Path | None, typer.Option("--html", help="Write the report there, as one file.")]
