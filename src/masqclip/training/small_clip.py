"""A small CLIP to pretrain: its configuration, and a tokenizer learned from its captions."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from masqclip.errors import MasqclipError
from masqclip.towers.families import FAMILIES, family_of
from masqclip.towers.pretrainable import Contrast, SmallSizes
from masqclip.training.settings import PretrainSettings

# What pairs that are judged one by one start from (Zhai et al., 2023, sec. 3.2).
_SIGMOID_SCALE = 10.0
# What all others start from (Radford et al., 2021, sec. 2.5).
_SOFTMAX_SCALE = 1 / 0.07
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


def new_clip(settings: PretrainSettings, tokenizer: CLIPTokenizer) -> Any:
    """A CLIP of random weights, with the temperature that training starts from.

    Raises:
        MasqclipError: there is none of that family, or it cannot be trained as the settings say.
    """
    config = small_config(settings, tokenizer)
    clip = family_of(settings.family).model_class(config).float()
    sigmoid = contrast_of(settings, clip) == "sigmoid"
    if hasattr(clip, "logit_bias"):
        with torch.no_grad():
            clip.logit_scale.fill_(math.log(_SIGMOID_SCALE if sigmoid else _SOFTMAX_SCALE))
            # About one caption of a batch fits a picture; the published -10 is that of 32,768.
            clip.logit_bias.fill_(-math.log(settings.batch_size + settings.extra_captions))
    return clip


def contrast_of(settings: PretrainSettings, clip: Any) -> Contrast:
    """How a CLIP's pictures and captions are told apart: as asked for, or as its family does.

    Raises:
        MasqclipError: pairs are to be judged one by one, and the CLIP has no bias for that.
    """
    if settings.contrast == "sigmoid" and not hasattr(clip, "logit_bias"):
        raise MasqclipError(
            f"contrast is sigmoid, and a CLIP of the family {settings.family!r} has no bias to "
            "learn for it: set contrast=softmax, or family=siglip"
        )
    own = family_of(clip.config.model_type).contrast
    return "sigmoid" if (settings.contrast or own) == "sigmoid" else "softmax"


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
