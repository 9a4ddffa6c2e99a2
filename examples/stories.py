"""A small language model on stories that this file makes up, to see what quantization does to a transformer.

    python examples/stories.py --out stories.safetensors            # ten minutes on two cores
    python examples/stories.py --out bard.safetensors --text FILE   # on a text of your own, byte by byte

The stories come from a seeded grammar of a few hundred words, in the manner of TinyStories (Eldan and Li 2023,
arXiv:2305.07759). The last tenth of the text is held out; the perplexity on it is printed.
"""

from __future__ import annotations

import argparse
import math
import random
from pathlib import Path

import torch
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.nn import functional as F

CONTEXT, WIDTH, DEPTH, HEADS = 128, 128, 4, 4
BATCH, STEPS, RATE = 32, 1200, 2e-3
BYTES = 256

_NAMES = ("Anna", "Ben", "Clara", "Dan", "Ella", "Finn", "Grace", "Hugo", "Ida", "Jack", "Kim", "Leo", "Mia", "Noah")
_ANIMALS = ("dog", "cat", "bird", "fox", "rabbit", "horse", "frog", "bear", "duck", "mouse")
_THINGS = ("ball", "kite", "boat", "book", "drum", "lamp", "cake", "map", "key", "box", "hat", "star")
_PLACES = ("park", "forest", "garden", "river", "hill", "beach", "market", "old house", "school", "lake")
_LOOKS = ("little", "red", "shiny", "old", "soft", "round", "tiny", "blue", "funny", "golden")
_FEELINGS = ("happy", "sad", "proud", "tired", "scared", "curious", "hungry", "brave")
_OPENINGS = (
    "Once upon a time there was a {look} {animal} named {name}.",
    "One day {name} went to the {place} with a {look} {thing}.",
    "{name} had a {look} {thing} and loved it very much.",
    "In the {place} there lived a {feeling} {animal} named {name}.",
)
_MIDDLES = (
    "{name} saw a {look} {thing} near the {place}.",
    '"Can I have the {thing}?" asked {name}. "Yes," said the {animal}, "but be careful."',
    "The {animal} was {feeling}, because the {thing} was lost.",
    "{name} and the {animal} looked for the {thing} in the {place} all day.",
    "It began to rain, and {name} hid the {thing} under a {look} tree.",
    '"Do not be {feeling}," said {name}, "we will find the {thing} together."',
    "Then the {animal} ran to the {place} and came back with a {look} {thing}.",
)
_ENDINGS = (
    "{name} was {feeling} and went home with the {thing}.",
    "From that day on {name} and the {animal} were friends.",
    "At night {name} put the {thing} beside the bed and slept well.",
    "And the {animal} never went to the {place} alone again.",
)


def tell(source: random.Random) -> str:
    """One story of five to eight sentences.

    Example:
        >>> tell(random.Random(1)).startswith(("Once", "One day", "In the", "Anna", "Ben"))
        True
    """
    words = {
        "name": source.choice(_NAMES), "animal": source.choice(_ANIMALS), "thing": source.choice(_THINGS),
        "place": source.choice(_PLACES),
    }  # fmt: skip
    plan = [source.choice(_OPENINGS), *source.sample(_MIDDLES, source.randint(3, 6)), source.choice(_ENDINGS)]
    free = ({"look": source.choice(_LOOKS), "feeling": source.choice(_FEELINGS)} for _ in plan)
    return " ".join(sentence.format(**words, **more) for sentence, more in zip(plan, free, strict=True)) + "\n"


def corpus(stories: int = 4000, seed: int = 0) -> str:
    """Many stories, the same for the same seed."""
    source = random.Random(seed)
    return "".join(tell(source) for _ in range(stories))


def windows(text: str, limit: int | None = None) -> Tensor:
    """The text as rows of ``CONTEXT`` bytes ``(rows, CONTEXT)``; what is left over is dropped."""
    tokens = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()
    rows = tokens[: len(tokens) - len(tokens) % CONTEXT].reshape(-1, CONTEXT)
    return rows if limit is None else rows[:limit]


def split(text: str) -> tuple[str, str]:
    """The first nine tenths, and the rest that is held out."""
    place = len(text) * 9 // 10
    return text[:place], text[place:]


class StoryTeller(nn.Module):
    """A pre-norm causal transformer over bytes; the embedding is the head too."""

    def __init__(self, width: int = WIDTH, depth: int = DEPTH, heads: int = HEADS) -> None:
        super().__init__()
        self.embedding = nn.Embedding(BYTES, width)
        self.position = nn.Parameter(torch.randn(CONTEXT, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, BYTES, bias=False)
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, std=0.05)

    def forward(self, tokens: Tensor) -> Tensor:
        """Bytes ``(rows, length)`` to scores of the next byte ``(rows, length, 256)``."""
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device, dtype=self.position.dtype)
        hidden = self.blocks(self.embedding(tokens) + self.position[:length], mask=mask, is_causal=True)
        scores: Tensor = self.head(hidden)
        return scores


def train(text: str, *, steps: int = STEPS, seed: int = 0) -> StoryTeller:
    """A model of ``text``, from its seed."""
    torch.manual_seed(seed)
    model, rows = StoryTeller().train(), windows(text)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    for step in range(steps):
        batch = rows[torch.randint(len(rows), (BATCH,))]
        loss = F.cross_entropy(model(batch)[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}: {loss.item():.3f} nats a byte", flush=True)
    return model.eval()


def perplexity(model: nn.Module, rows: Tensor) -> float:
    """exp of the mean loss of a byte, given those before it in its row."""
    with torch.no_grad():
        losses = [
            F.cross_entropy(model(part)[:, :-1].flatten(0, 1), part[:, 1:].flatten()).item() * len(part)
            for part in torch.split(rows, BATCH)
        ]
    return math.exp(sum(losses) / len(rows))


def main() -> None:
    """Train, print the perplexity, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--text", type=Path, help="a text file; the stories of this script without it")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    training, held_out = split(given.text.read_text(encoding="utf-8") if given.text else corpus(seed=given.seed))
    model = train(training, steps=given.steps, seed=given.seed)
    print(f"perplexity a byte on held-out text: {perplexity(model, windows(held_out)):.3f}")
    save_model(model, str(given.out))


if __name__ == "__main__":
    main()
