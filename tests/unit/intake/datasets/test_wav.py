"""WAV files: samples against numbers written by hand, and headers that lie."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from quant_lens_engine.intake import inspect_file


def wav(samples: bytes, *, code=1, channels=1, rate=8000, bits=16, claimed=None, before=b"", extensible=False):
    form = struct.pack("<HHIIHH", 0xFFFE if extensible else code, channels, rate, 0, channels * bits // 8, bits)
    if extensible:
        form += struct.pack("<HHIH", 22, bits, 0, code) + b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
    body = b"fmt " + struct.pack("<I", len(form)) + form + before
    body += b"data" + struct.pack("<I", len(samples) if claimed is None else claimed) + samples
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


SILENCE = wav(bytes(8))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (wav(bytes([0, 128, 192, 255]), bits=8), [-1, 0, 0.5, 127 / 128]),
        (wav(struct.pack("<4h", -32768, 0, 16384, 32767)), [-1, 0, 0.5, 32767 / 32768]),
        (wav(b"\x00\x00\x80" + b"\x00\x00\x00" + b"\x00\x00\x40" + b"\x01\x00\x00", bits=24), [-1, 0, 0.5, 2.0**-23]),
        (wav(struct.pack("<4i", -(2**31), 0, 2**30, 1), bits=32), [-1, 0, 0.5, 2.0**-31]),
        (wav(struct.pack("<4f", -1, 0, 0.5, 0.25), code=3, bits=32), [-1, 0, 0.5, 0.25]),
        (wav(struct.pack("<4d", -1, 0, 0.5, 0.25), code=3, bits=64), [-1, 0, 0.5, 0.25]),
        (wav(struct.pack("<4h", -32768, 0, 16384, 1), extensible=True), [-1, 0, 0.5, 2.0**-15]),
        (wav(struct.pack("<2h", 1, 2), before=b"LIST\x03\x00\x00\x00abc\x00"), [2.0**-15, 2.0**-14]),
    ],
)
def test_samples_of_every_kind(pack, read, content, expected):
    name, found = read(pack({"a.wav": content, "b.WAV": content}))
    assert name == "wav"
    assert found.x.dtype == np.float32
    np.testing.assert_array_equal(found.x[:], np.array([expected, expected], np.float32))


def test_channels_come_before_samples(pack, read):
    _, found = read(pack({"a.wav": wav(struct.pack("<6h", 1, -1, 2, -2, 3, -3), channels=2)}))
    np.testing.assert_array_equal(found.x[:] * 32768, [[[1, 2, 3], [-1, -2, -3]]])


def test_python_writes_what_is_read_here(tmp_path, read):
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(struct.pack("<3h", 5, -5, 0))
    _, found = read(tmp_path)
    assert (found.x[:] * 32768).tolist() == [[5, -5, 0]]
    assert "Samples are numbers from −1 to 1 at 16000 Hz." in found.notes


def test_labels_and_calibration(pack, read):
    path = pack(dict.fromkeys(("train/no/a.wav", "train/yes/b.wav", "test/yes/c.wav"), SILENCE))
    _, found = read(path)
    assert (found.x.shape, found.y.tolist()) == ((1, 4), [1])
    assert (found.calibration.x.shape, found.calibration.y.tolist()) == ((2, 4), [0, 1])
    seen = inspect_file(path, filename="theirs")
    assert (seen.format, seen.samples, seen.calibration_samples, seen.x_min, seen.x_max) == ("wav", 1, 2, 0, 0)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "bad_wav", "is no WAV file"),
        (b"RIFF\x00\x00\x00\x00AVI ", "bad_wav", "is no WAV file"),
        (SILENCE[:30], "truncated_file", "ends before its samples"),
        (wav(bytes(8), claimed=2**32 - 8), "truncated_file", "claims 4294967288 bytes of samples and has 8"),
        (wav(bytes(8))[:-1], "truncated_file", "claims 8 bytes"),
        (wav(bytes(7)), "bad_wav", "no whole frames of 2 bytes"),
        (wav(b""), "bad_wav", "has 0 bytes of samples"),
        (wav(bytes(8), code=85), "bad_wav", "samples of kind 85"),
        (wav(bytes(8), bits=12), "bad_wav", "12 bits"),
        (wav(bytes(8), channels=0), "bad_wav", "0 channels"),
        (wav(bytes(60_000), channels=30_000, bits=16), "bad_wav", "30000 channels"),
        (SILENCE[:12] + SILENCE[36:], "bad_wav", "samples before it says"),
        (SILENCE[:12] + b"junk\x00\x00\x00\x00" * 1001 + SILENCE[12:], "bad_wav", "more than 1000 chunks"),
    ],
)
def test_headers_that_lie(pack, refused, content, code, words):
    error = refused(pack({"a.wav": SILENCE, "b.wav": content}), code)
    assert "'b.wav'" in error.message
    assert words in error.message


def test_a_sound_longer_than_is_read(tmp_path, refused):
    from quant_lens_engine.intake.datasets.wav import MAX_FRAMES

    with (tmp_path / "a.wav").open("wb") as file:  # a file with a hole: no disk is taken
        file.write(wav(b"", bits=8, claimed=MAX_FRAMES + 1))
        file.truncate(44 + MAX_FRAMES + 1)
    refused(tmp_path, "too_large")


def test_sounds_of_several_kinds_are_counted(pack, refused):
    members = {"a.wav": SILENCE, "b.wav": wav(bytes(6)), "c.wav": SILENCE, "d.wav": wav(bytes(8), rate=44_100)}
    error = refused(pack(members), "mixed_sizes")
    assert "2 of 4 frames, 1 channels, 8000 Hz (first 'a.wav')" in error.message
    assert {"frames": 4, "channels": 1, "rate_hz": 44_100, "sounds": 1} in error.details["sizes"]
