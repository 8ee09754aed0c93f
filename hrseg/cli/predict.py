"""Verb predict: segmentation of images with a trained model."""

import argparse
import gc
import importlib
import json
import logging
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrseg.cli.args import add_bits, add_device, add_model, add_size, add_verb, options_of, positive
from hrseg.cli.console import EXIT_OK, EXIT_PARTIAL, print_error, print_line
from hrseg.errors import ConfigError, printable

if TYPE_CHECKING:
    from hrseg.inference.predictor import Predictor

_LOG = logging.getLogger(__name__)
KINDS = (
    *("mask", "trainids", "colour", "overlay", "confidence", "margin", "entropy", "maps"),
    *("probabilities", "probabilities_tif", "coco", "geojson", "areas", "areas_csv"),
)
"""Choices of --save: the rows of inference.outputs.OUTPUTS, named here so that help needs no import."""
_OPENING = (
    *("device", "precision", "engine", "overlap", "blend", "protocol", "scales", "flip", "merge"),
    *("classes", "bits"),
)
"""Options of the same names of `open_predictor`."""
_SOURCES = "images, folders, globs, @lists, videos, zip archives, http(s), rtsp, s3, gs, camera:0, -"


def add(verbs: Any) -> None:
    """Add the verbs of this module."""
    verb = add_verb(verbs, "predict", _predict)
    verb.add_argument("images", nargs="*", metavar="IMAGE", help=_SOURCES)
    add_model(verb)
    out, text = Path("hrseg_out"), "folder of the results (hrseg_out)"
    verb.add_argument("-o", "--out", type=Path, default=out, metavar="DIR", help=text)
    add_device(verb)
    engines = ("auto", "torch", "openvino", "compile", "graph")
    text = "auto: openvino on a CPU where installed, else torch, as for one small image (auto)"
    verb.add_argument("--engine", choices=engines, default="auto", help=text)
    add_size(verb, "--window", None, "slide a window of this size over the image")
    text = "fraction that neighboring windows share (0.25)"
    verb.add_argument("--overlap", type=float, metavar="F", help=text)
    blends, text = ("ramp", "cosine", "gaussian", "equal"), "how windows share a pixel (gaussian)"
    verb.add_argument("--blend", choices=blends, help=text)
    text = "memory that the process may use, such as 1.5G: images that need more are refused"
    verb.add_argument("--max-memory", metavar="SIZE", help=text)
    text = "three scales, each mirrored too, averaged: better, six times the work"
    tta = verb.add_argument("--tta", action="store_const", const="tta", dest="protocol", help=text)
    tta.default = "whole"
    text = "evaluation protocol, such as official_cityscapes_ms (whole)"
    verb.add_argument("--protocol", metavar="NAME", help=text)
    verb.set_defaults(protocol="whole")  # for both; argparse would take the first one's None
    text = "scales whose results are averaged, such as 0.5 1 1.5"
    verb.add_argument("--scales", type=float, nargs="+", default=(), metavar="S", help=text)
    text = "predict the mirror image too"
    verb.add_argument("--flip", action=argparse.BooleanOptionalAction, help=text)
    text = "what is averaged over scales and mirror (softmax)"
    verb.add_argument("--merge", choices=("softmax", "logits", "exp"), help=text)
    add_bits(verb)
    _add_sources(verb)
    _add_outputs(verb)
    _add_cluster(verb)


def _add_sources(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("sources")
    text = "whether a folder stands for its subfolders too (yes)"
    group.add_argument("--recursive", action=argparse.BooleanOptionalAction, default=True, help=text)
    text = "which frames of videos and cameras: 10 takes each tenth, 0.5s one each half second (all)"
    group.add_argument("--every", metavar="N|Ns", help=text)
    text = "stop after so many pictures, such as of a camera"
    group.add_argument("--limit", type=positive, metavar="N", help=text)
    text = "pictures of one size that share a pass through the network (8 on a GPU, 1 on a CPU)"
    group.add_argument("--batch", type=positive, metavar="N", help=text)


def _add_outputs(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("results")
    text = f"kinds of files (mask overlay): {', '.join(KINDS)}; and video, of clips"
    group.add_argument("--save", nargs="+", choices=(*KINDS, "color", "video"), metavar="KIND", help=text)
    text = "names of the classes whose probabilities are saved (all)"
    group.add_argument("--classes", nargs="+", default=(), metavar="NAME", help=text)
    text = "side of a pixel on the ground in meters, for areas (from the image)"
    group.add_argument("--pixel-size", type=float, metavar="M", help=text)
    text = "how far outlines may be simplified, in pixels (0)"
    group.add_argument("--tolerance", type=float, default=0.0, metavar="PIXELS", help=text)
    text = "leave out polygons and holes of fewer pixels (0)"
    group.add_argument("--min-area", type=float, default=0.0, metavar="PIXELS", help=text)
    text = "write a manifest, and skip images whose results are complete and intact"
    group.add_argument("--resume", action="store_true", help=text)


def _add_cluster(verb: argparse.ArgumentParser) -> None:
    group = verb.add_argument_group("many machines")
    text = "only every N-th picture from the I-th on, for N machines; writes a manifest too"
    group.add_argument("--shard", metavar="I/N", help=text)
    text = "distribute over a Ray cluster: auto, HOST:PORT or local; resumes too"
    group.add_argument("--ray", metavar="ADDRESS", help=text)
    text = "workers of the cluster (one for each GPU, or for each machine)"
    group.add_argument("--ray-workers", type=positive, metavar="N", help=text)


def _introduce(predictor: "Predictor") -> str:
    """Return one line on a model: its name, classes, training data and engine, and the way to others."""
    from hrseg.weights.catalog import rows

    names = predictor.labels.names
    shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    data = next((f", trained on {row.dataset}" for row in rows() if row.tag == predictor.name), "")
    others = "other models: hrseg weights list"
    return f"{predictor.name}: {len(names)} classes ({shown}){data}; engine {predictor.engine}; {others}"


def _import_torch() -> None:
    """Import torch without garbage collections, which would take a fifth of a small image's time.

    Half a million objects that live to the end need not be visited again later either.
    """
    if "torch" in sys.modules:
        return
    was_on = gc.isenabled()
    gc.disable()
    try:
        importlib.import_module("torch")
    finally:
        if was_on:
            gc.enable()
    gc.freeze()


def _predict(arguments: argparse.Namespace) -> int:
    """Segment images: mask and overlay files.

    Writes NAME_mask.png (a palette image of class ids; NAME_mask.tif where the image is
    georeferenced) and NAME_overlay.png (with a legend) for each image, and prints one line with its
    largest classes. A broken image is reported, the others are done, and the exit code is 1. Without
    --model, the model that ships is used.

    A folder stands for all images in it, @list.txt for the lines of a file, - for an image through
    standard input. Frames of a video go to NAME/000000_mask.png and so on, or into one video.

      hrseg predict street.png
      hrseg predict photos/ 'more/*.jpg' --model runs/demo/best.ckpt --out masks
      hrseg predict photos/ --json | jq .classes
      hrseg predict drive.mp4 --every 0.5s --save mask video
      hrseg predict rtsp://camera.local/live --every 1s --limit 60
      hrseg predict @list.txt photos.zip https://example.org/street.jpg s3://bucket/photos/
      hrseg predict photos/ --tta
      hrseg predict photos/ --save mask geojson areas --pixel-size 0.1
      hrseg predict photos/ --out masks --resume
      hrseg predict photos/ --scales 0.5 1 1.5 --flip --merge softmax
      hrseg predict /shared/photos --out /shared/masks --ray auto
      hrseg predict orthophoto.tif --max-memory 1.5G --save mask confidence
    """
    if not arguments.images:
        raise ConfigError(
            "No image given. Name images, folders or globs, such as: hrseg predict street.png photos/ "
            f"'more/*.jpg'. Masks and overlays go to {arguments.out}. More: hrseg predict --help"
        )
    _import_torch()
    from hrseg.cli.progress import row_progress
    from hrseg.inference.backends import set_threads
    from hrseg.inference.large import parse_size
    from hrseg.inference.outputs import DEFAULT_KINDS, Options, needed_maps
    from hrseg.inference.outputs.manifest import Job
    from hrseg.inference.outputs.options import read_shard
    from hrseg.inference.predict_files import open_predictor, predict_files
    from hrseg.inference.sources import Every, open_sources

    kinds = arguments.save or DEFAULT_KINDS
    options = Options(arguments.pixel_size, arguments.tolerance, arguments.min_area)
    files = [kind for kind in kinds if kind != "video"]
    shard = read_shard(arguments.shard)
    resume = arguments.resume or arguments.shard is not None
    if resume and "video" in kinds:
        raise ConfigError("A video cannot be resumed: leave out --resume and --shard, or --save video.")
    if arguments.ray and arguments.shard:
        raise ConfigError("--shard and --ray both divide the images: leave one of them out.")
    if arguments.ray_workers and not arguments.ray:
        raise ConfigError("--ray-workers are those of a Ray cluster: name it, such as --ray auto.")
    every = Every.read(arguments.every) if arguments.every else None
    recursive, out = arguments.recursive, arguments.out
    sources = open_sources(arguments.images, recursive=recursive, every=every, skip=out)
    limit = parse_size(arguments.max_memory) if arguments.max_memory else None
    opening = options_of(arguments, *_OPENING)
    opening["window"] = arguments.window and tuple(arguments.window)
    working = {"batch": arguments.batch, "max_memory": limit}
    pictures = islice(sources, arguments.limit)
    job: Any
    if arguments.ray:
        from hrseg.cluster import RayJob

        where = {"address": arguments.ray, "workers": arguments.ray_workers}
        job = RayJob(out, kinds, options, model=arguments.model, working=working, **where, **opening)
        results = job.run(pictures, sources.covers)
    else:
        set_threads()
        keep = needed_maps(files) if files else ()
        # what --resume compares includes the engine, so that must not follow from what is left to do
        pixels = None if resume else sources.pixels()
        predictor = open_predictor(arguments.model, keep=keep, pixels=pixels, **opening)
        _LOG.info(_introduce(predictor))
        job = Job(out, files, options, shard, predictor.settings() if resume else None)
        more = {"covers": sources.covers, "progress": row_progress(), **working}
        found = predict_files(predictor, job.pictures(pictures), out, kinds, options, **more)
        results = job.results(found)
    broken = count = 0
    for result in results:
        count += 1
        if arguments.json:
            print_line(json.dumps(result.to_dict(), ensure_ascii=False))
        elif result.error is None:
            print_line(str(result))
        if result.error is not None:
            broken += 1
            print_error(printable(result.error))
    if job.summary:
        print_error(job.summary)
    if broken and count > 1:
        print_error(f"{broken} of {count} images failed; the others are in {arguments.out}")
    return EXIT_PARTIAL if broken else EXIT_OK
