"""A GPU that fails while it serves: every client hears of it at once, nothing hangs, the process ends with status 1.

Needs a GPU, CARAT_BINARY, CARAT_FAULTY_CUBLASLT (libfaulty_cublaslt.so of the build) and CARAT_TOKENIZER (a folder with Gemma 4's tokenizer.json). Run by
scripts/gpu_check."""

import http.client
import json
import os
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "e2e"))
from carat_server import Server  # noqa: E402

NUM_STREAMS = 8
LIMIT_S = 20  # for everything that must not hang


class DeviceFault(unittest.TestCase):
    def test_clients_hear_of_it_and_the_process_ends(self):
        fault = Path(tempfile.mkdtemp(prefix="carat_fault_")) / "now"
        environment = {"CARAT_CUBLASLT": os.environ["CARAT_FAULTY_CUBLASLT"], "CARAT_FAULT_FILE": str(fault)}
        with Server("--model-path", "google/gemma-4-E2B-it", "--load-format", "dummy", "--tokenizer-path", os.environ["CARAT_TOKENIZER"],
                    "--device", "cuda", env=environment) as server:
            # Streams that would go on for much longer.
            streams = [Stream(server.port) for _ in range(NUM_STREAMS)]
            for stream in streams:
                self.assertTrue(stream.started.wait(LIMIT_S), "no first token; the server said:\n" + "".join(server.log[-8:]))
            fault.touch()
            # This prompt's products meet the fault.
            trigger = Stream(server.port, prompt=[5 + i % 90 for i in range(500)])
            for stream in [*streams, trigger]:
                stream.join(LIMIT_S)
                self.assertFalse(stream.is_alive(), "a stream hangs")
            for stream in streams:
                self.assertEqual(stream.status, 200)
                self.assertIn("error", stream.lines[-1] + "".join(stream.lines[-3:]), stream.lines[-3:])
            self.assertTrue(trigger.status == 503 or "error" in "".join(trigger.lines), trigger.lines)
            # Until the process is gone, health is red and new requests are refused.
            begin, late = time.monotonic(), []
            while server.process.poll() is None and time.monotonic() - begin < LIMIT_S:
                for path in ("/health", "/generate"):
                    late.append(ask(server.port, path))
                time.sleep(0.02)
            self.assertEqual(server.process.wait(LIMIT_S), 1)
            self.assertTrue(all(status in (None, 503) for status in late), late)
            self.assertTrue(any("The GPU has failed" in line for line in server.log), server.log[-5:])
            print("\nhealth and generate after the fault:", late[:6], "... streams ended with", streams[0].lines[-3:])


def ask(port, path):
    """The status, or None where the server is gone already."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
    try:
        if path == "/health":
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps({"input_ids": [5, 6, 7], "sampling_params": {"max_new_tokens": 2}}),
                               {"Content-Type": "application/json"})
        return connection.getresponse().status
    except (ConnectionError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Stream(threading.Thread):
    def __init__(self, port, prompt=(5, 6, 7)):
        super().__init__(daemon=True)
        self.port, self.prompt = port, list(prompt)
        self.status, self.lines, self.started = None, [], threading.Event()
        self.start()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * LIMIT_S)
        body = {"input_ids": self.prompt, "stream": True, "sampling_params": {"max_new_tokens": 30000, "ignore_eos": True, "temperature": 0}}
        connection.request("POST", "/generate", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        self.status = answer.status
        try:
            for line in answer:
                if line.strip():
                    self.lines = self.lines[-4:] + [line.decode("utf-8")[:400]]
                    self.started.set()
        except (ConnectionError, http.client.HTTPException) as error:
            self.lines.append(f"broken off: {error!r}")


if __name__ == "__main__":
    unittest.main()
