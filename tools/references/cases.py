"""Which networks of which source are run, under which options of theirs; nothing else is decided here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Width:
    """An HRNet the way every yaml of the field describes one; the numbers are the published files'."""

    channels: int
    stem_blocks: int
    stem_channels: int
    modules: tuple[int, int, int]
    blocks: int


WIDTHS = {
    "hrnet_w18_small_v1": Width(16, 1, 32, (1, 1, 1), 2),
    "hrnet_w18_small_v2": Width(18, 2, 64, (1, 3, 2), 2),
    "hrnet_w48": Width(48, 4, 64, (1, 4, 3), 4),
}


@dataclass(frozen=True)
class Case:
    """One network of one source.

    Attributes:
        source: File of this package that runs it.
        backbone: A key of WIDTHS.
        head: Our name of its head.
        policy: Our name of what it does when it resizes.
    """

    source: str
    backbone: str
    head: str
    policy: str

    @property
    def model(self) -> str:
        """Name of the weights, which the resize policy does not change."""
        return f"{self.backbone}_{self.head}"

    @property
    def key(self) -> str:
        """Name of this case among all, such as "official/hrnet_w48_ocr/bilinear"."""
        return f"{self.source}/{self.model}/{self.policy}"


@dataclass(frozen=True)
class Source:
    """One implementation.

    Attributes:
        module: File of this package.
        title: How the table of results calls it.
        policies: Our names of the policies its own switches reach.
        heads: Head → the backbones it is run with.
        wants: "checkout" of its repository, "python" of an environment of its own, or nothing but packages.
        padding: Our name of how it pads.
    """

    module: str
    title: str
    policies: tuple[str, ...]
    heads: dict[str, tuple[str, ...]]
    wants: str = ""
    padding: str = "symmetric"


_ALL = tuple(WIDTHS)
_W48 = ("hrnet_w48",)
SOURCES = {
    "official": Source(
        "official",
        "official, HRNet-OCR branch",
        ("bilinear", "bilinear_aligned"),
        {"v2": _ALL, "ocr": _W48},
        wants="checkout",
    ),
    "official_v11": Source("official", "official, pytorch-v1.1 branch", ("bilinear",), {"v2": _ALL}, wants="checkout"),
    "official_master": Source(
        "official_torch04",
        "official, master (torch 0.4.1)",
        ("bilinear",),
        {"v2": _ALL},
        wants="checkout",
    ),
    "official_torch04": Source(
        "official_torch04",
        "official, HRNet-OCR branch under torch 0.4.1",
        ("bilinear_aligned",),
        {"ocr": _W48},
        wants="checkout",
    ),
    "classification": Source(
        "classification",
        "official ImageNet code",
        ("nearest",),
        {"classification": _ALL},
        wants="checkout",
    ),
    "timm": Source("timm_hub", "timm", ("nearest",), {"classification": _ALL}),
    "smp": Source("smp_encoder", "smp `tu-hrnet`", ("nearest",), {"branches": _ALL[1:]}),
    "mmseg": Source("mmseg", "mmsegmentation", ("bilinear_scaled",), {"v2": _ALL, "ocr": _W48}, wants="python"),
    "paddleseg": Source(
        "paddleseg",
        "PaddleSeg",
        ("bilinear", "bilinear_aligned"),
        {"v2": _ALL, "ocr": _W48},
        wants="python",
        padding="same",
    ),
    "csail": Source("csail", "CSAILVision", ("bilinear",), {"c1": _W48}, wants="checkout"),
}


def cases(source: str) -> list[Case]:
    """Return the cases of one source, smallest network first."""
    row = SOURCES[source]
    return [
        Case(source, backbone, head, policy)
        for head, backbones in row.heads.items()
        for backbone in backbones
        for policy in row.policies
    ]
