"""GGUF: codes against the format's own formulas, a Llama against transformers, and headers that lie."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake import open_checkpoint
from quant_lens_engine.intake.formats import read_contents
from quant_lens_engine.intake.formats.gguf import rows_as_halves
from quant_lens_engine.intake.formats.gguf_header import read_header
from quant_lens_engine.intake.given import GivenFile

gguf = pytest.importorskip("gguf", reason="the library gguf is not installed: pip install quant-lens[gguf]")

HIDDEN, HEADS, KEY_HEADS, INNER, VOCABULARY = 256, 4, 2, 256, 32


def llama_tensors(layers=1):
    """A small Llama under llama.cpp's names, rows of query and key as transformers has them."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) * 0.1

    tensors = {"token_embd.weight": draw(VOCABULARY, HIDDEN), "output_norm.weight": 1 + draw(HIDDEN)}
    for layer in range(layers):
        tensors |= {
            f"blk.{layer}.{name}.weight": value
            for name, value in {
                "attn_norm": 1 + draw(HIDDEN),
                "ffn_norm": 1 + draw(HIDDEN),
                "attn_q": draw(HIDDEN, HIDDEN),
                "attn_k": draw(HIDDEN // 2, HIDDEN),
                "attn_v": draw(HIDDEN // 2, HIDDEN),
                "attn_output": draw(HIDDEN, HIDDEN),
                "ffn_gate": draw(INNER, HIDDEN),
                "ffn_up": draw(INNER, HIDDEN),
                "ffn_down": draw(HIDDEN, INNER),
            }.items()
        }
    return tensors


def permuted(weight, heads):
    """convert_hf_to_gguf.py's LlamaModel.permute, as llama.cpp documents it."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def write(path, tensors, kind="F32", *, family="llama", permute=True, **values):
    writer = gguf.GGUFWriter(path, family)
    for key, value in (
        ("block_count", 1), ("context_length", 64), ("embedding_length", HIDDEN), ("feed_forward_length", INNER),
        ("attention.head_count", HEADS), ("attention.head_count_kv", KEY_HEADS),
    ):  # fmt: skip
        writer.add_uint32(f"{family}.{key}", values.pop(key, value))
    writer.add_float32(f"{family}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_array("tokenizer.ggml.tokens", [f"t{number}" for number in range(VOCABULARY)])
    for key, value in values.items():
        writer.add_string(key, value)
    for name, tensor in tensors.items():
        heads = {"attn_q": HEADS, "attn_k": KEY_HEADS}.get(name.split(".")[-2])
        array = (permuted(tensor, heads) if heads and permute else tensor).contiguous().numpy()
        if kind == "F32" or array.ndim == 1:
            writer.add_tensor(name, array)
        else:
            code = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(name, gguf.quantize(array, code), raw_dtype=code)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(("kind", "tolerance"), [("F32", 0.0), ("F16", 2**-11), ("BF16", 2**-8), ("Q8_0", None)])
def test_names_and_rows_are_transformers_own(tmp_path, kind, tolerance):
    tensors = llama_tensors()
    found = open_checkpoint(write(tmp_path / "m.gguf", tensors, kind))
    assert found.format == "gguf"
    state = found.state_dict()
    pairs = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "model.layers.0.self_attn.q_proj.weight": "blk.0.attn_q.weight",
        "model.layers.0.self_attn.k_proj.weight": "blk.0.attn_k.weight",
        "model.layers.0.self_attn.o_proj.weight": "blk.0.attn_output.weight",
        "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down.weight",
        "model.layers.0.input_layernorm.weight": "blk.0.attn_norm.weight",
    }
    for ours, theirs in pairs.items():
        wanted = tensors[theirs]
        bound = wanted.abs() * tolerance if tolerance is not None else wanted.abs().amax() / 127 * 0.51
        assert bool(((state[ours].float() - wanted).abs() <= bound + 2**-25).all()), ours
    assert len(state) == len(tensors) + 1
    assert torch.equal(state["lm_head.weight"], state["model.embed_tokens.weight"])  # tied: it is not in the file


def test_transformers_reads_the_configuration_and_gives_the_same_answers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed here")
    path = write(tmp_path / "m.gguf", llama_tensors())
    _, contents = read_contents(GivenFile.at(path), "m.gguf")
    configuration = transformers.LlamaConfig(**contents.bundle.config)
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(configuration).eval()
    missing, unexpected = model.load_state_dict(open_checkpoint(path).state_dict(), strict=False)
    assert (missing, unexpected) == ([], [])
    model.tie_weights()
    tokens = torch.arange(12)[None] % VOCABULARY
    state = model.state_dict()
    with torch.no_grad():
        assert torch.allclose(model(tokens).logits, by_hand(state, tokens[0]), atol=2e-5)


def by_hand(state, tokens):
    """One Llama block with rotary halves (Su et al., RoFormer, 2021), in plain products."""
    at = "model.layers.0."

    def norm(x, name):
        return x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * state[name]

    def turned(x):
        size = x.shape[-1]
        angle = torch.arange(len(tokens))[:, None] * 10_000.0 ** (-torch.arange(0, size, 2) / size)
        cos, sin = (f(angle).repeat(1, 2) for f in (torch.cos, torch.sin))
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    x = state["model.embed_tokens.weight"][tokens]
    h = norm(x, at + "input_layernorm.weight")
    q, k, v = (
        (h @ state[f"{at}self_attn.{name}_proj.weight"].T).view(len(tokens), -1, HIDDEN // HEADS).transpose(0, 1)
        for name in "qkv"
    )
    q, k, v = turned(q), turned(k).repeat_interleave(2, 0), v.repeat_interleave(2, 0)
    hidden = torch.ones(len(tokens), len(tokens)).triu(1).bool()
    weights = (q @ k.transpose(1, 2) / (HIDDEN // HEADS) ** 0.5).masked_fill(hidden, float("-inf")).softmax(-1)
    x = x + (weights @ v).transpose(0, 1).reshape(len(tokens), -1) @ state[f"{at}self_attn.o_proj.weight"].T
    h = norm(x, at + "post_attention_layernorm.weight")
    gate = torch.nn.functional.silu(h @ state[f"{at}mlp.gate_proj.weight"].T)
    x = x + (gate * (h @ state[f"{at}mlp.up_proj.weight"].T)) @ state[f"{at}mlp.down_proj.weight"].T
    return norm(x, "model.norm.weight") @ state["model.embed_tokens.weight"].T


def test_rows_are_put_back():
    weight = torch.arange(24).reshape(12, 2)
    for heads in (1, 2, 3):
        assert torch.equal(rows_as_halves(permuted(weight, heads), heads), weight)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_codes_are_what_the_formats_formulas_say(tmp_path, kind):
    path = write(tmp_path / "m.gguf", {"token_embd.weight": llama_tensors()["token_embd.weight"]}, kind)
    placed = read_header(path).tensors["token_embd.weight"]
    content = np.frombuffer(path.read_bytes()[placed.offset : placed.offset + placed.size], np.uint8)
    blocks = content.reshape(-1, {"Q4_0": 18, "Q4_1": 20, "Q5_0": 22, "Q5_1": 24, "Q8_0": 34}[kind])
    scale, rest = blocks[:, :2].copy().view(np.float16).astype(np.float32), blocks[:, 2:]
    if kind == "Q8_0":  # d · q
        expected = scale * rest.view(np.int8)
    else:
        low = np.float32(0)
        if kind.endswith("_1"):  # d · q + m
            low, rest = rest[:, :2].copy().view(np.float16).astype(np.float32), rest[:, 2:]
        high = np.zeros((len(rest), 32), np.int32)
        if kind.startswith("Q5"):
            bits, rest = rest[:, :4].copy().view(np.uint32), rest[:, 4:]
            high = ((bits >> np.arange(32, dtype=np.uint32)) & 1).astype(np.int32) << 4
        codes = np.concatenate([rest & 15, rest >> 4], 1).astype(np.int32) | high
        if kind.endswith("_0"):  # d · (q − 8), d · (q − 16)
            codes = codes - (8 if kind == "Q4_0" else 16)
        expected = scale * codes.astype(np.float32) + low
    found = open_checkpoint(path).state_dict()["model.embed_tokens.weight"]
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy().reshape(-1, 32), expected)
    assert any("quantized before" in note for note in open_checkpoint(path).notes)


def test_q4_k_and_q6_k_by_their_formulas(tmp_path):
    """K-quants: 256 elements in 8 (or 16) groups, scales quantized too; random bytes are valid codes."""
    rng = np.random.default_rng(0)
    for kind, size in (("Q4_K", 144), ("Q6_K", 210)):
        blocks = rng.integers(0, 256, (VOCABULARY, size), dtype=np.uint8)
        places = (slice(0, 2), slice(2, 4)) if kind == "Q4_K" else (slice(208, 210),)
        for place in places:
            blocks[:, place] = np.frombuffer(np.float16([0.013]).tobytes(), np.uint8)
        writer = gguf.GGUFWriter(tmp_path / "raw.gguf", "llama")
        for key in ("block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"):
            writer.add_uint32(f"llama.{key}", 1)
        writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        writer.add_tensor("token_embd.weight", blocks, raw_dtype=gguf.GGMLQuantizationType[kind])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        found = open_checkpoint(tmp_path / "raw.gguf").state_dict()["model.embed_tokens.weight"]
        expected = np.stack([(by_q4_k if kind == "Q4_K" else by_q6_k)(block) for block in blocks])
        assert np.allclose(found.numpy(), expected, rtol=1e-6, atol=0)


def by_q4_k(block):
    d, dmin = block[:4].copy().view(np.float16).astype(np.float32)
    packed, codes, out = block[4:16].astype(int), block[16:], []
    for group in range(8):
        if group < 4:
            scale, low = packed[group] & 63, packed[group + 4] & 63
        else:
            scale = (packed[group + 4] & 15) | ((packed[group - 4] >> 6) << 4)
            low = (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4)
        half = codes[32 * (group // 2) : 32 * (group // 2) + 32]
        quant = half & 15 if group % 2 == 0 else half >> 4
        out.append(d * np.float32(scale) * quant.astype(np.float32) - dmin * np.float32(low))
    return np.concatenate(out)


def by_q6_k(block):
    low, high, scales = block[:128].astype(int), block[128:192].astype(int), block[192:208].view(np.int8)
    d = block[208:210].copy().view(np.float16).astype(np.float32)[0]
    out = np.empty(256, np.float32)
    for half in range(2):
        for place in range(32):
            for quarter in range(4):
                ql = low[64 * half + 32 * (quarter % 2) + place]
                bits = (ql & 15) if quarter < 2 else (ql >> 4)
                code = (bits | (((high[32 * half + place] >> (2 * quarter)) & 3) << 4)) - 32
                index = 128 * half + 32 * quarter + place
                out[index] = d * np.float32(scales[index // 16]) * np.float32(code)
    return out


def test_other_architectures_are_refused_with_their_tensors(tmp_path):
    path = write(tmp_path / "m.gguf", {"token_embd.weight": torch.ones(2, 4)}, family="mamba")
    with pytest.raises(CheckpointError, match="'mamba', which is not known here") as caught:
        open_checkpoint(path)
    assert caught.value.code == "unsupported_format"
    assert caught.value.details["tensors"] == ["token_embd.weight [2, 4] F32"]
    for name in ("rope_freqs.weight", "blk.0.ffn_gate_inp.weight"):
        path = write(tmp_path / "x.gguf", llama_tensors() | {name: torch.ones(8)})
        with pytest.raises(CheckpointError, match="that a plain Llama has not"):
            open_checkpoint(path)
    path = write(tmp_path / "s.gguf", llama_tensors(), **{"llama.rope.scaling.type": "linear"})
    with pytest.raises(CheckpointError, match="scaled by 'linear'"):
        open_checkpoint(path)


def header(tensors=0, keys=0, version=3, rest=b""):
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + rest


def text(value):
    return struct.pack("<Q", len(value)) + value


def entry(name=b"w", shape=(4,), kind=0, offset=0):
    return text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}QIQ", *shape, kind, offset)


LIES = {
    "version 1": (header(version=1), "unsupported_format"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "unsupported_format"),
    "cut off": (header()[:15], "truncated_file"),
    "a trillion tensors": (header(tensors=1 << 40), "bad_gguf"),
    "a trillion keys": (header(keys=1 << 40), "bad_gguf"),
    "a text beyond the file": (header(keys=1, rest=struct.pack("<Q", 1 << 15)), "truncated_file"),
    "a key of a gigabyte": (header(keys=1, rest=struct.pack("<Q", 1 << 30)), "bad_gguf"),
    "an array of a trillion": (header(keys=1, rest=text(b"k") + struct.pack("<IIQ", 9, 0, 1 << 40)), "bad_gguf"),
    "an array of arrays": (header(keys=1, rest=text(b"k") + struct.pack("<IIQ", 9, 9, 1)), "bad_gguf"),
    "an unknown type": (header(keys=1, rest=text(b"k") + struct.pack("<I", 77)), "bad_gguf"),
    "no UTF-8": (header(keys=1, rest=text(b"\xff")), "bad_gguf"),
    "a key twice": (header(keys=2, rest=(text(b"k") + struct.pack("<IB", 0, 1)) * 2), "bad_gguf"),
    "a tensor twice": (header(tensors=2, rest=entry() * 2 + bytes(99)), "bad_gguf"),
    "nine axes": (header(tensors=1, rest=entry(shape=(1,) * 9) + bytes(99)), "bad_gguf"),
    "a huge axis": (header(tensors=1, rest=entry(shape=(1 << 60,)) + bytes(99)), "bad_gguf"),
    "another type": (header(tensors=1, rest=entry(kind=29) + bytes(99)), "unsupported_format"),
    "half a block": (header(tensors=1, rest=entry(shape=(16,), kind=8) + bytes(99)), "bad_gguf"),
    "beyond the file": (header(tensors=1, rest=entry(shape=(4096,)) + bytes(99)), "truncated_file"),
    "between two places": (header(tensors=1, rest=entry(offset=3) + bytes(99)), "bad_gguf"),
    "overlapping": (header(tensors=2, rest=entry() + entry(b"v") + bytes(99)), "bad_gguf"),
    "alignment zero": (
        header(keys=1, rest=text(b"general.alignment") + struct.pack("<II", 4, 0)), "bad_gguf",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", LIES)
def test_headers_that_lie_are_refused(tmp_path, what):
    content, code = LIES[what]
    (tmp_path / "m.gguf").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(tmp_path / "m.gguf")
    assert caught.value.code == code


def test_every_cut_of_a_file_is_refused(tmp_path):
    whole = write(tmp_path / "m.gguf", llama_tensors()).read_bytes()
    for length in [*range(4, 700, 13), len(whole) - 1]:
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / "cut.gguf")
