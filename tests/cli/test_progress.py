import pytest

from hrseg.cli import progress
from hrseg.cli.progress import Bar, counting, row_progress


def test_rows_are_told_every_half_minute_where_no_bar_can_be_drawn(monkeypatch, capsys):
    clock = iter([1.0, 21.0, 61.0, 71.0, 200.0, 300.0, 340.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    update = row_progress()
    for done in (200, 600, 1400, 1500, 2200):  # 200 rows are of an earlier run: 1,200 in 60 s
        update(done, 2200)
    for done in (0, 1000):  # the next image begins anew
        update(done, 2000)
    assert capsys.readouterr().err.splitlines() == [
        "1,400 of 2,200 rows, about 40 s left",
        "1,000 of 2,000 rows, about 40 s left",
    ]


def test_no_counter_is_drawn_where_there_is_no_terminal(capsys):
    with counting("images") as start:
        start(10)(3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("word", "text"),
    [("[bold]x[/bold]", "[bold]x[/bold]"), ("x\x1b]0;title\x07", r"x\u001b]0;title\u0007")],
)
def test_words_of_a_server_cannot_steer_the_bar(word, text, capsys):
    bar = Bar()
    bar.start(f"{word} of a server", 0, 10)
    bar.note(word)
    bar.stop()
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert text in shown
