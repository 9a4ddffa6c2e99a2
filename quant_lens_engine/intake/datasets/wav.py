"""WAV sounds in a folder or a zip, with a labels file or one folder a class; each is read when its row is used.

The RIFF header is read here: the standard library's ``wave`` knows no floating-point samples.
http://soundfile.sapp.org/doc/WaveFormat/
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.datasets import DATA_FORMATS, Arrays, DataFormat, Given
from quant_lens_engine.intake.datasets.labels import Labelled, label_members
from quant_lens_engine.intake.datasets.lazy_rows import LazyRows
from quant_lens_engine.intake.tree import Tree

MAX_FRAMES = 1 << 26
"""25 minutes at 44.1 kHz."""
_MAX_CHANNELS = 64
_MOST_CHUNKS = 1000
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SHOWN = 5


@dataclass(frozen=True)
class Sound:
    """A sound's header; ``offset`` is where its samples begin in the file."""

    rate_hz: int
    channels: int
    frames: int
    code: int
    bits: int
    offset: int

    @property
    def data_bytes(self) -> int:
        """Bytes of all samples."""
        return self.frames * self.channels * self.bits // 8


class Sounds(LazyRows):
    """Sounds of one length as rows of float32 from −1 to 1: ``(rows, frames)``, or ``(rows, channels, frames)``.

    Raises:
        DataError: ``bad_wav``, ``truncated_file``, ``mixed_sizes``, ``too_large``.
    """

    def __init__(self, tree: Tree, names: Sequence[str]) -> None:
        self._tree = tree
        self._names = names
        self._headers = [self._header(name) for name in names]
        first = _one_length(self._headers, names)
        self.rate_hz = first.rate_hz
        axes = (first.channels, first.frames) if first.channels > 1 else (first.frames,)
        super().__init__((len(names), *axes), np.dtype(np.float32), "sound")

    def read(self, rows: np.ndarray) -> np.ndarray:
        """These sounds."""
        found = np.empty((len(rows), *self.shape[1:]), np.float32)
        for place, row in enumerate(rows):
            found[place] = self._samples(self._names[row], self._headers[row]).reshape(self.shape[1:])
        return found

    def _header(self, name: str) -> Sound:
        try:
            with self._tree.open(name) as stream:
                return read_header(stream, self._tree.sizes[name], name)
        except DataError:
            raise
        except Exception as error:  # zipfile's, zlib's and the system's
            raise _bad(name, f"cannot be read ({error.__class__.__name__})") from None

    def _samples(self, name: str, sound: Sound) -> np.ndarray:
        try:
            with self._tree.open(name) as stream:
                stream.seek(sound.offset)
                content = stream.read(sound.data_bytes)
        except Exception as error:
            raise _bad(name, f"cannot be read ({error.__class__.__name__})") from None
        if len(content) != sound.data_bytes:
            raise _bad(name, "is cut off", "truncated_file")
        return to_float(content, sound).reshape(sound.frames, sound.channels).T


def read_header(stream: IO[bytes], size: int, name: str) -> Sound:
    """Walk the chunks of a RIFF file of ``size`` bytes to its samples.

    Raises:
        DataError: ``bad_wav``, ``truncated_file``, ``too_large``.
    """
    riff = stream.read(12)
    if len(riff) < 12 or riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        raise _bad(name, "is no WAV file")
    form: tuple[int, int, int, int] | None = None
    position = 12
    for _ in range(_MOST_CHUNKS):
        head = stream.read(8)
        if len(head) < 8:
            raise _bad(name, "ends before its samples", "truncated_file")
        kind, length = head[:4], int.from_bytes(head[4:], "little")
        position += 8
        if kind == b"data":
            if form is None:
                raise _bad(name, "has samples before it says what they are")
            if position + length > size:
                raise _bad(name, f"claims {length} bytes of samples and has {size - position}", "truncated_file")
            return _checked(form, length, position, name)
        if kind == b"fmt ":
            form = _form(stream.read(min(length, 40)), min(length, 40), name)
            stream.seek(position)
        position += length + length % 2
        stream.seek(position)
    raise _bad(name, f"has more than {_MOST_CHUNKS} chunks")


def to_float(content: bytes, sound: Sound) -> np.ndarray:
    """Samples as float32; whole numbers are divided by their full scale, 2^(bits − 1).

    Example:
        >>> to_float(b"\\x00\\x40\\x00\\x80", Sound(8000, 1, 2, 1, 16, 44)).tolist()
        [0.5, -1.0]
    """
    if sound.code == _FLOAT:
        return np.frombuffer(content, f"<f{sound.bits // 8}").astype(np.float32)
    if sound.bits == 8:  # the only unsigned one
        return (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    if sound.bits == 24:
        padded = np.zeros((len(content) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        whole = padded.view("<i4")[:, 0].astype(np.float64) / 2**31
        return np.asarray(whole, np.float32)
    whole = np.frombuffer(content, f"<i{sound.bits // 8}").astype(np.float64) / 2 ** (sound.bits - 1)
    return np.asarray(whole, np.float32)


def _form(content: bytes, length: int, name: str) -> tuple[int, int, int, int]:
    """Code, channels, rate and bits."""
    if len(content) < length:
        raise _bad(name, "ends before its samples", "truncated_file")
    if len(content) < 16:
        raise _bad(name, "has a malformed fmt chunk")
    code, channels, rate_hz, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if code == _EXTENSIBLE and len(content) >= 26:
        code = int.from_bytes(content[24:26], "little")
    return code, channels, rate_hz, bits


def _checked(form: tuple[int, int, int, int], length: int, offset: int, name: str) -> Sound:
    code, channels, rate_hz, bits = form
    if (code, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        raise _bad(name, f"has samples of kind {code} and {bits} bits, which are not read")
    if not 1 <= channels <= _MAX_CHANNELS or rate_hz == 0:
        raise _bad(name, f"claims {channels} channels at {rate_hz} Hz")
    frame = channels * bits // 8
    if length == 0 or length % frame:
        raise _bad(name, f"has {length} bytes of samples, which are no whole frames of {frame} bytes")
    if length // frame > MAX_FRAMES:
        raise _bad(name, f"has {length // frame} frames; at most {MAX_FRAMES} are read", "too_large")
    return Sound(rate_hz, channels, length // frame, code, bits, offset)


def _one_length(headers: Sequence[Sound], names: Sequence[str]) -> Sound:
    kinds = [(sound.frames, sound.channels, sound.rate_hz) for sound in headers]
    counts = Counter(kinds)
    if len(counts) == 1:
        return headers[0]
    first = dict(zip(kinds[::-1], names[::-1], strict=True))
    common = counts.most_common(_SHOWN)
    listed = "; ".join(
        f"{count} of {kind[0]} frames, {kind[1]} channels, {kind[2]} Hz (first {first[kind][:80]!r})"
        for kind, count in common
    )
    raise DataError(
        f"sounds of {len(counts)} kinds: {listed}" + ("; …" if len(counts) > _SHOWN else ""),
        hint="bring them to one length, rate and number of channels, as the model's own transform does",
        code="mixed_sizes",
        details={
            "sizes": [
                {"frames": frames, "channels": channels, "rate_hz": rate_hz, "sounds": count}
                for (frames, channels, rate_hz), count in counts.most_common(50)
            ]
        },
    )


def _bad(name: str, reason: str, code: str = "bad_wav") -> DataError:
    return DataError(
        f"{name[:120]!r} {reason}",
        hint="save it as WAV of 8, 16, 24 or 32 bits or as 32-bit float, for example with ffmpeg -i in.mp3 out.wav",
        code=code,
        details={"member": name},
    )


def _recognises(given: Given) -> bool:
    names = [name.lower() for name in given.names]
    return any(name.endswith(".wav") for name in names) and not any(name.endswith((".npy", ".arrow")) for name in names)


def _read(given: Given) -> Arrays:
    tree = given.tree("folder" if given.path.is_dir() else "zip")
    labelled = label_members(tree, tree.ending(".wav"), "sounds")
    found = _rows(tree, labelled)
    calibration = None if labelled.calibration is None else _rows(tree, labelled.calibration)
    return replace(found, calibration=calibration)


def _rows(tree: Tree, labelled: Labelled) -> Arrays:
    sounds = Sounds(tree, labelled.names)
    note = f"Samples are numbers from −1 to 1 at {sounds.rate_hz} Hz."
    return Arrays(sounds, labelled.y, (*labelled.notes, note))


DATA_FORMATS.add(
    "wav", DataFormat(_recognises, _read, (".wav",), "folder or zip of WAV sounds, labelled as images are")
)
