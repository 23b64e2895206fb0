"""log.csv: kept when a run is resumed, renamed when the published program wrote it."""
import pytest

from ops.training.run_log import RunLog, read_log


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
