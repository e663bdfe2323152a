"""Item texts as token ids: a byte-pair tokenizer trained on the catalogue itself.

A catalogue is small, so its own words are the best vocabulary. Pieces of words also cover later
texts: those of new items and of LLMs.

Suffixes: I texts, T token positions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import BpeTrainer

PADDING = 0
"""Id of the padding token, which has no embedding."""


def train_tokenizer(texts: Sequence[str], *, vocab_size: int, max_tokens: int) -> Tokenizer:
    """A lower-casing tokenizer that cuts and pads every text to `max_tokens`.

    Equal texts give an equal tokenizer: a run that continues after a kill trains it again and
    must get the ids of its checkpoint. Trainers that mark where a word begins or ends, such as
    WordPiece, number their tokens differently every time.
    """
    tokenizer = Tokenizer(BPE(unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer()
    tokenizer.pre_tokenizer = BertPreTokenizer()
    special = ["[PAD]", "[UNK]"]  # their order makes the padding id 0
    trainer = BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.enable_truncation(max_tokens)
    tokenizer.enable_padding(length=max_tokens, pad_id=PADDING)
    return tokenizer


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.int32]:
    """Token ids, int32 [I, T], padded on the right with `PADDING`; an empty text is all padding."""
    ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    return np.array(ids, np.int32).reshape(len(texts), len(tokenizer.encode("").ids))
