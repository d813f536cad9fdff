"""The image tower of clip-mini: a small smooth CNN, known to timm (and so to open_clip) as `gmi_mini_tower`.

Four stages halve a 64 px picture to a 4 x 4 grid. Every operation has a smooth derivative (SiLU, no max
pooling) and the down-convolutions are 4 x 4 with stride 2, so that each pixel lies under the same number of
windows: a 3 x 3 kernel weighs even and odd pixels differently and its gradient shows a checkerboard. The head
reads the mean of the grid and the grid itself, so where something is counts as well as what it is.

Importing this module registers the tower; an open_clip configuration then names it:

    "vision_cfg": {"image_size": 64, "timm_model_name": "gmi_mini_tower", "timm_pool": "",
                   "timm_proj": "linear"}
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.models import register_model
from torch import Tensor, nn

IMAGE_SIZE = 64
GROUPS = 8


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), [N, channels, H, W] to the same shape."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y)))


class MiniTower(nn.Module):
    """Normalised images [N, 3, 64, 64] to features [N, num_features].

    Implements what open_clip asks of a timm model: `num_features`, `default_cfg`, `reset_classifier`.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (32, 64, 128, 256),
        num_features: int = 256,
        grid_channels: int = 64,
        num_classes: int = 0,
    ):
        super().__init__()
        self.num_features = num_features
        self.default_cfg = {"input_size": (3, IMAGE_SIZE, IMAGE_SIZE), "pool_size": None}
        self.stages = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 4, stride=2, padding=1), ResidualBlock(after))
                for before, after in zip([3, *widths[:-1]], widths, strict=True)
            )
        )
        cells = (IMAGE_SIZE // 2 ** len(widths)) ** 2
        self.norm = nn.GroupNorm(GROUPS, widths[-1])
        self.to_grid = nn.Conv2d(widths[-1], grid_channels, 1)
        self.fc = nn.Linear(widths[-1] + grid_channels * cells, num_features)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the last layer; 0 classes leave the features. `global_pool` must be empty: it is fixed."""
        if global_pool:
            raise ValueError(f"gmi_mini_tower pools by itself; got global_pool={global_pool!r}, set timm_pool to ''.")
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """The output of each stage, [N, widths[i], 32 / 2^i, 32 / 2^i]: for feature losses in training."""
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def forward_features(self, x: Tensor) -> Tensor:
        """Images [N, 3, 64, 64] to the last grid [N, widths[-1], 4, 4]."""
        return F.silu(self.norm(self.stages(x)))

    def forward_head(self, grid: Tensor) -> Tensor:
        """The grid [N, C, 4, 4] to features [N, num_features] (or class scores, if there are classes)."""
        pooled = grid.mean(dim=(2, 3))
        positions = self.to_grid(grid).flatten(1)
        return self.head(F.silu(self.fc(torch.cat([pooled, positions], dim=1))))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@register_model
def gmi_mini_tower(*, num_classes: int = 0, **timm_options: object) -> MiniTower:
    """timm's entry point. Which options it hands to every model differs by version; none may be set here."""
    asked = sorted(name for name, value in timm_options.items() if value)
    if asked:
        raise ValueError(f"gmi_mini_tower has no options {', '.join(asked)}; leave them out of vision_cfg.")
    return MiniTower(num_classes=num_classes)
