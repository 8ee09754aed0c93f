from tests.convert import sources as s
from tests.convert.sources import converted


def test_the_report_says_what_became_of_each_class(tmp_path):
    _, _, report = converted(s.cvat_xml(tmp_path / "source"), tmp_path, merge=["car=vehicle"])
    text = report.text()
    assert "1 train" in text
    assert "Left out: points (1)." in text
    assert "z_order" in text
    assert [line.split() for line in text.splitlines()[2:6]] == [
        ["source", "class", "id", "becomes", "objects", "pixels", "share", "images"],
        ["road", "1", "road", "1", "28", "58.3", "%", "1"],
        ["car", "2", "vehicle", "1", "8", "16.7", "%", "1"],
        ["(no", "object)", "0", "background", "12", "25.0", "%"],
    ]
    assert report.to_dict()["classes"][1]["becomes"] == "vehicle"
