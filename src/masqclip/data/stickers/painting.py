"""From the plans of scenes to pixels, a whole batch at once, on the CPU or a GPU.

Stickers are pasted one slot of the plans after the other, each within a square of pixels that
holds it; those of one mipmap and one size of square together.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from masqclip.data.stickers.plans import Plan, Plans
from masqclip.data.stickers.sprites import SpriteSet
from masqclip.data.stickers.styles import (
    PLAIN,
    PLAIN_PICTURE,
    bend_grid,
    outline,
    style_pictures,
    style_stickers,
)

_BELOW = (2.0, 0.0, 0.0, 0.0)


class Painter:
    """Paints scenes.

    Args:
        sprites: the drawings, and whose world's stuff.
        size: side of a scene in pixels.
        device: where.
    """

    def __init__(self, sprites: SpriteSet, size: int, device: torch.device) -> None:
        self.sprites, self.size, self.device = sprites, size, device

    @torch.no_grad()
    def paint(self, plans: Plans) -> tuple[Tensor, Tensor]:
        """Compute pixels.

        Returns:
            Images [B,3,H,W] uint8, and for each pixel what it shows [B,H,W] uint8: regions of
            stuff, from 1, then stickers, in the order of the plan.
        """
        with torch.autocast(self.device.type, enabled=False):  # half a pixel off is a wrong mask
            return self._painted(plans)

    def _painted(self, plans: Plans) -> tuple[Tensor, Tensor]:
        canvas, ids = self._ground(plans)
        self._paste(plans.scenes, canvas, ids)
        light = torch.tensor(
            [plan.light for plan in plans.scenes], dtype=torch.float32, device=self.device
        )
        canvas = canvas * light.view(-1, 1, 1, 1)
        styled = [b for b, plan in enumerate(plans.scenes) if plan.look != PLAIN_PICTURE]
        if styled:
            looks = [plans.scenes[b].look for b in styled]
            canvas[styled] = style_pictures(canvas[styled], looks)
        return canvas.round().clamp(0, 255).to(torch.uint8), ids

    def _ground(self, plans: Plans) -> tuple[Tensor, Tensor]:
        """Paint the stuff. Returns the canvas [B,3,H,W] in 0..255 and the ids [B,H,W]."""
        size, device, scenes = self.size, self.device, plans.scenes
        axis = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) / size
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        noise = torch.cat(
            [
                F.interpolate(
                    level.unsqueeze(1).to(device),
                    size=(size, size),
                    mode="bicubic",
                    align_corners=False,
                )
                for level in plans.noise
            ],
            dim=1,
        ).clamp(0, 1)
        ids = torch.ones(len(scenes), size, size, dtype=torch.uint8, device=device)
        upright = torch.tensor([plan.vertical for plan in scenes], device=device).view(-1, 1, 1)
        down, along = torch.where(upright, x, y), torch.where(upright, y, x)
        for k in range(max((len(plan.borders) for plan in scenes), default=0)):
            # A scene with fewer regions has its border below the picture.
            borders = [plan.borders[k] if k < len(plan.borders) else _BELOW for plan in scenes]
            numbers = torch.tensor(borders, dtype=torch.float32, device=device)
            level, depth, waves, phase = numbers.view(-1, 4, 1, 1).unbind(1)
            ids[down > level + depth * torch.sin(along * waves + phase)] = k + 2
        canvas = torch.zeros(len(scenes), 3, size, size, dtype=torch.float32, device=device)
        all_dice = plans.dice.to(device)
        for texture, paint in enumerate(self.sprites.world.textures.values()):
            uses = [(b, plan.stuff.index(texture)) for b, plan in enumerate(scenes)
                    if texture in plan.stuff]  # fmt: skip
            if uses:
                rows, slots = torch.tensor(uses, device=device).T
                painted = paint(y, x, noise[rows], all_dice[rows, slots])
                here = (ids[rows] == (slots + 1).view(-1, 1, 1)).unsqueeze(1)
                canvas[rows] = torch.where(here, painted, canvas[rows])
        return canvas, ids

    def _paste(self, plans: list[Plan], canvas: Tensor, ids: Tensor) -> None:
        """Paste the stickers, the first of every scene first, over `canvas` and `ids`."""
        for slot in range(max((len(plan.sprites) for plan in plans), default=0)):
            groups: dict[tuple[int, int], list[int]] = {}
            for b, plan in enumerate(plans):
                if slot < len(plan.sprites):
                    key = (self._level(plan.boxes[slot][2]), self._reach(plan, slot))
                    groups.setdefault(key, []).append(b)
            for (level, reach), rows in groups.items():
                self._paste_one(plans, slot, level, reach, rows, canvas, ids)

    def _paste_one(
        self,
        plans: list[Plan],
        slot: int,
        level: int,
        reach: int,
        rows: list[int],
        canvas: Tensor,
        ids: Tensor,
    ) -> None:
        """Paste one sticker into each of some scenes, from one mipmap, within `reach` pixels."""
        size, device = self.size, self.device
        placements = [_placement(plans[b], slot) for b in rows]
        theta = torch.tensor(placements, dtype=torch.float32, device=device)
        corners = [[_corner(c * size, reach, size) for c in plans[b].boxes[slot][:2]] for b in rows]
        corner = torch.tensor(corners, device=device)
        within = torch.arange(reach, device=device)
        ys = (corner[:, :1] + within).view(-1, reach, 1)
        xs = (corner[:, 1:] + within).view(-1, 1, reach)
        # Scene coordinates of -1..1 at the pixels' middles, as affine_grid has them.
        v, u = ((2 * axis + 1).float() / size - 1 for axis in (ys, xs))
        grid = torch.stack(
            [t[:, 0, None, None] * u + t[:, 1, None, None] * v + t[:, 2, None, None]
             for t in theta.unbind(1)], dim=-1,
        )  # fmt: skip
        picked = torch.tensor([plans[b].sprites[slot] for b in rows], device=device)
        sheet = self.sprites.sheet(level, device)
        styles = [plans[b].styles[slot] if plans[b].styles else PLAIN for b in rows]
        sticker = F.grid_sample(sheet[picked], bend_grid(grid, styles), align_corners=False)
        styled = [i for i, style in enumerate(styles) if style != PLAIN]
        if styled:
            chosen = [styles[i] for i in styled]
            sides = [plans[rows[i]].boxes[slot][2] * size for i in styled]
            redrawn = style_stickers(sticker[styled], chosen)
            sticker[styled] = outline(redrawn, chosen, sides)
        first = torch.tensor([len(plans[b].stuff) + slot + 1 for b in rows], dtype=torch.uint8)
        numbers = first.to(device).view(-1, 1, 1)
        if reach == size:
            canvas[rows], ids[rows] = _over(sticker, numbers, canvas[rows], ids[rows])
            return
        # Slices, not indices: these would cost more than all else that is done to a small sticker.
        for i, (b, (top, left)) in enumerate(zip(rows, corners, strict=True)):
            here = (slice(b, b + 1), slice(top, top + reach), slice(left, left + reach))
            seen = canvas[here[0], :, here[1], here[2]]
            one = slice(i, i + 1)
            pasted, shown = _over(sticker[one], numbers[one], seen, ids[here])
            canvas[here[0], :, here[1], here[2]], ids[here] = pasted, shown

    def _level(self, side: float) -> int:
        """The mipmap whose cells are nearest to, and not much smaller than, the pasted size."""
        pixels = side * self.size
        full = self.sprites.pixels.shape[-1]
        return min(self.sprites.levels - 1, max(0, round(math.log2(full / pixels))))

    def _reach(self, plan: Plan, slot: int) -> int:
        """Side of a square of pixels that holds a sticker: a few sizes only, to paste together."""
        side = plan.boxes[slot][2]
        if plan.styles:
            style = plan.styles[slot]
            bends = (1 + 1.5 * style.bend) / (1 - abs(style.taper))
            wider = max(style.stretch, 1 / style.stretch) * (1 + abs(style.shear))
            side *= wider * bends + 2 * style.border
        size = self.size
        needed = side * math.sqrt(2) * size + 4
        return min(size, 1 << math.ceil(math.log2(needed)))


def _corner(centre: float, reach: int, size: int) -> int:
    """The first pixel of a square of side `reach` about a centre, within the picture."""
    return min(max(0, math.floor(centre - reach / 2)), size - reach)


def _placement(plan: Plan, slot: int) -> list[list[float]]:
    """The 2x3 matrix from the scene's coordinates (-1..1) to the sticker's."""
    cy, cx, side = plan.boxes[slot]
    cos, sin = math.cos(plan.angles[slot]) / side, math.sin(plan.angles[slot]) / side
    flip = -1.0 if plan.flips[slot] else 1.0
    oy, ox = 2 * cy - 1, 2 * cx - 1
    across = [flip * cos, flip * sin, -flip * (cos * ox + sin * oy)]
    down = [-sin, cos, sin * ox - cos * oy]
    if plan.styles and plan.styles[slot] != PLAIN:
        style = plan.styles[slot]
        wide = math.sqrt(style.stretch)
        across = [a / wide + style.shear * d for a, d in zip(across, down, strict=True)]
        down = [d * wide for d in down]
    return [across, down]


def _over(sticker: Tensor, numbers: Tensor, below: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Stickers over what is below; where a sticker covers a pixel, its number in the ids."""
    alpha = sticker[:, 3:]
    # Colours are multiplied by alpha already, so that edges do not bleed.
    return below * (1 - alpha) + sticker[:, :3], torch.where(alpha[:, 0] > 0.5, numbers, ids)
