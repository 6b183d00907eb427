"""Start, load, cancel, slow readers, full queues, shutdown."""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

from carat_server import Server, BINARY, eventually, text_of

SLOW = {"match": "slow", "text": "abcdefghij" * 100, "ms_per_step": 20}
FLOOD = {"match": "flood", "text": "x" * 4000, "finish": "length", "tokens_per_step": 200}
QUICK = {"match": "", "text": "quick answer"}


def run(*args, timeout=60):
    return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=timeout)


class Start(unittest.TestCase):
    def test_log_lines(self):
        with Server(script=[QUICK]) as server:
            log = "".join(server.log)
            self.assertRegex(log, r"max_total_num_tokens=\d+, chunked_prefill_size=-?\d+, max_prefill_tokens=\d+, "
                                  r"max_running_requests=\d+, context_len=\d+, available_gpu_mem=[\d.]+ GB")
            self.assertIn("The server is fired up and ready to roll!", log)
            self.assertEqual(server.stop(), 0)

    def test_port_in_use(self):
        with Server(script=[QUICK]) as server:
            second = run("serve", "--port", str(server.port), timeout=60)
            self.assertEqual(second.returncode, 1)
            self.assertIn(str(server.port), second.stderr)
            self.assertIn("in use", second.stderr)
            self.assertEqual(server.chat("x").status, 200)

    def test_refused_starts(self):
        for args, text in ((["--tp", "2"], "--tp-size 2"), (["--model-path", "/no/such/folder"], "/no/such/folder"),
                           (["--load-format", "scripted", "--script", "/no/such/file"], "/no/such/file"),
                           (["--speculative-algorithm", "NEXTN", "--speculative-draft-model-path", "x"], "NEXTN")):
            result = run("serve", "--port", "0", *args)
            self.assertEqual(result.returncode, 1, result.stderr)
            self.assertIn(text, result.stderr)
        self.assertEqual(run("serve", "--bogus").returncode, 2)
        self.assertEqual(run("serve", "--help").returncode, 0)
        self.assertEqual(run().returncode, 2)
        self.assertEqual(run("bogus").returncode, 2)

    def test_version_and_licences(self):
        self.assertRegex(run("version").stdout, r"^carat \d+\.\d+\.\d+\ncompiler .*\nGPU code .*\nCPU kernels .*\n$")
        licences = run("licenses").stdout
        for name in ("Boost Software License", "libstdc++", "simdjson", "spdlog", "fmt", "utf8proc", "yaml-cpp"):
            self.assertIn(name, licences)

    def test_threads_have_names(self):
        with Server("--cpu-threads", "2", "--io-threads", "2", "--device", "cpu") as server:
            names = {Path(f"/proc/{server.process.pid}/task/{task}/comm").read_text().strip()
                     for task in os.listdir(f"/proc/{server.process.pid}/task")}
            self.assertLessEqual({"carat", "io-0", "io-1", "prep-0", "engine", "runner", "worker-1", "signals"}, names)

    def test_bad_script(self):
        for line, text in (("{", ":2:"), ('{"text": 1}', ":2: text"), ('{"text": "a", "bogus": 1}', "unknown key 'bogus'"),
                           ('{"text": "a", "finish": "x"}', "finish"), ('{"text": "a", "tokens_per_step": 0}', "tokens_per_step")):
            path = f"/tmp/carat_bad_script_{os.getpid()}.jsonl"
            with open(path, "w") as out:
                out.write('{"text": "fine"}\n' + line + "\n")
            result = run("serve", "--port", "0", "--load-format", "scripted", "--script", path)
            os.unlink(path)
            self.assertEqual(result.returncode, 1)
            self.assertIn(text, result.stderr)


class Load(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--max-running-requests", "2", "--max-queued-requests", "2", script=[SLOW, FLOOD, QUICK])

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.assertTrue(self.server.wait_idle())

    def wait_running(self, count, waiting=0):
        """Until so many requests are open, and at most so many of them wait."""
        def running():
            load = self.server.load()
            return load["num_total_reqs"] >= count and load["num_waiting_reqs"] <= waiting
        self.assertTrue(eventually(running, 20))

    def slow_stream(self, **more):
        raw = self.server.open_stream("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "slow"}], "stream": True, **more})
        self.assertTrue(raw.recv(100).startswith(b"HTTP/1.1 200"))
        return raw

    def test_disconnect_frees(self):
        raw = self.slow_stream()
        self.wait_running(1)
        raw.close()
        self.assertTrue(self.server.wait_idle(5))

    def test_disconnect_of_a_whole_answer_frees(self):
        raw = self.server.open_stream("/generate", {"text": "slow", "sampling_params": {"max_new_tokens": 900}})
        self.wait_running(1)
        raw.close()
        self.assertTrue(self.server.wait_idle(5))

    def test_abort_request(self):
        answers = {}
        def ask():
            answers["slow"] = self.server.chat("slow", rid="to-abort-1")
        thread = threading.Thread(target=ask)
        thread.start()
        self.wait_running(1)
        time.sleep(0.2)
        self.assertEqual(self.server.post("/abort_request", {"rid": "to-abort"}).status, 200)
        thread.join(20)
        answer = answers["slow"]
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(answer.json["choices"][0]["finish_reason"], "abort")
        self.assertTrue(answer.json["choices"][0]["message"]["content"].startswith("abc"))

    def test_queue_full(self):
        streams = [self.slow_stream() for _ in range(2)]
        self.wait_running(2)
        waiting = [self.server.open_stream("/v1/chat/completions", {
            "messages": [{"role": "user", "content": "slow"}], "stream": True}) for _ in range(2)]
        self.wait_running(4, waiting=2)
        answer = self.server.chat("x")
        self.assertEqual(answer.status, 503, answer.text)
        self.assertEqual((answer.json["message"], answer.json["type"], answer.json["code"]),
                         ("The request queue is full.", "503", 503))
        self.assertEqual(self.server.chat("x", stream=True).status, 503)
        native = self.server.post("/generate", {"text": "x"})
        self.assertEqual((native.status, native.json), (503, {"error": {"message": "The request queue is full."}}))
        self.assertEqual(self.server.get("/health").status, 200)
        for raw in streams + waiting:
            raw.close()
        self.assertTrue(self.server.wait_idle(10))
        self.assertEqual(self.server.chat("x").status, 200)

    def test_slow_reader_does_not_stop_others(self):
        raw = self.server.open_stream("/generate", {"text": "flood", "stream": True,
                                                    "sampling_params": {"max_new_tokens": 20000}})
        time.sleep(0.3)
        for _ in range(5):
            start = time.monotonic()
            self.assertEqual(self.server.chat("x").status, 200)
            self.assertLess(time.monotonic() - start, 5)
        raw.close()
        self.assertTrue(self.server.wait_idle(10))

    def test_pipelined_and_kept_alive(self):
        connection = self.server.connect()
        for _ in range(3):
            connection.request("POST", "/v1/completions", json.dumps({"prompt": "x", "max_tokens": 5}),
                               {"Content-Type": "application/json"})
            response = connection.getresponse()
            self.assertEqual((response.status, json.loads(response.read())["choices"][0]["text"]), (200, "quick"))
        connection.close()

    def test_flush_waits(self):
        raw = self.slow_stream(max_tokens=20)
        self.wait_running(1)
        self.assertEqual(self.server.post("/flush_cache", None).status, 400)
        self.assertEqual(self.server.post("/flush_cache?timeout=20", None).status, 200)
        raw.close()


class EngineOnly(unittest.TestCase):
    LOAD = ["--dataset-name", "random-ids", "--num-prompts", "6", "--random-input-len", "20", "--random-output-len", "8",
            "--tokenize-prompt", "--disable-tqdm"]

    def bench(self, *args):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "out.jsonl"
            result = run("bench", "--engine-only", *self.LOAD, "--output-file", str(path), *args)
            return result, json.loads(path.read_text()) if path.exists() else None

    def test_miniature(self):
        result, line = self.bench("--max-concurrency", "2", "--flush-cache", "--", "--device", "cpu")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"Backend: +engine")
        self.assertEqual(line["completed"], 6)

    def test_script(self):
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "script.jsonl"
            script.write_text(json.dumps({"match": "", "text": "abc", "finish": "length"}))
            result, line = self.bench("--", "--load-format", "scripted", "--script", str(script))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(line["completed"], 6)

    def test_wrong_options(self):
        result, _ = self.bench("--", "--bogus")
        self.assertEqual((result.returncode, "--bogus" in result.stderr), (2, True))
        result, _ = self.bench("--", "--model-path", "/no/such/folder")
        self.assertEqual((result.returncode, "/no/such/folder" in result.stderr), (1, True))
        result, _ = self.bench("--extra-request-body", "{}")
        self.assertEqual(result.returncode, 2)


class ManyStreams(unittest.TestCase):
    def test_hundreds_of_streams(self):
        with Server(script=[{"match": "", "text": "abcdefghijklmnopqrstuvwxyz", "ms_per_step": 1}]) as server:
            results, lock = [], threading.Lock()
            def ask():
                text = text_of(server.chat("x", stream=True).events())[0]
                with lock:
                    results.append(text)
            threads = [threading.Thread(target=ask) for _ in range(200)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            self.assertEqual(results, ["abcdefghijklmnopqrstuvwxyz"] * 200)


class Shutdown(unittest.TestCase):
    def test_streams_end_and_new_requests_are_refused(self):
        server = Server(script=[{"match": "slow", "text": "a" * 100, "ms_per_step": 30}, QUICK])
        answers = {}
        thread = threading.Thread(target=lambda: answers.update(slow=server.chat("slow", stream=True)))
        thread.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        self.assertEqual(server.get("/health").status, 503)
        self.assertEqual(server.get("/ready").status, 503)
        self.assertEqual(server.chat("x").status, 200)
        time.sleep(0.8)
        refused = server.chat("x")
        self.assertEqual((refused.status, refused.json["type"]), (503, "503"))
        thread.join(30)
        self.assertEqual(text_of(answers["slow"].events()), {0: "a" * 100})
        self.assertEqual(server.process.wait(30), 0)
        self.assertEqual(server.stop(), 0)

    def test_second_signal_ends_at_once(self):
        server = Server(script=[{"match": "", "text": "a" * 1000, "ms_per_step": 100}], ready=True)
        raw = server.open_stream("/v1/completions", {"prompt": "x", "max_tokens": 900, "stream": True})
        raw.recv(100)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        self.assertIsNone(server.process.poll())
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(server.process.wait(5), 128 + signal.SIGINT)
        raw.close()
        server.stop()


class DeviceFailure(unittest.TestCase):
    def test_everyone_is_answered_and_the_process_ends(self):
        server = Server(script=[{"match": "fault", "text": "abc", "finish": "fault", "ms_per_step": 100}, SLOW])
        answers = {}
        threads = [threading.Thread(target=lambda: answers.update(whole=server.chat("slow"))),
                   threading.Thread(target=lambda: answers.update(stream=server.chat("slow", stream=True)))]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        self.assertEqual(server.get("/health").status, 200)
        fault = server.chat("fault")
        for thread in threads:
            thread.join(10)
        for answer in (fault, answers["whole"]):
            self.assertEqual(answer.status, 503)
            self.assertIn("The device has failed", answer.json["message"])
        self.assertEqual(answers["stream"].status, 200)
        errors = [event["error"] for event in answers["stream"].events() if "error" in event]
        self.assertEqual([error["code"] for error in errors], [503])
        self.assertEqual(server.process.wait(10), 1)
        server.stop()
        said = [line for line in server.log if "The device has failed" in line]
        self.assertEqual(len(said), 1, server.log)


if __name__ == "__main__":
    unittest.main()
