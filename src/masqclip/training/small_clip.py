"""A small CLIP to pretrain: its configuration, and a tokenizer learned from its captions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from masqclip.errors import MasqclipError
from masqclip.towers.families import FAMILIES, family_of
from masqclip.towers.pretrainable import SmallSizes
from masqclip.training.settings import PretrainSettings

_START, _END = "<|startoftext|>", "<|endoftext|>"


def small_config(settings: PretrainSettings, tokenizer: CLIPTokenizer) -> Any:
    """The configuration of the CLIP to train, of the family that the settings name.

    Raises:
        MasqclipError: none of that family can be trained from nothing.
    """
    small = family_of(settings.family).small
    if small is None:
        raise MasqclipError(
            f"no small CLIP of the family {settings.family!r} can be trained from nothing: set "
            f"family to one of {', '.join(name for name, f in FAMILIES.items() if f.small)}"
        )
    return small(
        SmallSizes(
            image_size=settings.image_size,
            patch_size=settings.patch_size,
            vision_width=settings.vision_width,
            vision_layers=settings.vision_layers,
            vision_heads=settings.vision_heads,
            text_width=settings.text_width,
            text_layers=settings.text_layers,
            text_heads=settings.text_heads,
            embedding_size=settings.embedding_size,
            tokens=len(tokenizer),
            start_id=tokenizer.bos_token_id,
            end_id=tokenizer.eos_token_id,
            padding_id=tokenizer.pad_token_id,
        )
    )


def learn_tokenizer(captions: Iterable[str], *, merges: int) -> CLIPTokenizer:
    """Learn a byte-level BPE in CLIP's format: any text has tokens, frequent words have one each.

    Args:
        captions: the text to learn from.
        merges: most merges to learn.
    """
    words = Counter(caption for caption in captions)
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=3 * len(alphabet) + merges,
        end_of_word_suffix="</w>",
        # All units that merging begins with, numbered by us: ties are broken by number, and the
        # learner's own numbers differ from one run to the next.
        special_tokens=[*alphabet, *(letter + "</w>" for letter in alphabet)],
        min_frequency=2,
        show_progress=False,
    )
    learner.train_from_iterator(sorted(words), trainer)
    learned = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]][:merges]
    units = [*alphabet, *(letter + "</w>" for letter in alphabet), *(a + b for a, b in learned)]
    units += [_START, _END]
    vocabulary = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=learned,
        bos_token=_START,
        eos_token=_END,
        pad_token=_END,
        unk_token=_END,
        model_max_length=77,
    )
