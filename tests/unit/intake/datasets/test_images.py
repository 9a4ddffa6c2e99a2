"""Images in folders and zips: pixels, labels, and what is refused before a pixel is decoded."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from quant_lens_engine.intake import inspect_file
from quant_lens_engine.intake.datasets.lazy_rows import MAX_DECODED_BYTES
from quant_lens_engine.intake.datasets.picture import MAX_PIXELS

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 5, 7), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)


def png_claiming(width, height):
    """A sound PNG header of that size, and next to nothing behind it."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("pixels", "codec"),
    [(GREY, "PNG"), (GREY, "BMP"), (GREY, "PPM"), (COLOUR, "PNG"), (COLOUR, "BMP"), (COLOUR, "PPM"), (COLOUR, "WEBP")],
)
def test_pixels_come_back_as_they_were(pack, read, encode, pixels, codec):
    options = {"lossless": True} if codec == "WEBP" else {}
    name, found = read(
        pack({f"{row}.{codec.lower()}": encode(image, codec, **options) for row, image in enumerate(pixels)})
    )
    assert name == "images"
    assert (found.x.shape, found.x.dtype) == (pixels.shape, np.uint8)
    np.testing.assert_array_equal(found.x[:], pixels)
    np.testing.assert_array_equal(found.x[np.array([4, 0, 4])], pixels[[4, 0, 4]])
    np.testing.assert_array_equal(found.x[1::2], pixels[1::2])


def test_jpeg_is_decoded_as_pillow_does(pack, read, encode):
    from PIL import Image

    content = encode(COLOUR[0].repeat(8, 0).repeat(8, 1), "JPEG")
    _, found = read(pack({"a.jpg": content, "b.JPEG": content}))
    import io

    np.testing.assert_array_equal(found.x[:][1], np.asarray(Image.open(io.BytesIO(content))))


def test_sixteen_bits_are_kept(pack, read, encode):
    deep = RNG.integers(0, 65536, (2, 4, 4), dtype=np.uint16)
    _, found = read(pack({"a.png": encode(deep[0]), "b.png": encode(deep[1])}))
    assert found.x.dtype == np.uint16
    np.testing.assert_array_equal(found.x[:], deep)


def test_grey_among_colour_and_transparency(pack, read, encode):
    clear = np.concatenate([COLOUR[1], np.full((5, 7, 1), 9, np.uint8)], axis=-1)
    _, found = read(pack({"a.png": encode(GREY[0]), "b.png": encode(clear)}))
    np.testing.assert_array_equal(found.x[:], [GREY[0][..., None].repeat(3, -1), COLOUR[1]])
    assert any("three equal channels" in note for note in found.notes)


def test_class_folders_are_numbered_by_their_sorted_names(pack, read, encode):
    members = {f"set/{kind}/{row}.png": encode(GREY[row]) for row, kind in enumerate(["dog", "cat", "eel", "cat"])}
    _, found = read(
        pack(members | {"set/README.md": b"hello", "__MACOSX/set/dog/._0.png": b"x", "set/.DS_Store": b"x"})
    )
    assert found.y.tolist() == [0, 0, 1, 2]
    np.testing.assert_array_equal(found.x[:], GREY[[1, 3, 0, 2]])
    assert "Folders are classes by their sorted names: 0 = cat, 1 = dog, 2 = eel." in found.notes
    assert "Not read: set/README.md." in found.notes


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", b"name,label\n0.png,4\n2.png,0\n1.png,7\n"),
        ("labels.csv", b"1.png;7\r\n0.png;4\r\n2.png;0\r\n"),
        ("metadata.csv", b"split,file_name,label\ntest,0.png,4\ntest,1.png,7\ntest,2.png,0\n"),
        ("labels.json", b'{"0.png": 4, "./1.png": 7, "2.png": 0}'),
        ("labels.json", b'[["0.png", 4], ["1.png", 7], ["2.png", "0"]]'),
        (
            "metadata.jsonl",
            b'{"file_name": "2.png", "label": 0}\n{"file_name": "1.png", "label": 7}\n'
            b'{"file_name": "0.png", "label": 4}\n',
        ),
        ("labels.txt", b"0.png 4\n1.png 7\n\n2.png 0\n"),
        ("labels.tsv", b"name\tlabel\n0.png\t4\n1.png\t7\n2.png\t0\n"),
    ],
)  # fmt: skip
def test_labels_from_a_file(pack, read, encode, name, content):
    _, found = read(pack({f"{row}.png": encode(GREY[row]) for row in range(3)} | {name: content}))
    assert found.y.tolist() == [4, 7, 0]
    assert found.y.dtype == np.int64
    assert f"Labels were taken from {name}." in found.notes


def test_labels_of_text_and_of_numbers_with_fractions(pack, read, encode):
    images = {f"images/{row}.png": encode(GREY[row]) for row in range(3)}
    _, found = read(pack(images | {"labels.csv": b"0.png,dog\n1.png,cat\n2.png,dog\n"}))
    assert found.y.tolist() == [1, 0, 1]
    assert "Labels are classes by their sorted names: 0 = cat, 1 = dog." in found.notes
    _, found = read(pack(images | {"labels.csv": b"0.png,0.5\n1.png,-1\n2.png,2\n"}, "other"))
    assert found.y.tolist() == [0.5, -1, 2]


def test_images_without_labels(pack, read, encode):
    _, found = read(pack({"a.png": encode(GREY[0])}))
    assert found.y is None
    assert "have no labels" in found.notes[0]


def test_a_training_split_calibrates(pack, read, encode):
    members = {"train/b/0.png": GREY[0], "train/a/1.png": GREY[1], "val/b/2.png": GREY[2], "test/b/3.png": GREY[3]}
    _, found = read(pack({name: encode(pixels) for name, pixels in members.items()}))
    np.testing.assert_array_equal(found.x[:], GREY[[2]])
    assert found.y.tolist() == [1]  # class a has no image in val, and keeps its number
    np.testing.assert_array_equal(found.calibration.x[:], GREY[[1, 0]])
    assert found.calibration.y.tolist() == [0, 1]
    assert "Rows are measured on the split 'val'; 'train' calibrates; not read: 'test'." in found.notes


def test_what_the_inspection_says(pack, encode):
    path = pack({f"{row % 2}/{row}.png": encode(COLOUR[row]) for row in range(6)})
    found = inspect_file(path, filename="theirs.zip")
    assert (found.format, found.samples, found.x_shape, found.classes) == ("images", 6, [6, 5, 7, 3], 2)
    assert (found.suggested_layout, found.suggested_scale) == ("NHWC", 1 / 255)
    assert (found.x_min, found.x_max) == (COLOUR.min(), COLOUR.max())
    assert np.array_equal(found.preview, COLOUR[[0, 2, 4, 1, 3, 5]])
    assert found.preview_labels == [0, 0, 0, 1, 1, 1]
    assert any("choose NHWC" in note for note in found.notes)


def test_only_the_rows_used_are_decoded(tmp_path, read, encode):
    big = encode(np.zeros((1000, 1000, 3), np.uint8))
    for row in range(50):
        (tmp_path / f"{row:02}.png").write_bytes(big)
    tracemalloc.start()
    _, found = read(tmp_path)
    assert found.x[10:12].shape == (2, 1000, 1000, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30_000_000  # all of them would be 150 MB


# ---- refusals


@pytest.mark.parametrize(("width", "height"), [(30_000, 30_000), (12_000, 12_000), (MAX_PIXELS + 1, 1)])
@pytest.mark.parametrize("behind", ["PNG", "BMP"])
def test_38_and_39_large_images_are_refused_by_their_header(pack, refused, width, height, behind):
    if behind == "PNG":
        content = png_claiming(width, height)
    else:
        content = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    path = pack({"cat/bomb.png": content, "dog/b.png": content})
    tracemalloc.start()
    started = time.monotonic()
    error = refused(path, "image_too_large")
    assert time.monotonic() - started < 5
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert "cat/bomb.png" in error.message
    assert error.details == {"member": "cat/bomb.png", "limit_pixels": MAX_PIXELS}


def test_a_header_that_does_not_keep_its_word(tmp_path, refused, read):
    (tmp_path / "short.png").write_bytes(png_claiming(4000, 4000))
    _, found = read(tmp_path)
    assert "short.png" in refused(tmp_path, "bad_image", lambda: found.x[:]).message


def test_images_of_several_sizes_are_counted(pack, refused, encode):
    error = refused(
        pack({"a.png": encode(GREY[0]), "b.png": encode(GREY[1]), "c.png": encode(GREY[2][:4])}), "mixed_sizes"
    )
    assert "2 of 7 × 5 (first 'a.png'); 1 of 7 × 4 (first 'c.png')" in error.message
    assert error.details["sizes"] == [
        {"width": 7, "height": 5, "images": 2}, {"width": 7, "height": 4, "images": 1},
    ]  # fmt: skip
    assert "resize((7, 5))" in error.hint


def test_depths_are_not_mixed(pack, refused, encode):
    error = refused(pack({"a.png": encode(GREY[0]), "b.png": encode(GREY[0].astype(np.uint16))}), "mixed_depths")
    assert "'a.png' and 'b.png'" in error.message


@pytest.mark.parametrize("content", [b"", b"GIF89a not really", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_what_is_no_image(pack, refused, encode, content):
    error = refused(pack({"a.png": encode(GREY[0]), "b.png": content}), "bad_image")
    assert "'b.png'" in error.message


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("labels.csv", b"a.png,1\n", "no label for 1 of 2 images, first 'b.png'"),
        ("labels.csv", b"a.png,1\nb.png,2\nc.png,3\n", "entry 3 names 'c.png', which is not among the images"),
        ("labels.csv", b"a.png,1\nb.png,2\na.png,2\n", "entry 3 gives 'a.png' a second label"),
        ("labels.csv", b"a.png\nb.png\n", "entry 1 is not a name and a label"),
        ("labels.csv", b"a.png,\nb.png,1\n", "entry 1 is not a name and a label"),
        ("labels.csv", b"\xff\xfe\xfd", "cannot be read (UnicodeDecodeError)"),
        ("labels.json", b"{", "cannot be read (JSONDecodeError)"),
        ("labels.json", b"[" * 100_000, "cannot be read (RecursionError)"),
        ("labels.json", b"[1, 2]", "entry 1 is not a name and a label"),
        ("labels.json", b'{"a.png": {"b": 1}, "b.png": 1}', "entry 1 is not a name and a label"),
        ("metadata.jsonl", b'{"file_name": "a.png"}\n', "entry 1 is not a name and a label"),
        ("labels.txt", b"a.png\n", "entry 1 is not a name and a label"),
    ],
)
def test_labels_files_that_do_not_fit(pack, refused, encode, name, content, words):
    error = refused(pack({"a.png": encode(GREY[0]), "b.png": encode(GREY[1]), name: content}), "bad_labels")
    assert f"{name}: " in error.message
    assert words in error.message


def test_images_beside_class_folders(pack, refused, encode):
    members = {"cat/a.png": encode(GREY[0]), "dog/b.png": encode(GREY[1]), "lost.png": encode(GREY[2])}
    error = refused(pack(members), "bad_labels")
    assert "1 of 3 images lie beside the class folders, first 'lost.png'" in error.message


def test_more_rows_than_memory_should_hold(tmp_path, refused, read, encode):
    content = encode(np.zeros((4096, 4096, 3), np.uint8))
    for row in range(MAX_DECODED_BYTES // (4096 * 4096 * 3) + 1):
        (tmp_path / f"{row:02}.png").write_bytes(content)
    _, found = read(tmp_path)
    error = refused(tmp_path, "too_large", lambda: found.x[:])
    assert "limit" in error.hint
    assert error.details["limit_bytes"] == MAX_DECODED_BYTES


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "words"), [(["cat/../../b.png"], "points outside"), (["a.png", "a.png"], "two members")]
)
def test_hostile_names_in_a_zip(tmp_path, refused, encode, names, words):
    path = tmp_path / "theirs"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, encode(GREY[0]))
    assert words in refused(path, "bad_zip").message


def test_links_are_not_followed(tmp_path, read, encode):
    outside, folder = tmp_path / "secret.png", tmp_path / "theirs"
    folder.mkdir()
    outside.write_bytes(encode(GREY[1]))
    (folder / "a.png").write_bytes(encode(GREY[0]))
    (folder / "b.png").symlink_to(outside)
    (folder / "c").symlink_to(tmp_path)
    _, found = read(folder)
    assert found.x.shape == (1, 5, 7)
    assert any(note.startswith("Not followed (links): ") and "b.png" in note and "c" in note for note in found.notes)


def test_a_folder_that_holds_no_data_says_what_it_holds(pack, refused):
    error = refused(pack({"notes.md": b"x", "paper.pdf": b"y"}), "not_data")
    assert "it holds notes.md, paper.pdf" in error.message
    assert "images: folder or zip of images" in error.hint
    json.dumps(error.as_dict())
