import json
import random

import numpy as np
import pytest

from hrseg.cli import data
from hrseg.convert.convert import ConvertOptions, convert
from hrseg.convert.formats import READERS, read, recognize
from hrseg.errors import DataError
from tests.convert import exports as x
from tests.convert import sources as s
from tests.convert.sources import converted
from tests.convert.test_damage import LETTERS, damaged, try_it
from tests.convert.test_readers import SOURCES

ALL = SOURCES | x.EXPORTS
JSON = {"superannotate": "a.png___objects.json", "via": "via_region_data.json", "isat": "a.json"}
JSON |= {"labelbox": "export.ndjson", "geojson": "a.geojson"}


@pytest.mark.parametrize("tool", x.EXPORTS)
def test_every_export_gives_the_scene(tool, tmp_path):
    path = x.EXPORTS[tool](tmp_path / "source")
    mask, labels, report = converted(path, tmp_path)
    ids = [0, *(next(row.id for row in labels.labels if row.name == n) for n in (s.ROAD, s.CAR))]
    assert report.tool == tool.strip()
    assert (mask == np.array(ids)[s.SCENE]).all()
    assert labels.names[0] == "background"
    assert report.tally.pixels == {"": 12, s.ROAD: 28, s.CAR: 8}


@pytest.mark.parametrize("tool", ALL)
def test_each_export_is_recognized_by_its_own_reader_alone(tool, tmp_path):
    path = ALL[tool](tmp_path / "source")
    for place in {path, tmp_path / "source"} - ({tmp_path / "source"} if tool == "cvat" else set()):
        seen = {name for name, reader in READERS.items() if reader.recognizes(place)}
        assert seen == {tool.strip()}, place


def test_the_command_offers_every_reader():
    assert set(data._TOOLS) == set(READERS)


@pytest.mark.slow
@pytest.mark.parametrize("tool", JSON)
def test_damaged_exports_end_in_one_sentence(tool, tmp_path):
    rng = random.Random(tool)
    path = x.EXPORTS[tool](tmp_path / "source")
    file = tmp_path / "source" / JSON[tool]
    content = json.loads(file.read_text())
    for _ in range(60):
        s.save(file, json.dumps(damaged(content, rng)))
        try_it(tool, path, tmp_path)


@pytest.mark.parametrize(("tool", "name"), [("kaggle", "train.csv"), ("via ", "via.csv")])
def test_damaged_tables_end_in_one_sentence(tool, name, tmp_path):
    rng = random.Random(tool)
    path = x.EXPORTS[tool](tmp_path / "source")
    text = (tmp_path / "source" / name).read_text()
    for _ in range(60):
        letters = list(text)
        for _ in range(rng.randint(1, 4)):
            letters[rng.randrange(len(letters))] = rng.choice(LETTERS)
        s.save(tmp_path / "source" / name, "".join(letters))
        try_it(tool.strip(), path, tmp_path)


@pytest.mark.parametrize("tool", [*JSON, "kaggle", "via "])
@pytest.mark.parametrize("name", ["../secret.png", "{root}/secret.png", "..\\secret.png"])
def test_no_name_leads_out_of_the_folder_of_the_images(tool, name, tmp_path):
    secret = s.photo(tmp_path / "secret.png")
    path = x.EXPORTS[tool](tmp_path / "source")
    name = name.format(root=tmp_path).replace("\\", "\\\\")
    for file in (tmp_path / "source").glob("*.*"):
        if file.suffix in (".json", ".ndjson", ".csv") and file.is_file():
            file.write_text(file.read_text().replace("a.png", name).replace("/x.example", ""))
    for image in (tmp_path / "source").rglob("a.png"):
        image.unlink()
    with pytest.raises(DataError):
        convert(path, tmp_path / "out", ConvertOptions(tool=tool.strip()))
    assert not (tmp_path / "out").exists()
    assert secret.is_file()


def test_recognize_says_the_tool(tmp_path):
    assert recognize(x.isat(tmp_path / "source").parent) == "isat"


def test_what_nobody_knows_is_said(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        recognize(tmp_path / "gone")
    (tmp_path / "a.zip").touch()
    with pytest.raises(DataError, match="Unpack"):
        recognize(tmp_path / "a.zip")
    with pytest.raises(DataError, match="--from") as error:
        recognize(tmp_path)
    assert all(name in str(error.value) for name in READERS)


UNREAD = {
    "CreateML": [{"image": "a.png", "annotations": [{"label": "a", "coordinates": {"x": 1}}]}],
    "VoTT": {"name": "p", "assets": {}, "tags": []},
    "Hasty": {"project_name": "p", "label_classes": [], "images": [{"image_id": "1"}]},
    "captions": {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "caption": "a car"}],
        "categories": [],
    },
    "'project', 'frames'": {"project": 1, "frames": []},
}


@pytest.mark.parametrize("case", UNREAD)
def test_an_export_that_is_not_read_is_named(case, tmp_path):
    path = s.save(tmp_path / "a.json", UNREAD[case])
    assert not any(reader.recognizes(path) for reader in READERS.values())
    with pytest.raises(DataError) as error:
        recognize(path)
    assert case in str(error.value)
    with pytest.raises(DataError) as forced:
        convert(path, tmp_path / "out", ConvertOptions(tool="coco"))
    assert "again" not in f"{error.value} {forced.value}"


def test_files_of_other_xml_are_named(tmp_path):
    text = "<annotation><filename>a.jpg</filename><object><bndbox/>"
    s.save(tmp_path / "a.xml", text.replace("/>", "></bndbox>") + "</object></annotation>")
    with pytest.raises(DataError, match="boxes"):
        recognize(tmp_path)


def test_a_wrong_from_is_told_the_right_one(tmp_path):
    path = s.supervisely(tmp_path / "source")
    with pytest.raises(DataError, match="It seems to be supervisely: --from supervisely"):
        read("coco", path)
