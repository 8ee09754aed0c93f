from pathlib import Path

import pytest

from hrseg.errors import DataError
from hrseg.inference.sources import expand, result_names
from hrseg.inference.sources.base import SourceOptions
from hrseg.inference.sources.files import open_path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b ü.png", "a.JPG", "notes.txt", ".hidden.png", "deep/er/c.png", "[1].png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path("photos")


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_is_its_visible_images_by_name(photos):
    assert names(expand([photos])) == ["[1].png", "a.JPG", "b ü.png"]


def test_globs_reach_any_depth_and_words_keep_their_order(photos):
    assert names(expand(["photos/deep/**/*.png", "photos/a.JPG"])) == ["c.png", "a.JPG"]
    assert names(expand(["photos/**/*.png"])) == ["[1].png", "b ü.png", "c.png"]


def test_an_image_named_twice_is_listed_once(photos):
    assert names(expand([photos / "a.JPG", photos.resolve(), "photos/a*"])) == [
        "a.JPG",
        "[1].png",
        "b ü.png",
    ]


def test_a_file_is_taken_whatever_its_name(photos):
    assert names(expand(["photos/notes.txt", "photos/[1].png"])) == ["notes.txt", "[1].png"]


def test_a_link_that_leads_nowhere_is_named_and_not_left_out(photos):
    (photos / "lost.png").symlink_to("gone.png")
    for argument in (photos, photos / "lost.png"):
        with pytest.raises(DataError, match=r"lost\.png is a link to gone\.png, which is not there"):
            expand([argument])
    found = {one.name: one.error for one in open_path(str(photos), SourceOptions()).pictures()}
    assert [name for name, error in found.items() if error] == ["lost"]
    assert {"a", "deep/er/c"} < set(found)


@pytest.mark.parametrize(
    ("argument", "arguments"),
    [
        ("photos/b ü.pgn", "Did you mean 'b ü.png'"),
        ("nowhere/a.png", "No such file or folder: nowhere/a.png"),
        ("photos/deep", "deep/er has some"),
        ("photos/*.bmp", "No image matches photos/*.bmp"),
        ("photos/*.txt", "It matches other files, such as notes.txt"),
    ],
)
def test_words_that_mean_no_image_are_refused(photos, argument, arguments):
    with pytest.raises(DataError) as error:
        expand([argument])
    assert arguments in str(error.value)


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], []),
        (["p/x.png", "p/y.png"], ["x", "y"]),
        (["p/a/x.png", "p/b/x.jpg", "p/y.png"], ["a/x", "b/x", "y"]),
        (["x.png", "x.jpg", "d/x.jpg"], ["x.png", "x.jpg", "d/x"]),
        (["a/X.png", "b/x.png"], ["a/X", "b/x"]),
        (["x.png", "x.PNG", "x.jpg"], ["x.png", "x.PNG-2", "x.jpg"]),
        (["x.png", "x.jpg", "x.png.bmp"], ["x.png", "x.jpg", "x.png-2"]),
    ],
)
def test_results_never_share_a_name(paths, expected):
    assert result_names([Path(path) for path in paths]) == expected
