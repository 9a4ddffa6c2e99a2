"""Tiny language models of transformers with random weights, saved as people save them, and texts for them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import torch

WORDS = [
    "the", "a", "cat", "dog", "bird", "sat", "ran", "flew", "on", "under", "over", "mat", "hill", "tree", "and", "then",
    "it", "was", "old", "young", "happy", "sad", "near", "far", "house", "river", "we", "saw", "they", "said", "no",
    "yes",
]  # fmt: skip
"""Every text below is made of these."""


def sentences(count: int, longest: int = 12) -> list[str]:
    """``count`` texts of different lengths, the same every time."""
    draw = torch.Generator().manual_seed(3)
    texts = []
    for _ in range(count):
        length = int(torch.randint(3, longest + 1, (), generator=draw))
        texts.append(" ".join(WORDS[int(i)] for i in torch.randint(0, len(WORDS), (length,), generator=draw)))
    return texts


def write_jsonl(path: Path, texts: list[str], labels: list[int] | None = None) -> Path:
    rows = [{"text": text} if labels is None else {"text": text, "label": labels[i]} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tiny_bert(folder: Path, class_name: str = "BertForMaskedLM", **changes) -> torch.nn.Module:
    """A BERT of two layers in ``folder``, with the tokenizer beside it."""
    import transformers

    size = {"vocab_size": len(WORDS) + 5, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 24, "max_position_embeddings": 32, "initializer_range": 0.3}  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, class_name)(transformers.BertConfig(**size | changes)).eval()
    roles = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    special = [*roles.values(), "[MASK]"]
    return _saved(model, folder, special, "[CLS] $A [SEP]", mask_token="[MASK]", **roles)


def tiny_llama(folder: Path, class_name: str = "LlamaForCausalLM", **changes) -> torch.nn.Module:
    """A Llama of two layers in ``folder``, whose tokenizer has no padding token, like the real one's."""
    import transformers

    size = {"vocab_size": len(WORDS) + 3, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 24, "max_position_embeddings": 32,
            "initializer_range": 0.3, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
    torch.manual_seed(0)
    model = getattr(transformers, class_name)(transformers.LlamaConfig(**size | changes)).eval()
    return _saved(
        model, folder, ["<unk>", "<s>", "</s>"], "<s> $A", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def _saved(model: torch.nn.Module, folder: Path, special: list[str], template: str, **roles: str) -> torch.nn.Module:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    unknown = next(token for token in special if "unk" in token.lower())
    words = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    used = [(token, words[token]) for token in special if token in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    tokenizer.add_special_tokens(special)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(folder)
    model.save_pretrained(folder)
    model.set_attn_implementation("eager")  # as the engine builds it: the same digits
    return model


def zipped(folder: Path, path: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    """The folder as one archive."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return path


def change_config(folder: Path, **changes) -> None:
    """Other values in config.json; None takes a key out."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def write_gguf(model: torch.nn.Module, path: Path) -> Path:
    """A Llama as llama.cpp stores it: its own names, and the rows of query and key in its own order."""
    import gguf

    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {
        "block_count": config.num_hidden_layers, "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size, "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads, "attention.head_count_kv": config.num_key_value_heads,
    }.items():  # fmt: skip
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    inner = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, tensor in state.items():
        part = name.removesuffix(".weight")
        if part.startswith("model.layers."):
            _, _, layer, rest = part.split(".", 3)
            stored, count = f"blk.{layer}.{inner[rest]}", heads.get(inner[rest])
        else:
            stored, count = outer[part], None
        if count:  # halves of each head become pairs: convert_hf_to_gguf.py's LlamaModel.permute
            tensor = tensor.reshape(count, 2, len(tensor) // count // 2, -1).swapaxes(1, 2).reshape(tensor.shape)
        writer.add_tensor(f"{stored}.weight", tensor.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
