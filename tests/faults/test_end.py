"""The end of a server: asked for under load, and refused to a second one."""

from __future__ import annotations

import socket
import subprocess
import threading
import time

import botocore.exceptions
import pytest

WORKERS = 8
GONE = (
    botocore.exceptions.ConnectionError,
    botocore.exceptions.HTTPClientError,
    botocore.exceptions.ResponseStreamingError,
)


class Writer(threading.Thread):
    """Puts objects of its own until the server is gone. `done` are those that were acknowledged."""

    def __init__(self, store, number, data):
        super().__init__()
        self.store, self.number, self.data = store, number, data
        self.done = []
        self.failure = None

    def run(self):
        try:
            while True:
                key = f"{self.number}/{len(self.done)}"
                self.store.put(key, self.data)
                self.done.append(key)
        except GONE:
            return
        except Exception as error:
            self.failure = error


def test_sigterm_under_load(open_store, blob_of_bytes, rng, assert_clean):
    """It ends soon and with 0; what it acknowledged is there, and nothing has to be replayed."""
    store = open_store()
    sizes = [4_000, 4_000, 100_000, 6_000_000]
    writers = [Writer(store, n, blob_of_bytes(sizes[n % 4])) for n in range(WORKERS)]
    for writer in writers:
        writer.start()
    time.sleep(rng.uniform(0.3, 1.0))  # the moment of the signal
    assert store.server.stop() < 12
    for writer in writers:
        writer.join(30)
        assert not writer.is_alive()
        assert writer.failure is None, writer.failure
    assert "Traceback" not in store.server.log_text()
    store.server.start()
    assert "replayed" not in store.server.log_text(), "the devices were not closed properly"
    for writer in writers:
        for key in writer.done:
            assert store.get(key) == writer.data, key
    assert sum(len(writer.done) for writer in writers) > WORKERS
    acknowledged = {key for writer in writers for key in writer.done}
    unanswered = set(store.keys()) - acknowledged
    assert len(unanswered) <= WORKERS
    assert_clean(store)


def test_sigterm_with_silent_clients(open_store):
    """Neither an idle connection nor a body that never comes holds it up for ever."""
    store = open_store()
    silent = [socket.create_connection(store.server.address) for _ in range(20)]
    for connection in silent[:10]:
        connection.sendall(b"PUT /faults/key HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nabc")
    assert store.server.stop() < 15
    for connection in silent:
        connection.close()


def test_a_second_server_on_the_same_data_is_refused(open_store, blob_of_bytes):
    store = open_store()
    store.put("key", data := blob_of_bytes(200_000))
    done = subprocess.run(store.server.command(), capture_output=True, text=True, timeout=30)
    assert done.returncode not in (0, None)
    assert f"in use by another process ({store.server.pid})" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert store.get("key") == data
    store.put("more", data)
    store.server.restart()
    assert store.get("more") == data


@pytest.mark.parametrize("turn", range(4))
def test_killed_in_its_first_start(make_server, rng, eventually, turn):
    """While it prepares its disks: the next start goes on with whatever it finds."""
    server = make_server(f"data{turn}")
    for _ in range(3):
        process = subprocess.Popen(
            server.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(lambda: (server.data_dir / "disks").exists())
        time.sleep(rng.uniform(0, 0.03))  # the moment of the power cut
        process.kill()
        process.wait()
    server.start()
    assert server.metric("objectio_store_osds_up") == 6, server.log_text()
    server.stop()
