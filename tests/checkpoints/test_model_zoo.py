"""The model zoo and tools/download_weights.py, against a local server that resumes, breaks off, misleads or refuses."""
import hashlib
import io
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from ops.checkpoints import download
from ops.checkpoints.model_zoo import BASE_URL, MODEL_ZOO, ONLINE_JESTER, cached_file, fetch
from ops.common.errors import UserError
from ops.common.files import cache_directory
from tests.helpers.programs import assert_refused, run

NAME = "TSM_something_RGB_resnet50_shift8_blockres_avg_segment8_e45.pth"


def checkpoint(seed: int = 0) -> bytes:
    """A small real checkpoint, 80 kB."""
    file = io.BytesIO()
    weight = torch.randn(20_000, generator=torch.Generator().manual_seed(seed))
    torch.save({"state_dict": {"module.new_fc.weight": weight}}, file)
    return file.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `content` at /models/<NAME>.

    ranges: whether it honors Range. cuts: how many answers break off after half of their bytes. extra: bytes announced
    but not sent. status: of every answer; 0: the right one.
    """
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.cuts, self.extra, self.status = checkpoint(), True, 0, 0, 0
        self.asked: list[str] = []  # the Range header of each request
        self.url = f"http://127.0.0.1:{self.server_port}/models"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.asked.append(self.headers.get("Range", ""))
        if server.status or self.path != f"/models/{NAME}":
            self.send_error(server.status or 404)
            return
        first = int(self.headers["Range"].split("=")[1].rstrip("-")) if server.ranges and server.asked[-1] else 0
        if first and first >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.end_headers()
            return
        body = server.content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body) + server.extra))
        self.end_headers()
        if server.cuts:
            server.cuts -= 1
            body = body[:len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TSM_MODELS_URL", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def files() -> list[str]:
    return sorted(path.name for path in cache_directory().iterdir()) if cache_directory().exists() else []


def test_the_program_downloads_prints_the_path_and_records_the_hash(server, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "tools.download_weights", NAME.removesuffix(".pth"), "--url", server.url)
    assert done.status == 0, done
    assert done.out.strip() == str(cached_file(NAME))
    assert cached_file(NAME).read_bytes() == server.content
    record = json.loads((cache_directory() / f"{NAME}.json").read_text())
    assert record == {"sha256": hashlib.sha256(server.content).hexdigest(), "bytes": len(server.content)}
    assert files() == [NAME, f"{NAME}.json"]


def test_a_file_that_is_there_is_not_downloaded_again(server, monkeypatch):
    monkeypatch.setenv("TSM_MODELS_URL", server.url + "/")  # the environment may name a mirror
    fetch(NAME)
    server.status = 500
    assert fetch(NAME) == cached_file(NAME)
    assert server.asked == [""]


def test_a_cut_connection_is_resumed(server):
    server.cuts = 2
    fetch(NAME, server.url)
    size = len(server.content)
    half = size // 2
    assert server.asked == ["", f"bytes={half}-", f"bytes={half + (size - half) // 2}-"]
    assert cached_file(NAME).read_bytes() == server.content


def test_an_interrupted_run_is_resumed_by_the_next(server):
    server.cuts = download.ATTEMPTS
    with pytest.raises(UserError, match=f"ended after [0-9]+ of {len(server.content)} bytes; run again to continue"):
        fetch(NAME, server.url)
    kept = cache_directory() / f"{NAME}.part"
    assert files() == [kept.name] and server.content.startswith(kept.read_bytes())
    have = kept.stat().st_size
    fetch(NAME, server.url)
    assert server.asked[-1] == f"bytes={have}-"
    assert cached_file(NAME).read_bytes() == server.content


def test_a_server_without_ranges_starts_again_from_the_first_byte(server):
    server.ranges, server.cuts = False, 1
    fetch(NAME, server.url)
    assert len(server.asked) == 2 and cached_file(NAME).read_bytes() == server.content


def test_a_part_that_is_already_complete_is_finished(server):
    cache_directory().mkdir(parents=True)
    (cache_directory() / f"{NAME}.part").write_bytes(server.content)
    fetch(NAME, server.url)
    assert server.asked == [f"bytes={len(server.content)}-"] and files() == [NAME, f"{NAME}.json"]


def test_a_part_longer_than_the_file_is_discarded(server):
    cache_directory().mkdir(parents=True)
    (cache_directory() / f"{NAME}.part").write_bytes(server.content + b"more")
    fetch(NAME, server.url)
    assert cached_file(NAME).read_bytes() == server.content


def test_a_length_that_is_too_long_is_corrected_by_the_range(server):
    server.extra = 1000
    fetch(NAME, server.url)
    assert cached_file(NAME).read_bytes() == server.content


def test_a_length_that_is_too_long_without_ranges_is_refused(server):
    server.extra, server.ranges = 1000, False
    with pytest.raises(UserError, match=f"ended after {len(server.content)} of {len(server.content) + 1000} bytes"):
        fetch(NAME, server.url)
    assert not cached_file(NAME).exists()


@pytest.mark.parametrize("content", [b"<html>we have moved</html>", checkpoint()[:50_000]])
def test_a_download_that_is_not_a_checkpoint_is_not_kept(server, content):
    server.content = content  # a page, or a file that is cut short
    with pytest.raises(UserError, match="the downloaded file is not a checkpoint"):
        fetch(NAME, server.url)
    assert files() == []


def test_404_is_one_line_with_the_path_for_a_copy(server, monkeypatch, capfd):
    server.status = 404
    done = run(monkeypatch, capfd, "tools.download_weights", NAME, "--url", server.url)
    assert_refused(done, "404", f"{server.url}/{NAME}", str(cached_file(NAME)))
    assert files() == [] and len(done.err.strip().splitlines()) == 1


def test_offline_is_one_line_with_the_path_for_a_copy(server, monkeypatch, capfd):
    server.shutdown()
    server.server_close()
    done = run(monkeypatch, capfd, "tools.download_weights", NAME, "--url", server.url)
    assert_refused(done, "no connection", str(cached_file(NAME)), "TSM_MODELS_URL")
    assert files() == []


def test_a_file_put_there_by_hand_is_recorded_and_then_checked(server, monkeypatch, capfd):
    cache_directory().mkdir(parents=True)
    cached_file(NAME).write_bytes(server.content)
    assert fetch(NAME) == cached_file(NAME)
    cached_file(NAME).write_bytes(checkpoint(seed=1))
    done = run(monkeypatch, capfd, "tools.download_weights", NAME, "--url", server.url)
    assert_refused(done, "has changed", hashlib.sha256(server.content).hexdigest(), "delete it")
    assert server.asked == []


def test_a_file_put_there_by_hand_must_be_a_checkpoint(server):
    cache_directory().mkdir(parents=True)
    cached_file(NAME).write_bytes(b"<html>")
    with pytest.raises(UserError, match="not a"):
        fetch(NAME)
    assert files() == [NAME]


def test_a_damaged_record_is_an_error(server):
    fetch(NAME, server.url)
    (cache_directory() / f"{NAME}.json").write_text("{")
    with pytest.raises(UserError, match="damaged: delete it"):
        fetch(NAME, server.url)


def test_two_downloads_at_once_do_not_mix(server):
    fcntl = pytest.importorskip("fcntl")
    cache_directory().mkdir(parents=True)
    with open(cache_directory() / f"{NAME}.part", "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another run is downloading"):
            fetch(NAME, server.url)
    assert server.asked == []


@pytest.mark.parametrize("argv, words", [
    ([], ["--list"]),
    (["TSM_something_RGB_resnet50"], ["TSM_something_RGB_resnet50", "did you mean TSM_something"]),
    (["xyz"], ["'xyz'", "docs/models.md"]),
    ([NAME, "--url", "no-address"], ["unknown url type"]),
])
def test_wrong_names_and_addresses_are_refused(server, monkeypatch, capfd, argv, words):
    assert_refused(run(monkeypatch, capfd, "tools.download_weights", *argv), *words)


def test_a_cache_that_cannot_be_written_is_one_line(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TSM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="cannot write .*TSM_CACHE"):
        fetch(NAME, server.url)


def test_list_names_every_model_with_its_published_accuracies(server, monkeypatch, capfd):
    done = run(monkeypatch, capfd, "tools.download_weights", "--list", "--json")
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert len(rows) == len(MODEL_ZOO) == 14 and all(row["url"] == f"{BASE_URL}/{name}" for name, row in rows.items())
    published = {(s["protocol"], s["top1"]) for s in rows[NAME]["published"]}
    assert published == {("1 clip, center crop", 45.6), ("2 clips, full resolution", 47.2)}
    assert rows["TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense_nl.pth"]["published"][0][
        "top1"] == 75.6
    assert rows[ONLINE_JESTER]["published"] == []
    words = run(monkeypatch, capfd, "tools.download_weights", "--list").out
    assert all(name in words for name in rows) and "45.6% (1 clip, center crop; " in words


def test_the_cache_is_in_the_home_directory_unless_named(monkeypatch):
    monkeypatch.setenv("TSM_CACHE", "~/weights")
    assert cache_directory() == Path.home() / "weights"
    monkeypatch.delenv("TSM_CACHE")
    assert cached_file("a.pth") == Path.home() / ".cache" / "tsm" / "a.pth"
