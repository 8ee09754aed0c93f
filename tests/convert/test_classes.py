import pytest

from hrseg.convert.base import Source
from hrseg.convert.classes import plan_classes, read_merge, read_source_classes
from hrseg.errors import ConfigError, DataError
from hrseg.labels import load_labels

STREET = Source({"road": (1, 2, 3), "car": (4, 5, 6), "truck": (7, 8, 9), "void": None}, [])


def ids(plan):
    return dict(plan.ids), plan.blank, plan.labels.names


def test_classes_count_from_one_behind_the_background():
    assert ids(plan_classes(STREET, {})) == (
        {"road": 1, "car": 2, "truck": 3, "void": 255},
        0,
        ["background", "road", "car", "truck"],
    )


def test_without_a_background_they_count_from_zero():
    assert ids(plan_classes(STREET, {}, "ignore")) == (
        {"road": 0, "car": 1, "truck": 2, "void": 255},
        255,
        ["road", "car", "truck"],
    )


def test_merged_renamed_ignored_and_dropped():
    rules = read_merge(["car,truck=vehicle", "road=ignore"])
    plan = plan_classes(STREET, rules)
    assert ids(plan) == (
        {"road": 255, "car": 1, "truck": 1, "void": 255},
        0,
        ["background", "vehicle"],
    )
    plan = plan_classes(STREET, read_merge(["car=car", "*=drop"]), "ignore")
    assert ids(plan) == ({"car": 0, "void": 255}, 255, ["car"])
    assert plan.labels.palette.tolist() == [[4, 5, 6]]
    assert plan_classes(STREET, {"road": "background"}).ids["road"] == 0


def test_a_class_called_background_is_the_background():
    source = Source({"_background_": None, "cat": None}, [], covers=True)
    assert plan_classes(source, {}).ids == {"_background_": 0, "cat": 1}
    assert plan_classes(source, {}, "ignore").ids == {"_background_": 255, "cat": 0}
    dense = Source({"road": None, "sky": None}, [], covers=True)
    assert plan_classes(dense, {}).labels.names == ["road", "sky"]
    assert plan_classes(dense, {"sky": "drop"}).labels.names == ["background", "road"]


def test_given_labels_keep_their_ids(tmp_path):
    table = tmp_path / "labels.yaml"
    table.write_text("classes: [background, vehicle, road]\n")
    labels = load_labels(table)
    plan = plan_classes(STREET, {"car": "vehicle", "truck": "vehicle"}, None, labels)
    assert plan.ids == {"road": 2, "car": 1, "truck": 1, "void": 255}
    with pytest.raises(DataError, match=r"'car' is not in table.*--merge 'car=…'"):
        plan_classes(STREET, {}, None, labels)
    table.write_text("classes: [vehicle, road]\n")
    plan = plan_classes(STREET, {"car": "vehicle", "truck": "vehicle"}, None, load_labels(table))
    assert plan.blank == 255
    with pytest.raises(DataError, match="no class 'background'"):
        plan_classes(STREET, {"car": "road", "truck": "road"}, "class", load_labels(table))


def test_rules_from_files(tmp_path):
    (tmp_path / "m.yaml").write_text("vehicle: [car, truck]\nignore: sky\n")
    (tmp_path / "m.csv").write_text("source,target\ncar,vehicle\n truck, vehicle\n")
    assert read_merge([str(tmp_path / "m.yaml")]) == {
        "car": "vehicle",
        "truck": "vehicle",
        "sky": "ignore",
    }
    assert read_merge([str(tmp_path / "m.csv")]) == {"car": "vehicle", "truck": "vehicle"}


@pytest.mark.parametrize("rule", ["car", "=x", "car=", "gone.yaml"])
def test_rules_that_cannot_be_read(rule):
    with pytest.raises(ConfigError, match="--merge"):
        read_merge([rule])
    with pytest.raises(ConfigError, match="'a' and to 'b'"):
        read_merge(["car=a", "car=b"])


def test_a_merged_class_that_does_not_exist_is_named_with_the_nearest():
    with pytest.raises(DataError, match=r"'trucks'.*Did you mean 'truck'"):
        plan_classes(STREET, {"trucks": "vehicle"})
    with pytest.raises(DataError, match="No class is left"):
        plan_classes(STREET, {"*": "drop"})


def test_yaml_survives_odd_names(tmp_path):
    source = Source({"no": None, "a: b": (1, 2, 3), "Straße, nass": None}, [])
    labels = plan_classes(source, {}).labels
    (tmp_path / "labels.yaml").write_text(labels.to_yaml("x"), encoding="utf-8")
    assert load_labels(tmp_path / "labels.yaml").labels == labels.labels


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("road 1 2 3\nroad 4 5 6\n", "twice"),
        ("road 1 2 333\n", "no color"),
        ("road:1,2\n", "is no class"),
        ("\n", "no class"),
    ],
)
def test_tables_that_cannot_be_read(text, words, tmp_path):
    (tmp_path / "colors.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        read_source_classes(tmp_path / "colors.txt")


def test_tables_of_ids_fold_ignored_and_shared_train_ids():
    table = read_source_classes("cityscapes")
    assert table.names[:2] == ("road", "sidewalk")
    assert table.ids[7] == "road"
    assert "ego vehicle" in table.ignored
