"""Texts to rows of tokens, against what each row must be by hand."""

import json

import numpy as np
import pytest

from quant_lens_engine.errors import CheckpointError, DataError
from quant_lens_engine.intake import inspect_file, read_arrays
from quant_lens_engine.intake.bundle import Bundle
from quant_lens_engine.intake.language_rows import IGNORED, TokenRows
from quant_lens_engine.intake.texts import Lines
from quant_lens_engine.intake.tokenizer import TextTokenizer
from quant_lens_engine.schema import TextOptions
from tests.language_models import WORDS, sentences, write_jsonl

tokenizers = pytest.importorskip("tokenizers")

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROLES = {"pad_token": "[PAD]", "mask_token": {"content": "[MASK]"}, "eos_token": "[SEP]"}


def bundle(template: str | None = "[CLS] $A [SEP]", roles=ROLES, **config) -> Bundle:
    """A tokenizer of whole words: word number i is token i + 5."""
    words = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    if template is not None:
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single=template, special_tokens=[(token, words[token]) for token in SPECIAL if token in template]
        )
    tokenizer.enable_padding(length=50)  # what a file says of padding and cutting is not for us
    tokenizer.enable_truncation(4)
    return Bundle(config, tokenizer.to_str().encode(), roles)


def token(word: str) -> int:
    return WORDS.index(word) + len(SPECIAL)


def rows_of(path, *, task="causal-lm", seed=0, indices=None, found=None, vocabulary=None, **options):
    texts = read_arrays(path, path.name)[1]
    tokens = TokenRows.of(
        texts, TextTokenizer(found or bundle()), TextOptions(**options), vocabulary=vocabulary, shown=path.name
    )
    chosen = np.arange(len(tokens.x)) if indices is None else np.asarray(indices)
    return tokens.select(chosen, task=task, seed=seed, shown=path.name)


# ---- padded


def test_each_text_is_a_row_padded_on_the_right(tmp_path):
    rows = rows_of(write_jsonl(tmp_path / "t", ["the cat sat", "we saw the old tree", "no"]))
    the, cat, sat = token("the"), token("cat"), token("sat")
    assert rows.x.tolist() == [
        [2, the, cat, sat, 3, 0, 0],
        [2, token("we"), token("saw"), the, token("old"), token("tree"), 3],
        [2, token("no"), 3, 0, 0, 0, 0],
    ]
    assert rows.mask.tolist() == [[1, 1, 1, 1, 1, 0, 0], [1] * 7, [1, 1, 1, 0, 0, 0, 0]]
    assert (rows.y == np.where(rows.mask == 1, rows.x, IGNORED)).all()


def test_rows_are_as_long_as_the_longest_drawn_and_no_longer_than_asked(tmp_path):
    path = write_jsonl(tmp_path / "t", ["the cat sat", "we saw the old tree", "no"])
    assert rows_of(path, indices=[0, 2]).x.shape == (2, 5)
    cut = rows_of(path, length=4)
    assert cut.x.shape == (3, 4)
    assert cut.x[1].tolist() == [2, token("we"), token("saw"), token("the")]


def test_a_text_without_tokens_counts_nothing(tmp_path):
    rows = rows_of(write_jsonl(tmp_path / "t", ["", "the cat"]), found=bundle(None, {}))
    assert rows.x[1].tolist() == [token("the"), token("cat")]
    assert rows.y[0].tolist() == [IGNORED, IGNORED]
    assert rows.mask[0].tolist() == [1, 0]  # it attends to something


def test_lines_of_plain_text_as_rows(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"the cat\r\n\n   \nno tree\n")
    rows = rows_of(tmp_path / "t.txt", packed=False)
    assert rows.x[:, 1:-1].tolist() == [[token("the"), token("cat")], [token("no"), token("tree")]]


# ---- packed


def test_a_running_text_is_cut_into_full_rows(tmp_path):
    words = ["the", "cat", "sat", "on", "the", "mat", "and", "ran", "far"]
    (tmp_path / "t.txt").write_text("the cat sat on\nthe mat and\nran far\n")
    rows = rows_of(tmp_path / "t.txt", length=4)
    flat = [2, *map(token, words), 3]
    assert rows.x.tolist() == [flat[:4], flat[4:8], [*flat[8:], 0]]
    assert rows.mask.tolist() == [[1] * 4, [1] * 4, [1, 1, 1, 0]]
    assert rows.y[2].tolist() == [*flat[8:], IGNORED]


def test_a_last_row_of_one_token_is_left_out(tmp_path):
    (tmp_path / "t.txt").write_text("the cat sat")
    assert rows_of(tmp_path / "t.txt", length=4).x.tolist() == [[2, *map(token, ["the", "cat", "sat"])]]


def test_texts_are_joined_with_what_the_tokenizer_puts_around_them(tmp_path):
    path = write_jsonl(tmp_path / "t", ["the cat", "no tree"])
    rows = rows_of(path, length=8, packed=True)
    assert rows.x.tolist() == [[2, token("the"), token("cat"), 3, 2, token("no"), token("tree"), 3]]


def test_a_tokenizer_that_marks_no_border_has_its_end_put_between(tmp_path):
    path = write_jsonl(tmp_path / "t", ["the cat", "no tree"])
    rows = rows_of(path, length=6, packed=True, found=bundle(None))
    assert rows.x.tolist() == [[token("the"), token("cat"), 3, token("no"), token("tree"), 3]]


def test_packed_and_padded_are_the_same_where_a_row_is_a_text(tmp_path):
    texts = [text for text in sentences(60) if len(text.split()) == 6]
    path = write_jsonl(tmp_path / "t", texts)
    padded, packed = rows_of(path, length=8), rows_of(path, length=8, packed=True)
    assert len(texts) > 2
    for name in ("x", "y", "mask"):
        assert (getattr(padded, name) == getattr(packed, name)).all()


# ---- masks of a masked language model


def test_fifteen_percent_of_the_words_are_guessed_and_no_other_token(tmp_path):
    texts = [" ".join(WORDS[:20]), " ".join(WORDS[:7]), "no"]
    rows = rows_of(write_jsonl(tmp_path / "t", texts), task="masked-lm")
    plain = rows_of(tmp_path / "t").x
    guessed = rows.y != IGNORED
    assert guessed.sum(1).tolist() == [3, 1, 1]  # 15 % of 20, 7 and 1, and at least one
    assert (rows.y[guessed] == plain[guessed]).all()
    assert (rows.x[~guessed] == plain[~guessed]).all()
    assert not (guessed & (plain < len(SPECIAL))).any()


def test_of_the_guessed_80_percent_are_hidden_and_10_changed(tmp_path):
    texts = [" ".join(WORDS) for _ in range(800)]
    rows = rows_of(write_jsonl(tmp_path / "t", texts), task="masked-lm")
    guessed = rows.y != IGNORED
    count = guessed.sum()
    assert count == 800 * round(0.15 * len(WORDS))
    hidden = (rows.x[guessed] == 4).sum() / count
    same = (rows.x[guessed] == rows.y[guessed]).sum() / count
    # a changed token is the mask or the same one in one draw of 37 each
    error = 4 * (0.8 * 0.2 / count) ** 0.5
    assert abs(hidden - (0.8 + 0.1 / 37)) < error
    assert abs(same - (0.1 + 0.1 / 37)) < error
    assert len(set(rows.x[guessed & (rows.x != 4) & (rows.x != rows.y)].tolist())) > 30


def test_a_rows_mask_depends_on_seed_and_place_alone(tmp_path):
    path = write_jsonl(tmp_path / "t", sentences(30))
    whole = rows_of(path, task="masked-lm")
    few = rows_of(path, task="masked-lm", indices=[4, 17])
    width = few.x.shape[1]
    assert (whole.x[[4, 17], :width] == few.x).all()
    assert (whole.y[[4, 17], :width] == few.y).all()
    assert (rows_of(path, task="masked-lm", seed=1).x != whole.x).any()


def test_no_mask_token(tmp_path):
    with pytest.raises(DataError) as caught:
        rows_of(write_jsonl(tmp_path / "t", ["the cat"]), task="masked-lm", found=bundle(roles={"pad_token": "[PAD]"}))
    assert caught.value.code == "no_mask_token"


# ---- classes


def test_classes_of_texts(tmp_path):
    rows = rows_of(write_jsonl(tmp_path / "t", ["the cat", "no"], [1, 0]), task="classification")
    assert rows.y.tolist() == [1, 0]
    with pytest.raises(DataError) as caught:
        rows_of(write_jsonl(tmp_path / "u", ["the cat"]), task="classification")
    assert caught.value.code == "missing_array"


# ---- roles and what is wrong


def test_roles_by_name_and_by_number():
    named = TextTokenizer(bundle())
    assert (named.pad, named.mask, named.end, named.size) == (0, 4, 3, 5 + len(WORDS))
    numbered = TextTokenizer(bundle(roles={}, pad_token_id=0, eos_token_id=[3, 2], mask_token_id=10**6))
    assert (numbered.pad, numbered.mask, numbered.end) == (0, None, 3)


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "missing_tokenizer"), (b"{}", "bad_tokenizer"), (b"[]", "bad_tokenizer"), (b"\xff", "bad_tokenizer"),
     (b"[" * 200_000, "bad_tokenizer"), (json.dumps({"model": {"type": "BPE"}}).encode(), "bad_tokenizer")],
)  # fmt: skip
def test_tokenizers_that_cannot_be_read(content, code):
    with pytest.raises(CheckpointError) as caught:
        TextTokenizer(Bundle({}, content, slow_tokenizer=("vocab.txt",)))
    assert caught.value.code == code
    assert "save_pretrained" in caught.value.hint


def test_tokens_that_the_model_does_not_know(tmp_path):
    with pytest.raises(DataError) as caught:
        rows_of(write_jsonl(tmp_path / "t", ["the yes"]), vocabulary=20)
    assert caught.value.code == "tokenizer_mismatch"
    assert caught.value.details == {"token": token("yes"), "vocabulary": 20}


def test_rows_longer_than_the_model_takes(tmp_path):
    texts = read_arrays(write_jsonl(tmp_path / "t", ["the"]), "t")[1]
    with pytest.raises(DataError) as caught:
        TokenRows.of(texts, TextTokenizer(bundle()), TextOptions(length=33), positions=32)
    assert caught.value.code == "too_long"
    assert "32" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b'{"text": "the"}\n{"text": 3}\n', "missing_text", "line 2"),
        (b'{"text": "the"}\n\nnonsense\n', "bad_text", "line 3"),
        (b'{"text": "the"}\n[1]\n', "bad_text", "line 2"),
        (b'{"text": "the"}\n{"text": "\xff"}\n', "bad_text", "UTF-8"),
        (b'{"a": "x", "b": "y"}\n', "missing_text", "'a', 'b'"),
        (b'{"text": "the"}\n' + b'{"a":' * 100_000 + b"\n", "bad_text", "line 2"),
    ],
)
def test_lines_that_are_no_text(tmp_path, content, code, said):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(DataError) as caught:
        rows_of(tmp_path / "t")
    assert caught.value.code == code
    assert said in caught.value.message
    assert caught.value.message.startswith("t: ")


def test_a_text_under_another_key(tmp_path):
    (tmp_path / "t").write_text('{"id": 7, "story": "the cat"}\n')
    assert rows_of(tmp_path / "t").x[0].tolist() == [2, token("the"), token("cat"), 3]


# ---- what an inspection says


def test_an_inspection_of_texts(tmp_path):
    found = inspect_file(write_jsonl(tmp_path / "t", ["the cat", "no tree", "yes"], [1, 0, 1]), filename="t.jsonl")
    assert (found.format, found.samples, found.classes) == ("jsonl", 3, 2)
    assert found.label_counts == {"0": 1, "1": 2}
    assert found.preview_texts == ["the cat", "no tree", "yes"]
    assert any("tokenizer" in note for note in found.notes)


def test_plain_text_is_data_where_its_name_says_so(tmp_path):
    (tmp_path / "blob").write_text("the cat sat on the mat\n" * 3)
    assert inspect_file(tmp_path / "blob", filename="book.txt").format == "text"
    with pytest.raises(CheckpointError) as caught:
        inspect_file(tmp_path / "blob", filename="model.pt")
    assert caught.value.code == "not_a_checkpoint"


def test_lines_are_found_across_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("quant_lens_engine.intake.texts._CHUNK", 7)
    texts = sentences(20)
    (tmp_path / "t").write_text("\n".join(texts))
    lines = Lines(tmp_path / "t")
    assert [lines.read(index) for index in range(len(lines))] == texts


def test_too_many_lines(tmp_path, monkeypatch):
    monkeypatch.setattr("quant_lens_engine.intake.texts.MAX_LINES", 10)
    (tmp_path / "t").write_text("a b\n" * 12)
    with pytest.raises(DataError) as caught:
        Lines(tmp_path / "t")
    assert caught.value.code == "too_large"
