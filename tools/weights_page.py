"""Write docs/weights.md from the catalog: python -m tools.weights_page."""

from itertools import groupby
from pathlib import Path

from hrseg.imaging import write_atomic
from hrseg.weights.catalog import Row, rows

PAGE = Path(__file__).parents[1] / "docs" / "weights.md"
SOURCES = {
    "hrseg": "Part of the package; nothing is fetched.",
    "official": "The authors' own files: segmentation networks that the HRNet-OCR branch of "
    "HRNet-Semantic-Segmentation links at github.com/hsfzxjy/models.storage, and ImageNet networks among the releases "
    "of HRNet-Image-Classification. Files named `torch04` keep the norm layers of PyTorch 0.4.1 and are converted on "
    "import.",
    "timm": "ImageNet networks on the Hugging Face hub: the official ones, GluonCV's, and Paddle's distilled `ssld` "
    "ones. The scores are timm's own measurements. The hub names each file's sha256 when it is fetched.",
    "mmseg": "The model zoo of mmsegmentation 1.2.2. Its W18-Small is hrseg's `hrnet_w18_small_v2`. A file's name ends "
    "in the first eight digits of its sha256, which are checked.",
    "openmmlab": "The official ImageNet files as OpenMMLab keeps them; the same eight digits.",
    "paddle": "PaddleSeg and its remote-sensing benchmark. They pad otherwise, and expect images scaled to -1 … 1.",
    "csail": "MIT's scene parsing: an encoder and a decoder file, which belong together, and the ImageNet file they "
    "started from. The server offers no encryption.",
    "openseg": "The official ImageNet files as openseg.pytorch keeps them. Its segmentation networks have a 3x3 "
    "auxiliary classifier and take BGR images, so they are others than hrseg's.",
}
HEAD = """# Published weights

<!-- Written by tools/weights_page.py from hrseg/weights/catalog.csv; change those. -->

`hrseg weights list WORDS` finds a tag, `hrseg weights info TAG` tells all that is known of it, `hrseg weights pull TAG`
fetches it once into the cache, `hrseg weights verify` hashes again what is there. A tag stands wherever a file does:

```
hrseg predict street.png --model hrnet_w48_ocr.official_cityscapes
hrseg fit --config cityscapes_w48 model.weights=hrnet_w48.ms_in1k
hrseg weights import hrnet_w48.paddle_cityscapes --out w48.safetensors
```

Scores are the publishers', in per cent (mIoU; top-1 for ImageNet), each by the protocol beside it. *Resize* is how a
network resizes inside, which its keys do not show: loading under another policy gives other masks. A digest in the last
column is checked after every download: `full`, the first digits (`prefix`), or the one the hub names (`server`); where
nothing is published, hrseg keeps the digest that it finds and says that the file is unverified.

| variable | meaning |
| --- | --- |
| `HRSEG_CACHE` | cache folder (`~/.cache/hrseg`, `~/Library/Caches/hrseg` or `%LOCALAPPDATA%\\hrseg\\Cache`) |
| `HRSEG_OFFLINE=1`, `HF_HUB_OFFLINE=1` | fetch nothing; the message says which file to bring, and where to put it |
| `HF_ENDPOINT` | a mirror of huggingface.co |
| `http_proxy`, `https_proxy`, `no_proxy` | as everywhere |

"""


def page() -> str:
    """Return the text of docs/weights.md."""
    parts = [HEAD]
    for source, group in groupby(rows(), key=lambda row: row.source):
        parts.append(f"## {source}\n\n{SOURCES[source]}\n\n")
        parts.append("| tag | head | classes | resize | score | protocol | sha256 |\n")
        parts.append("| --- | --- | --: | --- | --: | --- | --- |\n")
        parts += [_line(row) for row in group]
        parts.append("\n")
    parts.append(
        "## Elsewhere\n\nCheckpoints that exist on OneDrive, Baidu or Google Drive only (the files of the official "
        "master and pytorch-v1.1 branches, most official ImageNet files) have no stable address and no row: fetch them "
        "by hand and import the file.\n\n"
        "The official page links its 60-class PASCAL-Context network with OCR to the file of the 59-class network "
        "without it, so that one has no row either. PaddleSeg's backbone archives hold the `ssld` weights that timm "
        "and the official page offer as plain files.\n\n## Terms\n\n"
        "Weights come under their publisher's license, and the data they learned from has terms of its own; "
        "`hrseg weights info` shows both. This is what the publishers wrote, not legal advice.\n\n"
    )
    terms = sorted({f"* {row.data_terms}" for row in rows()}, key=str.lower)
    return "".join(parts) + "\n".join(terms) + "\n"


def _line(row: Row) -> str:
    digest = "full" if len(row.sha256) == 64 else "prefix" if row.sha256 else ""
    digest = digest or ("server" if row.source == "timm" else "-")
    score = f"{row.score:g}" if row.score is not None else ""
    padding = " (pads 0/1)" if row.padding == "same" else ""
    cells = (
        f"`{row.tag}`",
        row.head,
        row.num_classes,
        row.resize + padding,
        score,
        row.protocol,
        digest,
    )
    return f"| {' | '.join(map(str, cells))} |\n"


def main() -> None:
    """Write the page."""
    with write_atomic(PAGE) as temporary:
        temporary.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(rows())} rows")


if __name__ == "__main__":
    main()
