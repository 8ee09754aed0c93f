"""The page in a real browser: choose, look, switch, fade, ask, download, and what it says when something is wrong."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hrseg.inference.predictor import Predictor
from tests.serve.conftest import Served, file_of, picture

CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
                 if Path(path).exists()), None)  # fmt: skip
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
pytest.importorskip("playwright", reason="driving a browser needs playwright")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *FAKE_CAMERA])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1200, "height": 800}, accept_downloads=True)
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on(
        "request",
        lambda request: page.wrong.append(request.url) if not _own(request.url, served) else None,
    )
    page.goto(served.url)
    page.wait_for_selector("#known li")
    yield page
    assert page.wrong == []
    context.close()


def _own(url: str, served: Served) -> bool:
    return url.startswith((served.url, "data:", "blob:"))


def choose(page: Any, content: bytes, name: str = "street.png") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})


@pytest.fixture
def result(page: Any) -> Any:
    choose(page, file_of(picture()))
    page.wait_for_selector("[data-state=result]")
    return page


def canvas(page: Any, name: str) -> np.ndarray:
    """The pixels of a canvas."""
    script = """id => { const c = document.getElementById(id);
        return [c.height, c.width, [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]]; }"""
    height, width, values = page.evaluate(script, name)
    return np.array(values, np.uint8).reshape(height, width, 4)


def test_it_begins_empty_and_names_the_classes(page: Any) -> None:
    assert page.get_attribute("body", "data-state") == "empty"
    assert page.locator("#known li").all_inner_texts()[:2] == ["sky", "building"]
    assert not page.locator("#work").is_visible()


def test_classes_are_painted_as_the_model_says(result: Any, predictor: Predictor) -> None:
    prediction = predictor(picture())
    painted = canvas(result, "classes")
    assert np.array_equal(painted[..., :3], predictor.labels.palette[prediction.mask])
    assert (painted[..., 3] == 255).all()
    assert np.array_equal(canvas(result, "picture")[..., :3], picture())
    names = result.locator("#legend span").all_inner_texts()
    assert names == list(prediction.shares())
    assert "Largest classes" in result.inner_text("#said")


def test_a_class_is_switched_off_and_on(result: Any, predictor: Predictor) -> None:
    mask = predictor(picture()).mask
    first = predictor.labels.names.index(result.locator("#legend span").first.inner_text())
    box = result.get_by_role("checkbox").first
    box.focus()
    result.keyboard.press("Space")
    assert np.array_equal(canvas(result, "classes")[..., 3] == 0, mask == first)
    box.check()
    assert (canvas(result, "classes")[..., 3] == 255).all()
    result.get_by_role("button", name="None").click()
    assert (canvas(result, "classes")[..., 3] == 0).all()
    result.get_by_role("button", name="All").click()
    assert (canvas(result, "classes")[..., 3] == 255).all()


def test_the_slider_fades_the_classes(result: Any) -> None:
    strength = "getComputedStyle(document.getElementById('classes')).opacity"
    assert float(result.evaluate(strength)) == pytest.approx(0.55)
    result.get_by_role("slider", name="Overlay").focus()
    result.keyboard.press("Home")
    assert float(result.evaluate(strength)) == 0
    for _ in range(3):
        result.keyboard.press("ArrowRight")
    assert float(result.evaluate(strength)) == pytest.approx(0.03)
    assert result.inner_text("#percent") == "3 %"


def test_the_pointer_and_the_arrow_keys_ask_the_image(result: Any, predictor: Predictor) -> None:
    prediction = predictor(picture())

    def says(row: int, column: int) -> str:
        name = predictor.labels.names[prediction.mask[row, column]]
        return f"{name}  ·  {100 * round(float(prediction.confidence[row, column]) * 255) / 255:.1f} % sure"

    box = result.locator("#classes").bounding_box()
    x, y = box["x"] + 20.5 / 96 * box["width"], box["y"] + 10.5 / 64 * box["height"]
    result.mouse.move(x, y)
    text = result.locator("#readout").text_content()
    assert text == f"{says(10, 20)}  ·  row 10, column 20"
    result.locator("#classes").focus()
    for keys in ("Shift+ArrowDown", "Shift+ArrowDown", "ArrowLeft"):
        result.keyboard.press(keys)
    assert result.locator("#readout").text_content().endswith("row 12, column 18")
    assert says(12, 18).split("  ·")[0] in result.inner_text("#said")
    assert result.get_attribute("#cross", "hidden") is None
    result.keyboard.press("Escape")
    assert result.get_attribute("#cross", "hidden") is not None


def test_mask_and_overlay_are_downloaded(result: Any, predictor: Predictor) -> None:
    prediction = predictor(picture())
    with result.expect_download() as waiting:
        result.get_by_text("Download mask").click()
    assert waiting.value.suggested_filename == "street_mask.png"
    mask = Image.open(io.BytesIO(Path(waiting.value.path()).read_bytes()))
    assert mask.mode == "P"
    assert np.array_equal(np.array(mask), prediction.ids())
    with result.expect_download() as waiting:
        result.get_by_text("Download overlay").click()
    assert waiting.value.suggested_filename == "street_overlay.png"
    overlay = np.array(Image.open(waiting.value.path()).convert("RGB"), np.float32)
    right = 0.45 * picture() + 0.55 * predictor.labels.palette[prediction.mask]
    assert np.abs(overlay - right).max() < 3


def test_the_branches_are_shown(result: Any) -> None:
    result.get_by_role("button", name="Show the branches").click()
    result.wait_for_selector(".film img")
    assert result.locator(".film figcaption b").all_inner_texts() == [f"Branch {i}" for i in range(4)]
    likeness = result.locator(".film img").first.get_attribute("src")
    result.get_by_text("Strength", exact=True).click()
    assert result.locator(".film img").first.get_attribute("src") != likeness
    sizes = result.evaluate("[...document.querySelectorAll('.film img')].map(i => i.naturalWidth)")
    assert sizes == [24, 12, 6, 3]


def test_a_bad_file_is_explained_and_the_result_stays(result: Any) -> None:
    choose(result, b"this is a letter", "letter.txt")
    result.wait_for_selector("#problem:not([hidden])")
    alert = result.get_by_role("alert")
    assert "no image that can be read" in alert.inner_text()
    assert result.get_attribute("body", "data-state") == "result"
    assert (canvas(result, "classes")[..., 3] == 255).all()
    result.get_by_role("button", name="Dismiss").click()
    assert not alert.is_visible()


def test_an_image_can_be_pasted_and_dropped(page: Any) -> None:
    script = """([name, values]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(values)], "x.png", { type: "image/png" }));
        const options = { bubbles: true, cancelable: true };
        document.body.dispatchEvent(name === "paste" ? new ClipboardEvent(name, { ...options, clipboardData: data })
            : new DragEvent(name, { ...options, dataTransfer: data })); }"""
    for name, size in (("paste", (20, 40)), ("drop", (30, 50))):
        page.evaluate(script, [name, list(file_of(picture(*size)))])
        page.wait_for_function(
            "text => document.getElementById('facts').textContent.startsWith(text)",
            arg=f"{size[1]} × {size[0]}",
        )
        assert canvas(page, "classes").shape == (*size, 4)


@pytest.mark.long
def test_the_camera_gives_a_picture_and_is_switched_off(page: Any) -> None:
    page.get_by_role("button", name="Use the camera").click()
    page.wait_for_function("() => document.getElementById('live').videoWidth > 0")
    page.get_by_role("button", name="Take the picture").click()
    page.wait_for_selector("[data-state=result]")
    assert canvas(page, "picture")[..., 1].mean() > 100  # the fake camera is green
    assert page.evaluate("document.getElementById('live').srcObject") is None


def test_a_file_that_the_browser_cannot_show_is_segmented_all_the_same(page: Any) -> None:
    choose(page, file_of(picture(), "TIFF"), "x.tif")
    page.wait_for_selector("[data-state=result]")
    assert "its classes stand alone" in page.inner_text("#readout")


def test_waiting_can_be_cancelled(page: Any, served: Served) -> None:
    with served.blocked() as begun:
        choose(page, file_of(picture()))
        assert begun.wait(30)
        assert page.get_attribute("body", "data-state") == "working"
        assert page.inner_text("#doing") == "Finding classes …"
        page.get_by_role("button", name="Cancel").click()
        page.wait_for_selector("[data-state=empty]")
    assert not page.get_by_role("alert").is_visible()


def test_a_locked_server_asks_for_its_token(browser: Any, start: Callable[..., Served]) -> None:
    one = start(token="sesame")
    page = browser.new_page()
    page.set_default_timeout(20_000)
    page.goto(one.url)
    for word in ("wrong", "sesame"):
        page.get_by_label("This server asks for a token.").fill(word)
        page.keyboard.press("Enter")
        if word == "wrong":
            page.wait_for_selector("#problem:not([hidden])")
    page.wait_for_selector("#known li")
    choose(page, file_of(picture()))
    page.wait_for_selector("[data-state=result]")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_small_screen_and_its_text_can_be_read(browser: Any, served: Served, scheme: str) -> None:
    page = browser.new_page(viewport={"width": 380, "height": 700}, color_scheme=scheme)
    page.set_default_timeout(20_000)
    page.goto(served.url)
    page.wait_for_selector("#known li")
    choose(page, file_of(picture()))
    page.wait_for_selector("[data-state=result]")
    assert page.evaluate("document.documentElement.scrollWidth") == 380
    names = ("--paper", "--ink", "--quiet", "--accent", "--on-accent", "--error", "--error-back")
    style = "name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()"
    colors = {name: page.evaluate(style, name) for name in names}
    pairs = [
        ("--ink", "--paper"),
        ("--quiet", "--paper"),
        ("--accent", "--paper"),
        ("--on-accent", "--accent"),
    ]
    for front, back in [*pairs, ("--error", "--error-back")]:
        assert contrast(colors[front], colors[back]) >= 4.5, (front, back)
    page.close()


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two #rrggbb colors."""
    light = []
    for color in (one, other):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        light.append(0.2126 * r + 0.7152 * g + 0.0722 * b)
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_everything_is_reached_by_keyboard_and_has_a_name(result: Any) -> None:
    seen = []
    result.locator("body").focus()
    for _ in range(40):
        result.keyboard.press("Tab")
        seen.append(
            result.evaluate(
                "document.activeElement.id || document.activeElement.type || document.activeElement.tagName"
            )
        )
        if seen[-1] == "BODY":
            break
    assert {
        "another",
        "classes",
        "opacity",
        "all",
        "none",
        "checkbox",
        "get-mask",
        "get-overlay",
        "show-branches",
    } <= set(seen)
    script = """() => [...document.querySelectorAll("button, input, canvas[tabindex], a[href]")]
        .filter(e => e.checkVisibility())
        .filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length))
        .map(e => e.outerHTML)"""
    assert result.evaluate(script) == []
