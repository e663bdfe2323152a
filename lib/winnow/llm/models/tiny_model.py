"""A tiny Llama and its byte-level BPE tokenizer, trained in seconds on one catalogue or table.

It lets the whole path run where no model can be fetched. It learns to continue the texts of the
source and to fill the answer format of the tasks. It understands nothing: its answers show that
the path works and say nothing about quality.

Shape suffixes: W windows per step, T tokens per window.
"""

import json
import logging
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from winnow.errors import GenerationError
from winnow.llm.tasks.base import TextTask
from winnow.llm.tasks.sources import Misfit, Source

logger = logging.getLogger(__name__)

HEAD_DIM = 32
"""The smallest head that vLLM's CPU attention supports."""
PAD, END = "<|pad|>", "<|end|>"
"""The only special tokens."""
CHAT_TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}]{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
"""Roles are plain text. A control token inside a string would be dropped from the answer and
leave it shorter than the grammar counted."""
FEWEST_TEXTS = 2
"""The example answer of `hard_negatives` is made of two texts."""
MAX_POSITIONS = 8192
"""Room for the longest answer that a schema allows, far beyond what training sees."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyConfig:
    """Size and training of the tiny model; hidden, layers and vocabulary decide its speed."""

    hidden: int = 128
    """Width of the model; a multiple of 32, the head size."""
    layers: int = 2
    """Transformer layers."""
    vocabulary: int = 2048
    """Most tokens of the vocabulary; a small catalogue gives fewer."""
    chats: int = 100
    """Whole conversations per task, which teach the shape of a prompt."""
    answers: int = 500
    """Further answers per task without their prompts: the same lesson in a fifth of the tokens."""
    window: int = 512
    """Tokens per training sequence."""
    windows_per_step: int = 4
    """Training sequences per step."""
    steps: int = 2000
    """Training stops after this many steps or after `seconds`, whichever comes first."""
    seconds: float = 90.0
    """Wall time for making the model, data and tokenizer included."""
    learning_rate: float = 4e-3
    """Peak rate, reached after a tenth of the training; then a cosine lowers it to 0."""
    seed: int = 0
    """Seed of the initial weights, the texts' order and the windows."""

    def __post_init__(self) -> None:
        if self.hidden <= 0 or self.hidden % HEAD_DIM:
            raise ValueError(
                f"TinyConfig.hidden must be a positive multiple of {HEAD_DIM}, got {self.hidden}"
            )
        for name in ("layers", "chats", "answers", "window", "windows_per_step", "steps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"TinyConfig.{name} must be positive, got {getattr(self, name)}")
        if self.seconds <= 0:
            raise ValueError(f"TinyConfig.seconds must be positive, got {self.seconds}")
        if self.vocabulary < 512:
            raise ValueError(f"TinyConfig.vocabulary must be >= 512, got {self.vocabulary}")


def train_tiny(
    source: Source, tasks: Sequence[TextTask], config: TinyConfig, folder: Path
) -> dict[str, Any]:
    """Train on the source's texts and the tasks' answer format; save in Hugging Face format.

    Returns:
        Parameters, vocabulary, tokens of the training text, steps taken and the last loss.

    Raises:
        GenerationError: the source has too few texts to make an answer of.
    """
    began = time.monotonic()
    texts = source.texts(tasks)
    if len(texts) < FEWEST_TEXTS:
        raise GenerationError(
            f"model=tiny learns from the texts of its input, at least {FEWEST_TEXTS} different "
            f"ones, and there are {len(texts)}; name another model"
        )
    chats = list(_chats(source, tasks, texts, config))
    tokenizer = _train_tokenizer([*texts, *chats], config.vocabulary)
    documents = [*chats, *(f"{text}{END}" for text in texts)]
    random.Random(config.seed).shuffle(documents)
    ids = tokenizer(documents, add_special_tokens=False)["input_ids"]
    stream = np.concatenate([np.asarray(document, dtype=np.int64) for document in ids])
    model = _new_model(tokenizer, config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        metrics = _train(model, torch.from_numpy(stream), config, deadline=began + config.seconds)
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # written private; the engine may be another user
    tokenizer.save_pretrained(folder)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "text_tokens": len(stream),
        **metrics,
    }


def _chats(
    source: Source, tasks: Sequence[TextTask], texts: Sequence[str], config: TinyConfig
) -> Iterator[str]:
    """Conversations in the chat template's form, with answers in the source's words."""
    plain = [text.replace('"', "'").replace("\\", "/") for text in texts]
    draw = random.Random(config.seed)
    for task in tasks:
        found = source.inputs(task, config.chats + config.answers, config.seed + 1)
        questions = (inputs for inputs in found if not isinstance(inputs, Misfit))
        for i, inputs in enumerate(questions):
            messages = task.template.render(task.data(inputs)) if i < config.chats else []
            answer = json.dumps(task.example(inputs, plain, draw), ensure_ascii=False)
            turns = [*messages, {"role": "assistant", "content": answer}]
            yield "".join(f"[{turn['role']}]{turn['content']}{END}" for turn in turns)


def _train_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_POSITIONS,
    )


def _new_model(tokenizer: Any, config: TinyConfig) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            # rounded up: vLLM pads the vocabulary to a multiple of 64 anyway
            vocab_size=-(-len(tokenizer) // 64) * 64,
            hidden_size=config.hidden,
            intermediate_size=3 * config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.hidden // HEAD_DIM,
            head_dim=HEAD_DIM,
            max_position_embeddings=MAX_POSITIONS,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _train(model: Any, stream: Tensor, config: TinyConfig, deadline: float) -> dict[str, Any]:
    """Next-token training on windows drawn from anywhere in the text.

    It uses one thread: for so small a model a second one only adds waiting, and on a busy machine
    it made a step ten times slower.
    """
    draw = torch.Generator().manual_seed(config.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.05
    )
    length = min(config.window, len(stream) - 1)
    began = time.monotonic()
    model.train()
    step, loss = 0, torch.tensor(0.0)
    while step < config.steps:
        used = (time.monotonic() - began) / max(deadline - began, 1e-3)
        # Time counts in coarse steps, so that only a run that it cuts short depends on the clock.
        progress = max(step / config.steps, int(20 * used) / 20)
        if progress >= 1 and step:
            break
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(min(progress, 1.0))
        start_W = torch.randint(len(stream) - length, (config.windows_per_step,), generator=draw)
        token_WT = torch.stack([stream[at : at + length] for at in start_W.tolist()])
        loss = model(input_ids=token_WT, labels=token_WT).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 25 == 0:
            done = 100 * min(progress, 1.0)
            logger.info("tiny model: step=%d loss=%.3f done=%.0f%%", step, loss.item(), done)
    return {"steps": step, "loss": round(loss.item(), 4)}


def _schedule(progress: float) -> float:
    """Share of the peak learning rate: linear warm-up over a tenth, then a cosine to 0."""
    if progress < 0.1:
        return 0.1 + 9 * progress
    return 0.5 * (1 + float(np.cos(np.pi * (progress - 0.1) / 0.9)))
