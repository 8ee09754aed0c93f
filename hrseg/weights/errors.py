"""Errors of weight files: reasons for a refusal, and the message that each becomes.

Readers raise a reason without the file's name; `checkpoint_io` adds the name and the next step.
"""

import textwrap
from pathlib import Path

from hrseg.errors import WeightsError


class Refusal(Exception):
    """A reason not to open a file. Its text is half a sentence."""

    advice = "Use another checkpoint."


class Damaged(Refusal):
    """The bytes are not what the format promises."""

    advice = (
        "It is probably truncated or of another kind. Copy or download it again, or use another checkpoint of the "
        "same run, such as last.ckpt."
    )


class Forbidden(Refusal):
    """The file asks for more than tensors, arrays and plain types."""

    advice = (
        "Opening it the usual way could run code, so it stays shut and nothing of it was run. Where you trust it, "
        "save its state_dict alone with the program that wrote it, or convert it to safetensors there."
    )


class NoCheckpoint(Refusal):
    """It is a sound file of another kind."""

    advice = "hrseg opens checkpoints of PyTorch (.ckpt, .pth), of Paddle (.pdparams) and .safetensors files."


class TooLarge(Refusal):
    """The file declares more than it can hold, or more than any checkpoint needs."""

    advice = (
        "Such a file is damaged, or made to exhaust memory; nothing of it was loaded. Download it again from its "
        "publisher."
    )


def refuse(path: Path, size: int, reason: Refusal) -> WeightsError:
    """Return the error of a refusal: the file, what is wrong with it, what to do.

    Example:
        >>> str(refuse(Path("a.pth"), 12, Damaged("it ends early")))[:54]
        'a.pth (12 bytes) is not a readable checkpoint: it ends'
    """
    cause = textwrap.shorten(str(reason).replace("\0", " "), 240, placeholder=" …").rstrip(".")
    return WeightsError(f"{path} ({size:,} bytes) is not a readable checkpoint: {cause}. {reason.advice}")
