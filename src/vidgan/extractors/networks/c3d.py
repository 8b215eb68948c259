"""C3D as published (Tran et al. 2015, arXiv 1412.0767), for the public weight files.

Eight 3x3x3 convolutions, five max poolings, two hidden layers of 4096 units. The last pooling
divides files into two families: Caffe and Chainer round a side of 7 up to 4 by cutting the last
window (`pool5="ceil"`), the common PyTorch ports pad a zero on every side instead
(`pool5="pad"`). Their windows differ, so weights only fit the pooling they were trained with.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vidgan.extractors.networks.inception import Shapes, scaled

Pool5 = Literal["ceil", "pad"]

CONVOLUTIONS = (
    ("conv1a", 3, 64),
    ("conv2a", 64, 128),
    ("conv3a", 128, 256),
    ("conv3b", 256, 256),
    ("conv4a", 256, 512),
    ("conv4b", 512, 512),
    ("conv5a", 512, 512),
    ("conv5b", 512, 512),
)
"""Name, channels in and channels out of every convolution at width 1."""

HIDDEN_UNITS = 4096
POOL5_CELLS = 4 * 4
NUM_FRAMES, SIDE = 16, 112


def c3d_shapes(width: float = 1.0, num_classes: int = 101) -> Shapes:
    """Name and shape of every weight.

    Args:
        width: scale of all channel counts but those of the input and the classes.
        num_classes: 101 (UCF-101), 487 (Sports-1M), or 0 for files without the last layer.
    """
    shapes: Shapes = {}
    for name, c_in, c_out in CONVOLUTIONS:
        c_in, c_out = c_in if c_in == 3 else scaled(c_in, width), scaled(c_out, width)
        shapes[f"{name}.weight"] = (c_out, c_in, 3, 3, 3)
        shapes[f"{name}.bias"] = (c_out,)
    hidden, features = scaled(HIDDEN_UNITS, width), scaled(512, width) * POOL5_CELLS
    sizes = [("fc6", hidden, features), ("fc7", hidden, hidden), ("fc8", num_classes, hidden)]
    for name, f_out, f_in in sizes:
        if f_out:
            shapes[f"{name}.weight"] = (f_out, f_in)
            shapes[f"{name}.bias"] = (f_out,)
    return shapes


class C3D(nn.Module):
    """The published C3D.

    Args:
        num_classes: N; 0 leaves out the last layer.
        width: scale of the channel counts.
        pool5: how the last pooling treats the odd side of 7, see the module's text.
    """

    def __init__(
        self, num_classes: int = 101, *, width: float = 1.0, pool5: Pool5 = "ceil"
    ) -> None:
        super().__init__()
        shapes = c3d_shapes(width, num_classes)
        for name, *_ in CONVOLUTIONS:
            c_out, c_in = shapes[f"{name}.weight"][:2]
            self.add_module(name, nn.Conv3d(c_in, c_out, 3, padding=1))
        for name in ("fc6", "fc7", "fc8"):
            if f"{name}.weight" in shapes:
                f_out, f_in = shapes[f"{name}.weight"]
                self.add_module(name, nn.Linear(f_in, f_out))
        self.pool5 = pool5
        self.num_classes = num_classes

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        """Features of a float clip `[B, 3, 16, 112, 112]` in the units of the weights.

        Returns:
            `pool5` `[B, 8192]`, `fc6` and `fc7` `[B, 4096]` after their ReLU, the same with
            `_before_relu`, and, if there is a last layer, `logits` and `probabilities` `[B, N]`.
        """
        x = F.max_pool3d(self._conv("conv1a", clip), (1, 2, 2))  # [B, 64, 16, 56, 56]
        x = F.max_pool3d(self._conv("conv2a", x), 2)  # [B, 128, 8, 28, 28]
        x = self._conv("conv3b", self._conv("conv3a", x))
        x = F.max_pool3d(x, 2)  # [B, 256, 4, 14, 14]
        x = self._conv("conv4b", self._conv("conv4a", x))
        x = F.max_pool3d(x, 2)  # [B, 512, 2, 7, 7]
        x = self._conv("conv5b", self._conv("conv5a", x))
        x = pool_to_4x4(x, self.pool5)  # [B, 512, 1, 4, 4]
        features = {"pool5": x.flatten(1)}
        features["fc6_before_relu"] = self.get_submodule("fc6")(features["pool5"])
        features["fc6"] = features["fc6_before_relu"].relu()
        features["fc7_before_relu"] = self.get_submodule("fc7")(features["fc6"])
        features["fc7"] = features["fc7_before_relu"].relu()
        if self.num_classes:
            features["logits"] = self.get_submodule("fc8")(features["fc7"])
            features["probabilities"] = features["logits"].softmax(1)
        return features

    def _conv(self, name: str, x: Tensor) -> Tensor:
        activation: Tensor = self.get_submodule(name)(x).relu()
        return activation


def pool_to_4x4(x: Tensor, pool5: Pool5) -> Tensor:
    """Pool `[B, C, 2, 7, 7]` to `[B, C, 1, 4, 4]`: windows from 0 ("ceil") or from -1 ("pad")."""
    if pool5 == "ceil":
        return F.max_pool3d(x, 2, ceil_mode=True)
    return F.max_pool3d(x, 2, padding=(0, 1, 1))
