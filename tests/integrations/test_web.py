"""The exported page: its parts, what is refused, and the masks that a real browser makes of photographs."""

import functools
import http.server
import io
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hrseg.cli import EXIT_USAGE, main
from hrseg.errors import ConfigError
from hrseg.inference.predictor import Predictor
from hrseg.integrations.web import RUNTIME, export_site, package, read_runtime
from hrseg.weights.download import cached
from tests.end_to_end.test_shipped_model import CAMVID, NEEDS_CAMVID

MODEL = "hrnet_w18_small_v1.camvid"
CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
                 if Path(path).exists()), None)  # fmt: skip
GIVEN = os.environ.get("HRSEG_ONNXRUNTIME_WEB")


def test_the_package_comes_from_the_registry_of_npm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("npm_config_registry", raising=False)
    assert package().url == "https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz"
    monkeypatch.setenv("npm_config_registry", "https://npm.example.org/all/")
    assert package().url.startswith("https://npm.example.org/all/onnxruntime-web/-/")


def test_without_a_connection_it_says_where_the_package_goes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HRSEG_OFFLINE", "1")
    monkeypatch.setenv("HRSEG_CACHE", str(tmp_path / "cache"))
    assert main(["export", "--to", "web", "--out", str(tmp_path / "site")]) == EXIT_USAGE
    says = " ".join(capsys.readouterr().err.split())
    assert "onnxruntime-web 1.30.0 is not in the cache" in says
    assert "--runtime FILE.tgz" in says
    assert not (tmp_path / "site").exists()


def test_another_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read .*npm pack onnxruntime-web@1\.30\.0"):
        read_runtime(tmp_path)
    (tmp_path / "dist").mkdir()
    for source, _ in RUNTIME.values():
        (tmp_path / "dist" / source).write_bytes(b"other code")
    with pytest.raises(ConfigError, match=r"its ort\.wasm\.bundle\.min\.mjs is another one"):
        read_runtime(tmp_path)
    archive = tmp_path / "x.tgz"
    archive.write_bytes(b"no archive")
    with pytest.raises(ConfigError, match=r"cannot be read \(not a gzip file\)"):
        read_runtime(archive)


def test_what_a_browser_cannot_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot hold fp16"):
        export_site(MODEL, tmp_path / "site", precision="fp16")
    (tmp_path / "file").touch()
    assert main(["export", "--to", "web", "--out", str(tmp_path / "file")]) == EXIT_USAGE


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript", reason="exporting needs the extra 'export'")
    found = cached(package())
    runtime = Path(GIVEN) if GIVEN else found and found.path
    if not runtime:
        pytest.skip("onnxruntime-web is not here: set HRSEG_ONNXRUNTIME_WEB to its .tgz or folder")
    out = tmp_path_factory.mktemp("web") / "site"
    export_site(MODEL, out, runtime, max_images=1)
    return out


@pytest.fixture(scope="module")
def page(site: Path) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    pytest.importorskip("playwright", reason="driving a browser needs playwright")
    from playwright.sync_api import sync_playwright

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", alone])
        context = browser.new_context(accept_downloads=True)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.url_of_server = f"http://127.0.0.1:{server.server_port}/"
        page.asked, page.wrong = [], []
        context.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.goto(page.url_of_server)
        page.wait_for_selector("#known li")
        yield page
        browser.close()
    server.shutdown()
    server.server_close()


def downloaded(page: Any, id: str) -> Image.Image:
    with page.expect_download() as waiting:
        page.click(f"#{id}")
    return Image.open(waiting.value.path())


def choose(page: Any, path: Path) -> None:
    page.set_input_files("#file", path)
    page.wait_for_function(
        "name => document.body.dataset.state === 'result' && document.getElementById('get-mask').download === name",
        arg=f"{path.stem}_mask.png",
    )


@NEEDS_CAMVID
@pytest.mark.slow
def test_masks_are_those_of_predict_and_nothing_leaves_the_page(page: Any, site: Path) -> None:
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) <= 25e6
    images = sorted((CAMVID or Path()).glob("val/*.png"))
    network = Predictor(MODEL, precision="fp32")
    for path in (images[0], images[-1]):
        choose(page, path)
        right = network(path)
        mask, gray = downloaded(page, "get-mask"), downloaded(page, "get-gray")
        assert (mask.mode, gray.mode) == ("P", "L")
        assert (np.array(mask) == right.ids()).mean() >= 0.9999
        assert np.array_equal(np.array(mask), np.array(gray))
        assert mask.getpalette() == right.labels.id_palette().ravel().tolist()
        assert page.locator("#legend span").all_inner_texts() == list(right.shares())
        first = next(iter(right.shares().values()))
        assert page.locator("#legend small").first.inner_text() == f"{100 * first:.1f} %"
        box = page.locator("#classes").bounding_box()
        page.mouse.move(box["x"] + 100.5 / 480 * box["width"], box["y"] + 200.5 / 360 * box["height"])
        name = right.labels.names[right.mask[200, 100]]
        text = page.locator("#readout").text_content()
        assert text.startswith(name)
        assert text.endswith("row 200, column 100")
        assert f"{100 * float(right.confidence[200, 100]):.0f}"[0] in text
    assert page.wrong == []
    assert {url.split("/")[-1] for url in page.asked if url.startswith("http")} >= {"model.onnx", "ort.wasm"}
    assert [url for url in page.asked if not url.startswith((page.url_of_server, "blob:", "data:"))] == []


@pytest.mark.slow
def test_the_page_itself_may_ask_nobody_else(page: Any) -> None:
    script = """() => new Promise(done => {
        addEventListener("securitypolicyviolation", event => done(event.violatedDirective));
        fetch("http://127.0.0.1:9/x").then(() => done("sent"), () => {}); })"""
    assert page.evaluate(script) == "connect-src"


@pytest.mark.slow
def test_pixels_without_data_and_files_that_are_no_pictures(page: Any, tmp_path: Path) -> None:
    pixels = np.full((40, 60, 4), 255, np.uint8)
    pixels[:, :20, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "hole.png")
    choose(page, tmp_path / "hole.png")
    mask = np.array(downloaded(page, "get-gray"))
    assert (mask[:, :20] == 255).all()
    assert (mask[:, 20:] < 255).all()
    (tmp_path / "letter.png").write_bytes(b"this is a letter")
    page.set_input_files("#file", tmp_path / "letter.png")
    page.wait_for_selector("#problem:not([hidden])")
    assert "cannot read the file as a picture" in page.inner_text("#problem-text")


@pytest.mark.slow
def test_ids_above_255_are_written_in_sixteen_bits(page: Any) -> None:
    script = """async () => { const { grayPng } = await import("./png.js");
        const file = await grayPng(Uint16Array.of(0, 300, 65535, 7, 1, 2), 3);
        return [...new Uint8Array(await file.arrayBuffer())]; }"""
    image = Image.open(io.BytesIO(bytes(page.evaluate(script))))
    assert image.mode == "I;16"
    assert np.array(image).tolist() == [[0, 300, 65535], [7, 1, 2]]


@pytest.mark.slow
def test_a_page_opened_as_a_file_says_what_to_do(page: Any, site: Path) -> None:
    other = page.context.new_page()
    other.goto(site.joinpath("index.html").as_uri())
    assert "python -m http.server --directory site" in other.locator(".cold").inner_text()
    assert other.get_attribute("body", "data-state") == "closed"
    other.close()


@pytest.mark.slow
def test_a_folder_with_a_part_missing_says_which(page: Any, site: Path) -> None:
    shutil.move(site / "model.json", site / "away.json")
    other = page.context.new_page()
    other.goto(page.url_of_server)
    other.wait_for_selector("#problem:not([hidden])")
    assert "model.json cannot be loaded (404)" in other.inner_text("#problem-text")
    assert not other.locator(".cold").is_visible()
    other.close()
    shutil.move(site / "away.json", site / "model.json")
