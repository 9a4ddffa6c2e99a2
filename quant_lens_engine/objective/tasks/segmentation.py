"""Semantic segmentation: a class a pixel; cross-entropy a pixel that counts, in nats.

Outputs are ``(rows, classes, height, width)``, y is ``(rows, height, width)``. A pixel whose label is −100 (what −1 and
255, the void of Pascal VOC and Cityscapes, are read as) counts for nothing. Accuracy is the share of the counted pixels
that are right; the mean of the classes' IoU stands beside it.
"""

from __future__ import annotations

from torch import nn

from quant_lens_engine.objective.tasks import TASKS, Task

TASKS.add(
    "segmentation",
    Task("segmentation", nn.CrossEntropyLoss, labels="position", answers="pixels", overlap="mean_iou"),
)
