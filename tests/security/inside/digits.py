"""Threads, kernels and a backward pass: the same digits within the walls as without them."""

import hashlib
import json
import os

from worker.sandbox.plan import Plan


def prepare(plan: Plan) -> None:
    import torch  # noqa: F401


def main(plan: Plan) -> None:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 3), torch.nn.BatchNorm2d(32), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(32 * 30 * 30, 64), torch.nn.Softmax(dim=1),
    )  # fmt: skip
    images = torch.randn(64, 3, 32, 32)
    parameters = tuple(net.parameters())
    gradient = torch.autograd.grad(net(images).square().sum(), parameters, create_graph=True)
    product = torch.autograd.grad(sum((part * part).sum() for part in gradient), parameters)
    square = torch.randn(300, 300)
    digest = hashlib.sha256()
    for tensor in (*gradient, *product, torch.linalg.eigvalsh(square @ square.T)):
        digest.update(tensor.detach().numpy().tobytes())
    threads = len(os.listdir("/proc/self/task"))
    os.write(
        plan.answers_fd, json.dumps([digest.hexdigest(), torch.get_num_threads(), threads]).encode()
    )  # fmt: skip
