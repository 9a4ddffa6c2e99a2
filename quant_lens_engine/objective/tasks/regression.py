"""Regression: targets of the outputs' shape, mean squared error; no accuracy."""

from __future__ import annotations

from torch import nn

from quant_lens_engine.objective.tasks import TASKS, Task

TASKS.add("regression", Task("regression", nn.MSELoss, categorical=False, labels="value"))
