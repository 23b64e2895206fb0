"""Reading a user's csv file of labeled videos."""
import os

from ops.prepare.labeled_videos import LabeledVideo, read_csv


def test_csv_paths_may_be_written_in_several_ways(tmp_path):
    (tmp_path / "t.csv").write_text(f"\ufeffFILE,LABEL\n ./a/../b.mp4 ,x\n\n{os.path.abspath(tmp_path)}/c.mp4,y\n")
    assert read_csv(tmp_path / "t.csv", tmp_path) == [LabeledVideo("b.mp4", "x", ""), LabeledVideo("c.mp4", "y", "")]
