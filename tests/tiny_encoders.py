"""Encoders of many architectures with few random weights, and a tokenizer of whole words."""

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from winnow.llm.models.named import NamedModel, Package

WORDS = [
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta"),
    *("theta", "iota", "kappa", "rho", "mu", "nu", "xi"),
]
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""With the ids of RoBERTa."""
VOCABULARY = len(WORDS) + len(SPECIAL)
WINDOW = 8
"""Tokens of local attention, where an architecture has it."""
POSITIONS = 70
"""Rows of the tables of positions."""

COMMON = {"vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
BERT = COMMON | SHAPE | {"max_position_embeddings": POSITIONS}
DECODER = BERT | {"num_key_value_heads": 1, "sliding_window": WINDOW, "attention_dropout": 0.3}
LOCAL_AND_GLOBAL = ["sliding_attention", "full_attention", "sliding_attention"]

ARCHITECTURES = {
    "bert": ("Bert", BERT),
    "roberta": ("Roberta", BERT),
    "xlm-roberta": ("XLMRoberta", BERT),
    "mpnet": ("MPNet", BERT),
    "distilbert": (
        "DistilBert",
        COMMON
        | {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
        | {"max_position_embeddings": POSITIONS},
    ),
    "electra": ("Electra", BERT | {"embedding_size": 16}),
    "albert": ("Albert", BERT | {"embedding_size": 16}),
    "modernbert": (
        "ModernBert",
        BERT
        | {"local_attention": WINDOW, "cls_token_id": 0, "sep_token_id": 2}
        | {"attention_dropout": 0.3, "mlp_dropout": 0.2, "embedding_dropout": 0.1},
    ),
    "deberta-v2": (
        "DebertaV2",
        BERT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16},
    ),
    "t5": (
        "T5",
        COMMON
        | {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
        | {"decoder_start_token_id": 1},
    ),
    "qwen3": (
        "Qwen3",
        DECODER | {"head_dim": 16, "use_sliding_window": True, "max_window_layers": 1},
    ),
    "llama": ("Llama", {name: DECODER[name] for name in DECODER if name != "sliding_window"}),
    "mistral": ("Mistral", DECODER),
    "gemma3_text": ("Gemma3Text", DECODER | {"head_dim": 16, "layer_types": LOCAL_AND_GLOBAL}),
}
"""Class and config of each architecture, by the name of its model type."""


def words_tokenizer(longest=None):
    """A tokenizer of whole words that names its longest text, or does not."""
    ids = {word: at for at, word in enumerate([*SPECIAL, *WORDS])}
    made = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    limit = {} if longest is None else {"model_max_length": longest}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        unk_token="<unk>", **limit,
    )  # fmt: skip


def save_encoder(name, folder, *, longest=None, **changes):
    """Write weights and tokenizer of an architecture into `folder`."""
    torch.manual_seed(0)
    kind, values = ARCHITECTURES[name]
    config = getattr(transformers, f"{kind}Config")(**values | changes)
    model = getattr(transformers, f"{kind}Model")(config)
    for weight in model.parameters():  # so far from 0 that attention is not the same everywhere
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    words_tokenizer(longest).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def named_encoder(name, package):
    """An encoder by name whose weights are the folder `model` of an importable package."""
    distribution = Package(package.replace("_", "-"), "1.0", f"{package}/model/")
    return NamedModel(name, "encoder", name, 0, "MIT", 0, (distribution,), "")
