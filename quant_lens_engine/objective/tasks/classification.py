"""Classification: one label a row (or a pixel), cross-entropy in nats."""

from __future__ import annotations

from torch import nn

from quant_lens_engine.objective.tasks import TASKS, Task

TASKS.add("classification", Task("classification", nn.CrossEntropyLoss))
