"""Multi-label classification: each class is a yes or no of its own, and a row has any number of them.

y is ``(rows, classes)`` of 0 and 1, outputs are one logit a class. The loss is binary cross-entropy in nats, the mean
over rows and classes. Accuracy is the share of the ``rows × classes`` answers that are right, where a logit above 0 is
a yes (1 − the Hamming loss; Tsoumakas and Katakis, Multi-label classification, 2007). Where most labels are 0, always
saying no is right most of the time: a verdict therefore asks how much is lost of what the model has over that.
"""

from __future__ import annotations

from torch import nn

from quant_lens_engine.objective.tasks import TASKS, Task

TASKS.add("multi-label", Task("multi-label", nn.BCEWithLogitsLoss, labels="several", answers="labels", overlap="f1"))
