"""Train the example models that ship with the engine, on scikit-learn's digits. Takes a minute on one core.

    python examples/train.py            # writes quant_lens_engine/intake/examples/*.safetensors
    python examples/train.py --check    # trains again and compares with the shipped files, writes nothing

Every number that is drawn comes from one seed, and one thread adds in one order: the same torch on the same machine
gives the same bytes. 1437 rows train, the other 360 are the data called ``digits`` that the examples are measured on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from quant_lens_engine.intake import ARCHITECTURES, EXAMPLE_MODELS, example_path
from quant_lens_engine.intake.datasets.digits import digits_split

SEED = 7
BATCH_ROWS = 64
RECIPES: dict[str, tuple[int, float, float]] = {
    "digits-mlp": (60, 3e-3, 1e-4),
    "digits-cnn": (30, 4e-3, 1e-4),
    "digits-transformer": (60, 2e-3, 1e-2),
}
"""Epochs, highest learning rate, weight decay."""


def train(name: str) -> nn.Module:
    """One example, from its seed."""
    torch.manual_seed(SEED)
    epochs, rate, decay = RECIPES[name]
    model = ARCHITECTURES[name].build({}).train()
    x, y = (torch.from_numpy(column) for column in (digits_split()[0].x, digits_split()[0].y))
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    steps = epochs * -(-len(x) // BATCH_ROWS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH_ROWS):
            loss = F.cross_entropy(model(shifted(x[rows])), y[rows], label_smoothing=0.02)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def shifted(images: Tensor) -> Tensor:
    """The images moved by up to one pixel, all of a batch alike."""
    down, right = torch.randint(-1, 2, (2,)).tolist()
    if torch.rand(()) < 0.5:
        return images
    return torch.roll(images, (down, right), (2, 3))


def accuracy(model: nn.Module) -> float:
    """On the 360 held-out rows."""
    held_out = digits_split()[1]
    with torch.no_grad():
        answers = model(torch.from_numpy(held_out.x)).argmax(1).numpy()
    return float((answers == held_out.y).mean())


def main() -> int:
    """Train all, then write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the shipped files")
    parser.add_argument("names", nargs="*", default=list(EXAMPLE_MODELS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    differing = 0
    for name in options.names:
        model = train(name)
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        path: Path = example_path(name)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        print(f"{name}: {parameters} parameters, {100 * accuracy(model):.2f} % of 360 held-out rows")
        if options.check:
            shipped = load_file(path)
            same = shipped.keys() == state.keys() and all(torch.equal(shipped[key], state[key]) for key in state)
            print(f"  {'equal to' if same else 'differs from'} the shipped {path.name}")
            differing += not same
        else:
            save_file(state, path, metadata={"format": "pt"})
            print(f"  wrote {path.name}, {path.stat().st_size} bytes")
    return min(differing, 1)


if __name__ == "__main__":
    sys.exit(main())
