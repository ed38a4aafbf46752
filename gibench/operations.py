"""Image operations of the AutoAugment family on [0, 1] tensors, numbered as ATS numbers them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

OPERATIONS = tuple(
    name
    for row in (
        "invert7 contrast6 rotate2 translateX9 sharpness1 sharpness3 shearY2 translateY2 autocontrast5 equalize2",
        "shearY5 posterize5 color3 brightness5 sharpness9 brightness9 equalize5 equalize1 contrast7 sharpness5",
        "color5 translateX5 equalize7 autocontrast8 translateY3 sharpness6 brightness6 color8 solarize0 invert0",
        "equalize0 autocontrast0 equalize8 equalize4 color5 equalize5 autocontrast4 solarize4 brightness3 color0",
        "solarize1 autocontrast0 translateY3 translateY3 autocontrast1",
        "solarize1 equalize5 invert0 translateY3 autocontrast1",
    )
    for name in row.split()
)
"""ATS's library: name and level 0..9 of each operation; a policy names them by their place here."""


def transformed(x: Tensor, operation: str, sign: int, scale: float) -> Tensor:
    """One operation on images (n, c, h, w), its magnitude times `scale`; scale 0 changes nothing."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as T

    name, level = operation[:-1], scale * int(operation[-1]) / 9
    h, w = x.shape[-2:]

    def moved(angle: float = 0.0, right: float = 0.0, down: float = 0.0, shear: float = 0.0) -> Tensor:
        grey = [0.5] * x.shape[1]
        out: Tensor = T.affine(x, angle, [right, down], 1.0, [0.0, shear], InterpolationMode.BILINEAR, grey)
        return out

    operations: dict[str, Callable[[], Tensor]] = {
        "shearY": lambda: moved(shear=math.degrees(math.atan(sign * 0.3 * level))),
        "translateX": lambda: moved(right=sign * 150 / 331 * level * w),
        "translateY": lambda: moved(down=sign * 150 / 331 * level * h),
        "rotate": lambda: moved(angle=sign * 30 * level),
        "color": lambda: T.adjust_saturation(x, 1 + sign * 0.5 * level),
        "contrast": lambda: T.adjust_contrast(x, 1 + sign * 0.5 * level),
        "brightness": lambda: T.adjust_brightness(x, 1 + sign * 0.5 * level),
        "sharpness": lambda: T.adjust_sharpness(x, 1 + sign * 0.5 * level),
        "solarize": lambda: torch.where(x < 256 / 255 * (1 - level), x, 1 - x),
        "posterize": lambda: posterized(x, round(8 - 4 * level)),
        "invert": lambda: x + scale * (1 - 2 * x),
        "autocontrast": lambda: x + scale * (T.autocontrast(x) - x),
        "equalize": lambda: x + scale * (T.equalize(x) - x),
    }
    out: Tensor = x.clone() if scale == 0 else operations[name]()
    return out


def posterized(x: Tensor, bits: int) -> Tensor:
    """Only the upper `bits` of 8 stay."""
    step = 2 ** (8 - bits)
    return x if step == 1 else ((x * 255).round() / step).floor() * step / 255
