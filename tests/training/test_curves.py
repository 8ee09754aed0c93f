from hrseg.imaging import read_image
from hrseg.training.curves import draw_curves

HEADER = "step,epoch,train/loss,train/epoch_loss,train/lr,val/miou\n"


def test_a_run_without_an_epoch_has_no_picture(tmp_path):
    assert draw_curves(tmp_path) is None
    (tmp_path / "metrics.csv").write_text(HEADER + "3,,0.5,,,\n")
    assert draw_curves(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_loss_rate_and_score_are_drawn_over_epochs(tmp_path):
    rows = [f"{10 * i},{i},,{2 / i},{0.1 / i},{0.1 * i}" for i in range(1, 6)]
    (tmp_path / "metrics.csv").write_text(HEADER + "\n".join([*rows, "torn,?,x"]) + "\n")
    picture = read_image(draw_curves(tmp_path))
    height, width, _ = picture.shape
    assert width > 2 * height
    blue = (picture[..., 2] > picture[..., 0] + 60).reshape(height, 3, width // 3).any(axis=(0, 2))
    assert blue.tolist() == [True, True, True]  # a line in each panel
