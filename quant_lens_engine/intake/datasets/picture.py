"""One encoded image: its size is read from the header and judged before anything is decoded."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.datasets.lazy_rows import LazyRows

MAX_PIXELS = 1 << 26
"""8192 × 8192. Pillow itself refuses from 179 Mpx on and only warns from 89 Mpx on."""
CODECS = ("PNG", "JPEG", "WEBP", "BMP", "PPM")
"""What Pillow may try: of its forty formats, those that data sets come in."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm")

Kind = Literal["grey", "grey16", "colour"]
Streams = Callable[[np.ndarray], Iterator[IO[bytes]]]
_START_BYTES = 4096
_SHOWN_SIZES = 5


@dataclass(frozen=True)
class Picture:
    """What an image's header says."""

    width: int
    height: int
    kind: Kind


def read_header(stream: IO[bytes], shown: str) -> Picture:
    """Size and kind of an image; no pixel is decoded.

    Raises:
        DataError: ``image_too_large``, or ``bad_image`` where it is none.
    """
    try:
        start = stream.read(_START_BYTES)
    except Exception as error:  # zipfile's, zlib's and the system's have no common base
        raise bad_image(shown, "cannot be read", error) from None
    found = _png_header(start) or _jpeg_header(start)
    if found is not None:
        _check_size(found.width, found.height, shown)
        return found
    stream.seek(0)
    with _opened(stream, shown) as image:
        width, height = image.size
        return Picture(width, height, _kind(image.mode))


def decode(stream: IO[bytes], kind: Kind, shown: str) -> np.ndarray:
    """Pixels as ``(height, width)`` bytes, 16-bit numbers, or ``(height, width, 3)`` bytes; transparency is dropped.

    Raises:
        DataError: ``image_too_large``, ``bad_image``.
    """
    with _opened(stream, shown) as image:
        try:
            if kind == "grey16":
                return np.asarray(image).astype(np.uint16)
            return np.asarray(image.convert("L" if kind == "grey" else "RGB"))
        except Exception as error:  # decoders raise what they like
            raise bad_image(shown, "cannot be decoded", error) from None


class Pictures(LazyRows):
    """Images of one size as rows, ``(rows, height, width)`` or ``(rows, height, width, 3)``.

    Args:
        names: what each is called in messages.
        streams: gives the encoded bytes of the rows of these ascending numbers, one after the other.

    Raises:
        DataError: ``mixed_sizes``, ``mixed_depths``, ``image_too_large``, ``bad_image``.
    """

    def __init__(self, names: Sequence[str], streams: Streams) -> None:
        headers = [
            read_header(stream, name) for name, stream in zip(names, streams(np.arange(len(names))), strict=True)
        ]
        first = _one_size(headers, names)
        kinds = {header.kind for header in headers}
        if "grey16" in kinds and len(kinds) > 1:
            place = next(row for row, header in enumerate(headers) if header.kind != headers[0].kind)
            raise DataError(
                f"images of 8 and of 16 bits: {names[0]!r} and {names[place]!r} differ",
                hint="save all images with the same depth",
                code="mixed_depths",
                details={"members": [names[0], names[place]]},
            )
        self.kind: Kind = "colour" if "colour" in kinds else headers[0].kind
        self.is_mixed = len(kinds) > 1
        channels = (3,) if self.kind == "colour" else ()
        dtype = np.dtype(np.uint16 if self.kind == "grey16" else np.uint8)
        super().__init__((len(names), first.height, first.width, *channels), dtype, "image")
        self._names = names
        self._streams = streams

    def read(self, rows: np.ndarray) -> np.ndarray:
        """These images, decoded."""
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for place, (row, stream) in enumerate(zip(rows, self._streams(rows), strict=True)):
            name = self._names[row]
            pixels = decode(stream, self.kind, name)
            if pixels.shape != self.shape[1:]:
                raise bad_image(name, f"has the shape {list(pixels.shape)}, its header said {list(self.shape[1:])}")
            found[place] = pixels
        return found


def _opened(stream: IO[bytes], shown: str) -> Any:
    from PIL import Image  # a tenth of a second that other data need not wait for

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large one is refused below; the rest is about metadata
            image = Image.open(stream, formats=CODECS)
    except Image.DecompressionBombError as error:
        raise _too_large(shown, str(error)) from None
    except Exception as error:
        raise bad_image(shown, "is no image that is read (" + ", ".join(CODECS) + ")", error) from None
    _check_size(*image.size, shown)
    return image


def _check_size(width: int, height: int, shown: str) -> None:
    if not 0 < width * height <= MAX_PIXELS:
        raise _too_large(shown, f"{width} × {height} pixels")


def _png_header(start: bytes) -> Picture | None:
    """What the IHDR chunk says; fifty times faster than Pillow, which looks for metadata too.

    https://www.w3.org/TR/png-3/#11IHDR
    """
    if start[:8] != b"\x89PNG\r\n\x1a\n" or start[12:16] != b"IHDR" or len(start) < 26:
        return None
    depth, colour_type = start[24], start[25]
    grey: Kind = "grey16" if depth == 16 and colour_type == 0 else "grey"
    kind = grey if colour_type in (0, 4) else "colour"
    return Picture(int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:24], "big"), kind)


def _jpeg_header(start: bytes) -> Picture | None:
    """What the frame header says (ITU-T T.81, B.2.2), where it lies in the first bytes; else None."""
    position = 2
    while start[:2] == b"\xff\xd8" and position + 10 <= len(start) and start[position] == 0xFF:
        marker = start[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(start[position + at : position + at + 2], "big") for at in (5, 7))
            return Picture(width, height, "grey" if start[position + 9] == 1 else "colour")
        position += 2 + int.from_bytes(start[position + 2 : position + 4], "big")
    return None


def _kind(mode: str) -> Kind:
    if mode in ("1", "L", "LA"):
        return "grey"
    return "grey16" if mode.startswith("I") else "colour"


def _one_size(headers: Sequence[Picture], names: Sequence[str]) -> Picture:
    counts = Counter((header.width, header.height) for header in headers)
    if len(counts) == 1:
        return headers[0]
    first = {(header.width, header.height): name for header, name in zip(headers[::-1], names[::-1], strict=True)}
    common = counts.most_common(_SHOWN_SIZES)
    listed = "; ".join(f"{count} of {w} × {h} (first {first[w, h][:80]!r})" for (w, h), count in common)
    (width, height), _ = common[0]
    raise DataError(
        f"images of {len(counts)} sizes, width × height: {listed}" + ("; …" if len(counts) > _SHOWN_SIZES else ""),
        hint=f"bring them to one size, as the model's own transform does: image.resize(({width}, {height}))",
        code="mixed_sizes",
        details={"sizes": [{"width": w, "height": h, "images": count} for (w, h), count in counts.most_common(50)]},
    )


def _too_large(shown: str, size: str) -> DataError:
    return DataError(
        f"{shown[:120]!r} is too large to decode ({size})",
        hint=f"an image may have {MAX_PIXELS} pixels (8192 × 8192): scale it down to what the model takes",
        code="image_too_large",
        details={"member": shown, "limit_pixels": MAX_PIXELS},
    )


def bad_image(shown: str, reason: str, error: Exception | None = None) -> DataError:
    """What is wrong with one image."""
    return DataError(
        f"{shown[:120]!r} {reason}" + (f" ({error.__class__.__name__})" if error is not None else ""),
        hint="the file is damaged or of another kind: open it with an image viewer, save it again, or leave it out",
        code="bad_image",
        details={"member": shown},
    )
