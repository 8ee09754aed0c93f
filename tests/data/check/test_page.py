from hrseg.data.check.page import page
from tests.data.check.trees import TWO, look_at, squares, tree


def test_the_page_needs_no_other_file(tmp_path):
    root = tree(tmp_path / "a <b>", [TWO, squares([0, 1, 255])])
    text = page(look_at(root))
    assert "a &lt;b&gt;" in text
    assert "a <b>" not in text
    assert text.count("data:image/jpeg;base64,") == text.count("data:image/png;base64,") == 2
    assert 'src="http' not in text
    assert f"hrseg data check &#39;{tmp_path}/a &lt;b&gt;&#39; --write" in text
    assert "prefers-color-scheme: dark" in text
