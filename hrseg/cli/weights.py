"""Verbs of `hrseg weights`: list, info, pull, import, push, verify."""

import argparse
import json
import shutil
import sys
import textwrap
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from hrseg.cli.args import add_group, add_verb, options_of
from hrseg.cli.console import BOLD, DIM, EXIT_OK, EXIT_PARTIAL, print_error, print_out, print_result, print_row, styled
from hrseg.errors import ConfigError, unknown_choice

if TYPE_CHECKING:
    from hrseg.weights.catalog import Row

POLICIES = ("bilinear", "bilinear_aligned", "bilinear_scaled", "nearest")


def add(verbs: Any) -> None:
    """Add the verbs of this module."""
    noun = add_group(verbs, "weights", "List, describe, fetch, check and convert published weights.")
    verb = add_verb(noun, "list", _list)
    verb.add_argument("filters", nargs="*", metavar="WORD", help="words to match, such as cityscapes w48")
    text = "only those trained on this data set, or on ImageNet (imagenet)"
    verb.add_argument("--for", dest="data", metavar="DATASET", help=text)
    text = "only those whose data's owners do not restrict them to research"
    verb.add_argument("--commercial", action="store_true", help=text)
    verb.add_argument("--here", action="store_true", help="only those on this machine")
    verb = add_verb(noun, "info", _info)
    verb.add_argument("tag", metavar="TAG", help="hrnet_w48.ms_in1k, say")
    verb = add_verb(noun, "pull", _pull)
    verb.add_argument("tags", nargs="+", metavar="TAG", help="hrnet_w48.ms_in1k, say")
    verb = add_verb(noun, "import", _import)
    text = "a checkpoint of any source, or a tag; CSAILVision's encoder and decoder"
    verb.add_argument("files", nargs="+", metavar="FILE", help=text)
    text = "NAME.safetensors, the release to write"
    verb.add_argument("-o", "--out", required=True, metavar="FILE", help=text)
    text = "the resize policy, instead of the one in the report"
    verb.add_argument("--resize", choices=POLICIES, metavar="POLICY", help=text)
    text = "likewise the padding, symmetric or same"
    verb.add_argument("--padding", choices=("symmetric", "same"), metavar="PADDING", help=text)
    text = "a label table or a file of classes (the file's own, or by its class count)"
    verb.add_argument("--labels", metavar="TABLE", help=text)
    text = "initialize the last layer, whose outputs are the classes, anew"
    verb.add_argument("--new-classifier", action="store_true", help=text)
    text = "take the backbone alone, as a start for training"
    verb.add_argument("--new-head", action="store_true", help=text)
    verb = add_verb(noun, "push", _push)
    text = "a run's folder, a .ckpt, a .safetensors release or a shipped model's tag"
    verb.add_argument("model", metavar="MODEL", help=text)
    text = "the repository: ORGANISATION/NAME or ORGANISATION/NAME@BRANCH"
    verb.add_argument("--to", required=True, metavar="NAME", help=text)
    verb.add_argument(
        "--license", "--licence", dest="licence", metavar="NAME", help="of the weights, such as mit (the card's)"
    )
    text = "what the data's owners allow (the card's)"
    verb.add_argument("--data-terms", metavar="TEXT", help=text)
    verb.add_argument("--private", action="store_true", help="make a new repository private")
    verb.add_argument("--message", metavar="TEXT", help="of the commit")
    text = "print the page and send nothing"
    verb.add_argument("--dry-run", action="store_true", help=text)
    verb = add_verb(noun, "verify", _verify)
    text = "a tag or a file (all that is in the cache)"
    verb.add_argument("targets", nargs="*", metavar="TAG|FILE", help=text)


def _list(arguments: argparse.Namespace) -> int:
    """List published weights.

    With words, those that match all of them. A star marks the best published score on a data set, with
    one scale on val, and for each network's ImageNet start; a plus what is on this machine. Scores are
    the publisher's: mIoU, or top-1 for ImageNet, in per cent; `hrseg weights info TAG` says how they
    were measured, and the terms of the data.

      hrseg weights list
      hrseg weights list cityscapes w48
      hrseg weights list --for ade20k
      hrseg weights list ocr --json | jq .url
    """
    from hrseg.weights.catalog import find, rows

    names = sorted({row.data for row in rows()})
    wanted = {"imagenet": "in1k"}.get(arguments.data or "", arguments.data)
    if wanted and wanted not in names:
        raise ConfigError(unknown_choice("data set", arguments.data, names))
    found = [
        row
        for row in find(arguments.filters)
        if (row.files() or not arguments.here)
        and (row.data == wanted or not wanted)
        and not (arguments.commercial and row.research_only)
    ]
    if arguments.json:
        return print_out("\n".join(json.dumps(_to_dict(row), ensure_ascii=False) for row in found))
    if not found:
        words = " ".join(arguments.words[2:])
        print_error(f"No weights match '{words}'. Fewer words match more: hrseg weights list")
        return EXIT_OK
    return print_out(_table(found))


def _table(found: "list[Row]") -> str:
    """Return a table grouped by publisher, cut at the width of the terminal."""
    from hrseg.weights.catalog import recommended

    best, wide = recommended(), max(len(row.tag) for row in found)
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    full = columns >= wide + 70  # else size, license and use make room for the protocol
    room = columns - wide - (48 if full else 20)
    head = f"   {'tag':<{wide}} {'classes':>7} {'score':>6}"
    head += f" {'MB':>4}  {'license':<12} {'use':<8}" * full
    lines = [styled(f"{head}  measured on", BOLD)]
    for source, group in groupby(found, key=lambda row: row.source):
        lines.append(styled(source, BOLD))
        for row in group:
            marks = ("*" if row.tag in best else " ") + ("+" if row.files() else " ")
            score = f"{row.score:6.2f}" if row.score is not None else " " * 6
            use = "research" if row.research_only else ""
            line = f"{marks} {row.tag:<{wide}} {row.num_classes:>7} {score}"
            line += f" {row.megabytes:>4}  {row.licence:<12} {use:<8}" * full
            text = textwrap.shorten(row.protocol, room, placeholder=" …") if room > 11 else ""
            lines.append(f"{line}  {styled(text, DIM)}".rstrip())
    notes = (
        "* best of its data set (one scale, val), or the model that ships; + on this machine; research: the data's "
        "owners allow research, hrseg weights info TAG has the terms"
    )
    return "\n".join([*lines, styled(textwrap.fill(notes, min(columns, 100)), DIM)])


def _info(arguments: argparse.Namespace) -> int:
    """Show all that is known of one checkpoint.

    Its network, how it resizes and pads, the published score and its protocol, license, terms of the
    data, address, digest, and whether it is on this machine.

      hrseg weights info hrnet_w48_ocr.official_cityscapes
    """
    from hrseg.weights.catalog import row_of

    row = row_of(arguments.tag)
    width = min(100, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 100
    lines = [styled(row.tag, BOLD)]
    for name, text in _facts(row):
        wrapped = textwrap.wrap(text, max(20, width - 16), break_long_words=False, break_on_hyphens=False)
        lines += [f"  {name if not i else '':<13} {part}" for i, part in enumerate(wrapped)]
    return print_result(arguments, _to_dict(row), "\n".join(lines))


def _facts(row: "Row") -> list[tuple[str, str]]:
    from hrseg.weights.download import FULL, cached, megabytes

    digest = row.sha256 if len(row.sha256) == FULL else f"begins with {row.sha256}"
    facts = [
        ("network", f"{row.backbone}, head {row.head}, {row.num_classes} classes ({row.data})"),
        ("resize", row.resize),
        ("padding", row.padding),
        (
            "mean, std",
            f"{' '.join(map(str, row.mean))}, {' '.join(map(str, row.std))} (RGB, 0 to 1)",
        ),
        ("score", (f"{row.score:g} %: " if row.score is not None else "") + row.protocol),
        ("licence", row.licence),
        ("data", row.data_terms),
        ("source", f"{row.source}, {row.reference}"),
        *(("address", url) for url in row.urls if not row.packaged),
        ("sha256", digest if row.sha256 else "not published; the first download records it"),
        *([("size", megabytes(row.size))] if row.size else []),
    ]
    if any(url.startswith("http:") for url in row.urls):
        facts.append(("note", "served without encryption, so nothing proves that it arrives unchanged"))
    receipts = [receipt for remote in row.remotes() if (receipt := cached(remote))]
    facts += [("here", f"{got.path}, {megabytes(got.size)}; {got.describe()}") for got in receipts]
    facts += [("here", f"{path} (part of hrseg)") for path in row.files() if row.packaged]
    here = facts[-1][0] == "here"
    return facts if here else [*facts, ("here", f"no; hrseg weights pull {row.tag}")]


def _to_dict(row: "Row") -> dict[str, Any]:
    return {**asdict(row), "files": [str(path) for path in row.files()]}


def _pull(arguments: argparse.Namespace) -> int:
    """Fetch weights into the cache, once.

    Prints where each file is. An interrupted download goes on where it stopped, and its digest is
    checked where one is published. The cache is HRSEG_CACHE, or the platform's cache folder; proxies
    come from https_proxy and no_proxy, a mirror of the hub from HF_ENDPOINT; HRSEG_OFFLINE=1 forbids
    fetching. hf:ORGANISATION/NAME is a model of the Hugging Face hub, stored in the hub's own cache.

      hrseg weights pull hrnet_w48.ms_in1k
      hrseg weights pull hf:org/name@v1
      hrseg fit --config cityscapes_w48 model.weights=$(hrseg weights pull hrnet_w48.ms_in1k)
    """
    from hrseg.cli.progress import download_progress
    from hrseg.weights.catalog import resolve_all, row_of
    from hrseg.weights.hub import is_hub

    for tag in [tag if is_hub(tag) else row_of(tag).tag for tag in arguments.tags]:
        files = resolve_all(tag, download_progress())
        print_row(arguments, {"tag": tag, "files": files}, "\n".join(map(str, files)))
    return EXIT_OK


def _import(arguments: argparse.Namespace) -> int:
    """Turn a checkpoint of any source into a release of hrseg.

    Reads files of the official code (torch 0.4.1 too), ImageNet, timm, smp, mmsegmentation, PaddleSeg,
    CSAILVision, Lightning and hrseg; infers width, head and classes; writes NAME.safetensors and
    its card NAME.json; and prints a report. Anything under 100 % of the tensors is refused, unless an
    option names what may differ. The report also gives the resize policy and its source, since no key
    shows it.

      hrseg weights import best.pth --out hrnet_w48.mine.safetensors
      hrseg weights import encoder_epoch_30.pth decoder_epoch_30.pth --out c1.safetensors
      hrseg weights import ade20k_ocr.pth --out ocr.safetensors --resize bilinear_aligned
    """
    from hrseg.weights.convert import import_weights

    report = import_weights(
        arguments.files[0] if len(arguments.files) == 1 else arguments.files,
        arguments.out,
        **options_of(arguments, "resize", "padding", "new_classifier", "new_head", "labels"),
    )
    found = {
        "file": report.out,
        "source": report.foreign.source,
        "network": report.spec,
        "new": sorted(report.load.new),
    }
    return print_result(arguments, found, f"{report}\n{report.next_step()}")


def _push(arguments: argparse.Namespace) -> int:
    """Share a model on the Hugging Face hub.

    Uploads the weights as safetensors, the card as config.json, and a page with network, scores, resize
    policy and terms. A model without license and data terms is refused; paths of this machine are left
    out. HF_TOKEN or `hf auth login` gives the account. Others then open it by hf:ORGANISATION/NAME.

      hrseg weights push runs/camvid_w18 --to me/camvid --license mit --data-terms "CamVid, research"
      hrseg weights push hrnet_w48.mine.safetensors --to me/mine --private
      hrseg weights push runs/demo --to me/demo --dry-run
    """
    from hrseg.export.push_to_hub import push_model

    shared = push_model(
        arguments.model,
        arguments.to,
        send=not arguments.dry_run,
        **options_of(arguments, "licence", "data_terms", "private", "message"),
    )
    text = f"{shared.url}: {shared.size / 1e6:,.1f} MB\nTo use it: hrseg predict IMAGE --model hf:{shared.name}"
    found = {"name": shared.name, "url": shared.url, "bytes": shared.size, "page": shared.page}
    return print_result(arguments, found, shared.page if arguments.dry_run else text)


def _verify(arguments: argparse.Namespace) -> int:
    """Hash files again and compare them with what is published.

    Without words, everything in the cache. Exit code 1 if a file is not what it should be.

      hrseg weights verify
      hrseg weights verify hrnet_w48.ms_in1k
      hrseg weights verify ~/Downloads/fcn_hr48_512x1024_160k_cityscapes_20200602_190946-59b7973e.pth
    """
    from hrseg.errors import WeightsError
    from hrseg.weights.catalog import cached_tags, known, verify

    targets = [known(target) for target in arguments.targets] or cached_tags()
    if not targets:
        print_error("Nothing is in the cache. To fetch: hrseg weights pull TAG; to see tags: hrseg weights list")
    wrong = 0
    for target in targets:
        try:
            lines = verify(target)
        except WeightsError as error:
            print_error(str(error))
            wrong += 1
            if arguments.json:
                print_row(arguments, {"target": target, "ok": False, "files": [], "error": str(error)}, "")
        else:
            found = {"target": target, "ok": True, "files": lines, "error": None}
            print_row(arguments, found, "\n".join(f"ok  {line}" for line in lines))
    return EXIT_PARTIAL if wrong else EXIT_OK
