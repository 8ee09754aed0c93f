"""Sphinx configuration: Markdown by MyST, the furo theme, and reference pages made from the code.

    pip install ".[docs]" && sphinx-build -W --keep-going docs site

Nothing is fetched, by the build or by the pages: fonts are the system's, and the search runs in the browser.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import hrseg  # noqa: E402
from hrseg.config.schema import OPTIONS, SECTIONS  # noqa: E402

project = "hrseg"
author = "The hrseg authors"
version = release = hrseg.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxarg.ext",
    "sphinx_copybutton",
]
exclude_patterns = ["images/README.md"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_custom_sections = ["Shape"]
napoleon_use_rtype = False
html_theme = "furo"
html_title = f"hrseg {version}"
html_static_path: list[str] = []
html_copy_source = False
pygments_style = "friendly"


def write_options(_: object) -> None:
    """Write reference/options.md from the schema, one table for each section."""
    lines = [
        "# Options",
        "",
        "Every option of a recipe, from the schema. On the command line: `hrseg fit --config RECIPE KEY=VALUE`; "
        "`hrseg config explain KEY` prints the same.",
    ]
    section = ""
    for key, option in OPTIONS.items():
        first, _, name = key.rpartition(".")
        if first != section:
            section = first
            lines += [
                "",
                f"## {section}",
                "",
                SECTIONS.get(section, ""),
                "",
                "| option | type | default | meaning |",
                "| --- | --- | --- | --- |",
            ]
        kind = ", ".join(part for part in (option.kind, option.range) if part)
        cells = (f"`{name}`", kind, f"`{option.default}`", option.doc)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    path = HERE / "reference" / "options.md"
    text = "\n".join(lines) + "\n"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: object) -> None:
    """Write the generated pages before Sphinx reads its sources."""
    app.connect("builder-inited", write_options)  # type: ignore[attr-defined]
