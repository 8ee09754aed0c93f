from hrseg.data.check.report import report
from tests.data.check.trees import TWO, look_at, split_tree, tree


def test_the_report_ends_with_what_to_do(tmp_path):
    result = look_at(tree(tmp_path / "my set", [TWO] * 3))
    lines = report(result).splitlines()
    assert lines[-2:] == [
        f"  hrseg data check '{tmp_path / 'my set'}' --write mine.yaml",
        "  hrseg fit --config mine.yaml",
    ]
    written = report(result, tmp_path / "a b.yaml").splitlines()
    assert written[-1] == f"  hrseg fit --config '{tmp_path / 'a b.yaml'}'"


def test_a_recipe_with_lists_is_not_offered_for_pasting(tmp_path):
    divided = report(look_at(tree(tmp_path / "one", [TWO] * 5)))
    assert "The recipe, as --write saves it with its lists" in divided
    assert "The recipe to paste" in report(look_at(split_tree(tmp_path / "two")))
