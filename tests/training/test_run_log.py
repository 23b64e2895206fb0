"""log.csv and batch.png: kept when a run is resumed; a log that the published program wrote is renamed."""
import pytest
from PIL import Image

from ops.training.run_log import RunLog, read_log
from tests.helpers.tensorboard import scalars


def test_resuming_does_not_truncate_the_log(tmp_path):
    log = RunLog(tmp_path)
    for epoch in range(2):
        log.add({"epoch": epoch, "lr": 0.1, "train_loss": 1.5}, 0.0)
    log.close()
    resumed = RunLog(tmp_path, start_epoch=2)
    resumed.add({"epoch": 2, "lr": 0.1, "train_loss": 1.0}, 0.0)
    resumed.close()
    assert [row["epoch"] for row in read_log(tmp_path / "log.csv")] == ["0", "1", "2"]


@pytest.mark.parametrize("start", [0, 2])
@pytest.mark.parametrize("old", [b"Epoch: [0][0/20], lr: 0.01000\tLoss 5.1\n" * 2, b"Epoch: [0][0/20]\n", b"\xff\x00",
                                 b"epoch,lr\n0,0.1\n"])
def test_a_published_log_is_renamed_not_read_or_lost(old, start, tmp_path, caplog):
    caplog.set_level("INFO")
    (tmp_path / "log.csv.old").write_text("an older one")
    (tmp_path / "log.csv").write_bytes(old)
    log = RunLog(tmp_path, start)
    log.add({"epoch": start, "lr": 0.1, "train_loss": 1.5}, 0.0)
    log.close()
    assert (tmp_path / "log.csv.old1").read_bytes() == old and (tmp_path / "log.csv.old").read_text() == "an older one"
    assert [row["epoch"] for row in read_log(tmp_path / "log.csv")] == [str(start)]
    assert caplog.text.count("log.csv.old1") == 1


def test_the_log_of_an_earlier_version_is_continued(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,lr,train_loss,train_top1,train_top5,val_loss,val_top1,val_top5,data_seconds,"
                                      "step_seconds\n0,0.1,1.5,20,60,1.4,25,70,0.1,0.2\n1,0.1,1.2,30,70,,,,0.1,0.2\n")
    log = RunLog(tmp_path, start_epoch=1)
    log.add({"epoch": 1, "lr": 0.1, "train_loss": 1.0, "clips_per_second": 40.0, "grad_norm": 2.5}, 25.0)
    log.close()
    first, second = read_log(tmp_path / "log.csv")
    assert [(row["train_loss"], row["clips_per_second"], row["grad_norm"]) for row in (first, second)] == [
        ("1.5", "", ""), ("1", "40", "2.5")]
    assert [path.name for path in tmp_path.glob("log.csv*")] == ["log.csv"]
    shown = scalars(tmp_path)
    assert shown["loss/train"] == [(0, 1.5), (1, 1.0)] and shown["time/clips_per_second"] == [(1, 40.0)]


def test_pictures_stay_with_their_run(tmp_path):
    """A resumed run shows them again, because it purges TensorBoard; a new run in the same directory has its own."""
    red, blue = (Image.new("RGB", (8, 6), color) for color in ("red", "blue"))
    for start, expected in (((0, 0), None), ((0, 3), red), ((2, 0), red), ((0, 0), None)):
        log = RunLog(tmp_path, *start)
        assert log.has_pictures == (expected is not None)
        if not log.has_pictures:
            log.add_pictures(red if expected is None and not (tmp_path / "batch.png").exists() else blue)
        log.close()
        assert len(scalars(tmp_path)["first_batch"]) == 1
    with Image.open(tmp_path / "batch.png") as picture:
        assert picture.getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("damaged", [b"", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_a_damaged_picture_is_drawn_again(damaged, tmp_path):
    (tmp_path / "batch.png").write_bytes(damaged)
    log = RunLog(tmp_path, 1)
    assert not log.has_pictures
    log.close()
