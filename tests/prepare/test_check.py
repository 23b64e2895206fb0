"""Reading the lists that are checked."""
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.common.errors import UserError
from ops.data.list_files import read_list
from ops.prepare.check import DatasetReport, Rules, read_entries

line = st.one_of(st.text(max_size=30), st.builds("{} {} {}".format, st.text("ab .4\t", max_size=8),
                                                 st.integers(-5, 99), st.integers(-2, 9)),
                 st.builds("{} {}".format, st.sampled_from(["a.mp4", "b c.webm", "d"]), st.integers(-2, 9)),
                 st.builds("{} 4 {}".format, st.text("ab .", max_size=8), st.text("01,-", max_size=4)))


@given(st.lists(line, max_size=6))
@settings(max_examples=150, deadline=None)
def test_lists_are_read_as_training_reads_them(tmp_path_factory, lines):
    file = tmp_path_factory.getbasetemp() / "fuzzed.txt"
    file.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    report = DatasetReport(Rules(file.parent, ""), {"l": file})
    try:
        read_entries("l", file, report)
    except UserError:
        with pytest.raises(UserError):
            read_list(file)
        return
    mine = [(e.path, e.num_frames or 0, e.labels) for e in report.entries]
    try:
        theirs = [(r.path, r.num_frames, r.labels) for r in read_list(file)]
    except UserError:  # what the loader refuses is a finding here, in the list or in the video
        assert report.findings or not mine or any(n < 1 or len(labels) != 1 or labels[0] < 0 for _, n, labels in mine)
    else:
        assert mine == theirs and not report.findings
