"""What the masked tower needs of a tower that reads pictures, and nothing of how one is built.

A tower is a row of blocks. The picture's tokens go through all of them; mask class tokens start at
one of them, `Tower.first`, and go through the rest. In a CLIP that is the first, and what they
start as is the class token. A tower without a class token pools its patches by attention: there the
pooling head is the last block, and what pools, its probe, is what mask class tokens start as.

In either, a mask that covers everything, asked with the tower's own queries, is the tower's own
answer for the whole picture.

Families stand beside this file, one in each; `families.py` finds the one of a model.

Shapes: B pictures, T tokens of a picture (C that stand for all of it, then P patches, row by row),
Q masks, D width, N heads, E embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from torch import Tensor, nn

#: What attention is made of: queries, keys, values.
Part = Literal["q", "k", "v"]
#: Cosines and sines of a tower that turns queries and keys by their places: two of [T,D/N], or of
#: [B,N,T,D/N] where they differ.
Turns = tuple[Tensor, Tensor]


class Block(Protocol):
    """One block of a tower, or its pooling head.

    Attributes:
        heads: of its attention.
        reads_itself: whether a mask class token reads itself, too, where the picture's class token
            reads itself: so in a pooling head that reads a class token beside the patches.
    """

    heads: int
    reads_itself: bool

    def read(self, hidden: Tensor) -> Tensor:
        """The picture's tokens [B,T,D] as attention takes them: normalised."""
        ...

    def ask(self, own: Tensor) -> Tensor:
        """Mask class tokens [B,Q,D] as attention takes them. Of a pooling head: its probe."""
        ...

    def project(self, part: Part, read: Tensor) -> Tensor:
        """Queries, keys or values [B,T,D] of what `read` or `ask` gave, as the tower has them."""
        ...

    def weights(self, part: Part) -> tuple[Tensor, Tensor | None]:
        """[D,D] weight and [D] bias of `project`, from which masks' own projections start."""
        ...

    def turn(self, x: Tensor, turns: Turns | None) -> Tensor:
        """Queries or keys [B,N,T,D/N] of the picture, turned by their places if a tower does so."""
        ...

    def finish(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        """What follows attention.

        Args:
            hidden: [B,T,D], what came into the block.
            mixed: [B,N,T,D/N], what attention gave.

        Returns:
            [B,T,D].
        """
        ...


class Tower(Protocol):
    """A tower that reads pictures.

    Attributes:
        family: its name.
        modules: that hold its weights.
        image_size, patch_size: the sides, in pixels, of the square that it was trained on and of a
            patch.
        width: D.
        prefix: C, how many tokens stand before the patches; every mask sees them.
        blocks: in order.
        first: the index of the block that mask class tokens start at.
    """

    family: str
    image_size: int
    patch_size: int
    width: int
    prefix: int
    first: int

    @property
    def modules(self) -> Sequence[nn.Module]: ...

    @property
    def blocks(self) -> Sequence[Block]: ...

    def start(self, pixel_values: Tensor) -> tuple[Tensor, Turns | None]:
        """The tokens [B,T,D] of pictures [B,3,H,W] before the first block, and their turns.

        Pictures are normalised for the tower; of any size in whole patches: positions are
        resampled where it is not the tower's own.
        """
        ...

    def own_embedding(self) -> Tensor:
        """[D]: the embedding with which a mask class token is what the tower itself starts from."""
        ...

    def own_start(self, embedding: Tensor) -> Tensor:
        """[D]: what a mask class token of a learned embedding starts as, before its first block."""
        ...

    def embed(self, own: Tensor) -> Tensor:
        """[B,Q,E]: tokens [B,Q,D] behind the last block in the space of the words."""
        ...

    def moving(self) -> Mapping[str, Tensor]:
        """Numbers of the tower that MasQ-Tuning moves and an add-on file therefore holds, by name.

        They are the module's own, to be read and written to.
        """
        ...

    def frozen(self) -> Mapping[str, Tensor]:
        """All numbers of the tower but these: what tells one tower from another."""
        ...


class Words(Protocol):
    """A tower that reads words, with the tokenizer that it was trained with.

    Attributes:
        size: E.
        context_length: the most tokens that it reads of a text.
        modules: that hold its weights.
        settings: all that its answers depend on beside weights and tokens, in words.
    """

    size: int
    context_length: int
    settings: str

    @property
    def modules(self) -> Sequence[nn.Module]: ...

    def token_ids(self, texts: Sequence[str], *, cut: bool = False) -> list[list[int]]:
        """The tokens of texts at their own lengths, with all that the tower wants around them.

        Args:
            texts: N strings.
            cut: make those shorter that are longer than the tower reads.
        """
        ...

    def pad(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """[N,T] int64 on the CPU: texts' tokens at one length, as the tower takes them."""
        ...

    def embed(self, padded: Tensor) -> Tensor:
        """[N,E], not normalised, of padded tokens [N,T] on the tower's device."""
        ...
