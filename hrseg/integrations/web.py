"""A folder of static files that is the model: a page, ONNX Runtime as WebAssembly, the model and its card.

The page is that of `hrseg serve`, with the network in a worker of the browser instead of behind a server.
"""

import hashlib
import json
import os
import shlex
import tarfile
import zlib
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from hrseg.errors import ConfigError, DataError, ExportError, WeightsError, parse_json
from hrseg.export.write import Exported, export_model
from hrseg.imaging import temporary_folder, write_atomic
from hrseg.inference.exported import open_runner
from hrseg.inference.model_card import read_card
from hrseg.viz.pages import render_text
from hrseg.weights.download import Remote, cache_dir, fetch

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
REGISTRY = "https://registry.npmjs.org"
_TARBALL = ("d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71", 33_106_585)
"""sha256 and size of the package whose sha512 npm names: q0y+JrrtukXSzsBWEMccVfqX25LRmosX…."""
RUNTIME = {
    "ort.js": (
        "ort.wasm.bundle.min.mjs",
        "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    ),
    "ort.wasm": (
        "ort-wasm-simd-threaded.wasm",
        "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    ),
}
"""Name in the folder → name in the package's dist/, and its sha256. Endings are those that every server knows."""
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"
)
"""The browser itself refuses whatever would leave the page."""
_SHARED = ("page.css", "view.js")
_OWN = ("site.js", "worker.js", "png.js")
PRECISIONS = ("fp32", "int8")


def export_site(model: str | Path | None, out: str | Path, runtime: Path | None = None, **options: Any) -> Exported:
    """Write the folder; the page comes last, so that it never stands without its parts.

    Args:
        model: As for `export_model`.
        out: The folder; files of other names in it stay.
        runtime: The package onnxruntime-web, as .tgz or folder; None takes it from the cache or from npm.
        options: Others of `export_model`: precision, images and the like.

    Raises:
        ConfigError: A precision that browsers do not run, or another package.
        ExportError: The package cannot be fetched, or as for `export_model`.
        DataError: The folder cannot be written.
    """
    out = Path(out)
    precision = options.get("precision", "fp32")
    if precision not in PRECISIONS:
        raise ConfigError(
            f"--to web cannot hold {precision}; its runtime is tried with {' and '.join(PRECISIONS)}. Use one of them."
        )
    if out.exists() and not out.is_dir():
        raise DataError(f"{out} is a file, and --to web writes a folder. Choose another name with --out.")
    code = read_runtime(runtime)
    with temporary_folder("hrseg-site") as folder:
        done = export_model(model, "onnx", folder / "model.onnx", outputs=("labels", "probability"), **options)
        contents = {path.name: path.read_bytes() for path in done.files}
        card = open_runner(done.files[0]).card
        contents |= {f"runtime/{name}": content for name, content in code.items()}
        contents["runtime/LICENSE.txt"] = _resource("hrseg.integrations", "site", "LICENSE.txt")
        contents |= {name: _resource("hrseg.serve", "page", name) for name in _SHARED}
        contents |= {name: _resource("hrseg.integrations", "site", name) for name in _OWN}
        size = len(contents["model.onnx"]) + len(contents["runtime/ort.wasm"])
        contents["model.json"] = _description(card, folder, size)
        template = _resource("hrseg.serve", "page", "index.html").decode()
        page = render_text(template, site=True, policy=POLICY, folder=shlex.quote(out.resolve().name))
        contents["index.html"] = page.encode()
        for name, content in contents.items():
            with write_atomic(out / name) as temporary:
                temporary.write_bytes(content)
    return Exported(tuple(out / name for name in reversed(contents)), done.parity)


def _resource(package: str, folder: str, name: str) -> bytes:
    return (files(package) / folder / name).read_bytes()


def _description(card: str | None, folder: Path, size: int) -> bytes:
    """Return what the page has to know: classes with ids, colors by id, bytes to load, and the card for people."""
    labels = read_card(card, folder / "model.onnx").labels
    content = parse_json(card or "{}")
    classes = [
        {"train_id": i, "id": row.id, "name": row.name, "color": row.color} for i, row in enumerate(labels.classes)
    ]
    described = {
        "name": content["model"],
        "bytes": size,
        "classes": classes,
        "nodata_id": labels.nodata_id,
        "palette": labels.id_palette().tolist(),
        "card": content,
    }
    return json.dumps(described, ensure_ascii=False).encode()


def package() -> Remote:
    """Return the package on npm, or on the registry of the variable npm_config_registry."""
    given = os.environ.get("npm_config_registry")  # noqa: SIM112 - as npm spells it
    registry = (given or REGISTRY).rstrip("/")
    name = f"{PACKAGE}-{VERSION}.tgz"
    return Remote(f"{PACKAGE} {VERSION}", f"{registry}/{PACKAGE}/-/{name}", cache_dir() / PACKAGE / name, *_TARBALL)


def read_runtime(path: Path | None = None) -> dict[str, bytes]:
    """Return the files of RUNTIME, checked.

    Args:
        path: The package as .tgz, or as folder such as node_modules/onnxruntime-web; None fetches it once.

    Raises:
        ConfigError: It is not that package, or of another version.
        ExportError: It cannot be fetched.
    """
    if path is None:
        try:
            path = fetch(package()).path
        except WeightsError as error:
            raise ExportError(f"{error}; or name the package with --runtime FILE.tgz") from error
    read = partial(_from_folder, path) if path.is_dir() else partial(_from_archive, path)
    found = {}
    for name, (source, digest) in RUNTIME.items():
        try:
            content = read(source)
        except (OSError, KeyError, tarfile.TarError, EOFError, zlib.error) as error:
            raise _other_package(
                path, f"dist/{source} cannot be read ({getattr(error, 'strerror', None) or error})"
            ) from error
        if hashlib.sha256(content).hexdigest() != digest:
            raise _other_package(path, f"its {source} is another one")
        found[name] = content
    return found


def _from_folder(path: Path, name: str) -> bytes:
    return (path / "dist" / name).read_bytes()


def _from_archive(path: Path, name: str) -> bytes:
    with tarfile.open(path, "r:gz") as archive:
        member = archive.extractfile(f"package/dist/{name}")
        if member is None:
            raise KeyError(f"{name} is no file")
        return member.read()


def _other_package(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"{path} is not {PACKAGE} {VERSION} as npm has it: {reason}. Get it with: npm pack {PACKAGE}@{VERSION}"
    )
