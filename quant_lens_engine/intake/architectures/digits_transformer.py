"""The transformer of the examples: each of the eight rows of a digit is a token."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quant_lens_engine.intake.architectures import Shapes, architecture, size_of


class Attention(nn.Module):
    """Multi-head self-attention whose four projections are plain linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(rows, tokens, width)`` to the same."""
        query, key, value = (
            projection(tokens).view(*tokens.shape[:2], self.heads, -1).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention and a feed-forward layer, each behind a LayerNorm and beside a shortcut."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(rows, tokens, width)`` to the same."""
        tokens = tokens + self.attention(self.norm1(tokens))
        out: Tensor = tokens + self.down(F.gelu(self.up(self.norm2(tokens))))
        return out


class DigitsTransformer(nn.Module):
    """A pre-norm transformer encoder over the rows of an image."""

    def __init__(self, pixels: int, tokens: int, width: int, hidden: int, depth: int, heads: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Linear(pixels, width)
        self.position = nn.Parameter(torch.zeros(tokens, width))
        self.blocks = nn.ModuleList(Block(width, hidden, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(rows, 1, 8, 8)`` to class scores ``(rows, classes)``."""
        tokens = self.embed(images.reshape(images.shape[0], self.position.shape[0], -1)) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        scores: Tensor = self.classifier(self.norm(tokens).mean(1))
        return scores


@architecture("digits-transformer")
def build(tensors: Shapes, *, heads: int = 4) -> nn.Module:
    """A small pre-norm transformer that reads a digit row by row (an example)."""
    depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}) or 2
    return DigitsTransformer(
        pixels=size_of(tensors, "embed.weight", 1, 8),
        tokens=size_of(tensors, "position", 0, 8),
        width=size_of(tensors, "embed.weight", 0, 24),
        hidden=size_of(tensors, "blocks.0.up.weight", 0, 48),
        depth=depth,
        heads=heads,
        classes=size_of(tensors, "classifier.weight", 0, 10),
    )
