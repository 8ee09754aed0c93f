"""Pages in a real browser: no overflow on a phone, no overlap, images with their sizes, dark as well as light."""

from pathlib import Path

import pytest

from hrseg.cli import EXIT_OK, EXIT_USAGE, main
from hrseg.data.synthetic import write_scenes
from tests.serve.test_page import CHROMIUM

pytest.importorskip("playwright", reason="driving a browser needs playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
FACTS = """() => {
  const width = document.documentElement.clientWidth, wide = [], overlaps = [];
  const scrolls = e => ['auto', 'scroll', 'hidden'].includes(getComputedStyle(e).overflowX);
  for (const e of document.querySelectorAll('body *')) {
    let parent = e;
    while (parent && parent !== document.body && !scrolls(parent)) parent = parent.parentElement;
    if (parent === document.body && e.getBoundingClientRect().right > width + 1) wide.push(e.outerHTML.slice(0, 80));
  }
  const blocks = [...document.querySelectorAll('main > *')].map(e => [e, e.getBoundingClientRect()]);
  for (let i = 1; i < blocks.length; i++) {
    const [above, below] = [blocks[i - 1], blocks[i]];
    if (below[1].height && getComputedStyle(below[0]).position === 'static' && below[1].top < above[1].bottom - 1)
      overlaps.push(below[0].outerHTML.slice(0, 80));
  }
  const rgb = getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number);
  return {
    scroll: document.documentElement.scrollWidth - width, wide, overlaps,
    unsized: [...document.images].filter(i => !(i.getAttribute('width') && i.getAttribute('height'))).length,
    dark: rgb.reduce((a, b) => a + b) < 3 * 128,
  };
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Pages of check, browse, evaluate and explain, of a small data set and run with a long name."""
    folder = tmp_path_factory.mktemp("pages")
    data = folder / "a data set with a rather long name"
    write_scenes(data, "folder", {"train": 6, "val": 4}, (64, 128))
    recipe = folder / "mine.yaml"
    words = ["--write", str(recipe), "--html", str(folder / "check.html")]
    assert main(["data", "check", str(data), *words]) in (EXIT_OK, EXIT_USAGE)
    options = ["trainer.max_epochs=1", f"run.dir={folder / 'runs'}", "data.workers=0"]
    assert main(["fit", "--config", str(recipe), *options, "data.crop=[64,64]"]) == EXIT_OK
    run, out = str(folder / "runs" / "mine"), folder / "report"
    assert main(["evaluate", run, "--out", str(out)]) == EXIT_OK
    assert main(["data", "browse", "--config", str(recipe), "--out", str(folder / "browse.html")]) == 0
    image = next((data / "images" / "val").iterdir())
    words = ["--model", run, "--out", str(folder / "explain.html")]
    assert main(["explain", str(image), *words]) == EXIT_OK
    return [*sorted(folder.glob("*.html")), *sorted(out.glob("*.html"))]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_their_window(pages, width, scheme):
    from playwright.sync_api import sync_playwright

    assert len(pages) == 4
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        window = {"width": width, "height": 900}
        context = browser.new_context(viewport=window, color_scheme=scheme)
        found = {path.name: _facts(context, path) for path in pages}
        browser.close()
    expected = {"scroll": 0, "wide": [], "overlaps": [], "unsized": 0, "dark": scheme == "dark"}
    assert found == dict.fromkeys(found, expected)


def _facts(context, path: Path):
    page = context.new_page()
    page.goto(path.as_uri())
    return page.evaluate(FACTS)
