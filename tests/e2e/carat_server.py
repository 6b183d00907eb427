"""Starts the real binary for a test and talks to it with the standard library only."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

BINARY = os.environ.get("CARAT_BINARY", "")
MINIATURE = "carat/gemma-4-e2b-miniature"
START_TIMEOUT_S = 120


class Answer:
    """A finished response."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode("utf-8")

    @property
    def json(self):
        return json.loads(self.body)

    def events(self):
        """The JSON of each data line; the last must be [DONE]."""
        lines = [line for line in self.text.split("\n\n") if line]
        assert all(line.startswith("data: ") for line in lines), lines[:3]
        assert lines[-1] == "data: [DONE]", lines[-1]
        return [json.loads(line[len("data: "):]) for line in lines[:-1]]

    def typed_events(self):
        """The same of streams whose events name their types, twice, and have no [DONE]."""
        out = []
        for block in self.text.split("\n\n")[:-1]:
            kind, data = block.split("\n")
            out.append(json.loads(data.removeprefix("data: ")))
            assert kind == "event: " + out[-1]["type"], block
        return out

    @property
    def error_message(self):
        """What an error says, in any API's body."""
        message = self.json.get("message") or self.json["error"]
        return message if isinstance(message, str) else message["message"]


class Server:
    """One `carat serve` on a free port, of the built-in miniature unless `model` says otherwise (None: the default). Use as a context manager."""

    def __init__(self, *flags, script=None, ready=True, env=None, port=0, model=MINIATURE):
        self.folder = tempfile.mkdtemp(prefix="carat_e2e_")
        self.args = [BINARY, "serve", "--port", str(port), *flags]
        if model and "--model-path" not in flags:
            self.args += ["--model-path", model]
        if script is not None:
            path = Path(self.folder) / "script.jsonl"
            path.write_text("\n".join(json.dumps(rule) for rule in script) + "\n", encoding="utf-8")
            self.args += ["--load-format", "scripted", "--script", str(path)]
        self.log, self.port = [], None
        self.process = subprocess.Popen(self.args, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})})
        self._have_port, self._is_ready = threading.Event(), threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if ready and not (self._is_ready.wait(START_TIMEOUT_S) and self.port):
            self.stop(signal.SIGKILL)
            raise RuntimeError("the server did not start:\n" + "".join(self.log))

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"Listening on http://\S*:(\d+);", line)
            if found:
                self.port = int(found.group(1))
                self._have_port.set()
            if "fired up and ready to roll" in line:
                self._is_ready.set()
        self._have_port.set()
        self._is_ready.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, number=signal.SIGTERM, timeout=60):
        """Ends the process and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self._reader.join(10)
        self.process.stderr.close()
        self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return status

    def connect(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=60):
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body, **more):
        return self.request("POST", path, body, **more)

    def chat(self, content="Hello", **more):
        return self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": content}], **more})

    def open_stream(self, path, body):
        """A raw socket on which the request was sent and nothing was read."""
        data = json.dumps(body).encode()
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        raw.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    % (path.encode(), len(data)) + data)
        return raw

    def load(self):
        return self.get("/v1/loads").json["loads"][0]

    def wait_idle(self, timeout=30):
        return eventually(lambda: self.load()["num_total_reqs"] == 0, timeout)


def eventually(condition, seconds=10):
    """Calls `condition` until it is true; its last value."""
    end = time.monotonic() + seconds
    value = condition()
    while not value and time.monotonic() < end:
        time.sleep(0.02)
        value = condition()
    return value


def text_of(events):
    """The content of a chat stream, per choice."""
    out = {}
    for event in events:
        for choice in event.get("choices", []):
            out[choice["index"]] = out.get(choice["index"], "") + (choice["delta"].get("content") or "")
    return out
