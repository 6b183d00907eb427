"""carat bench and carat chat, against the real server."""

import json
import os
import pty
import select
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from carat_server import MINIATURE, BINARY, Server

SLOW = {"match": "slow", "text": "abcdefghij" * 100, "ms_per_step": 20}
LONG = {"match": "", "text": "x " * 2000, "finish": "length"}
QUICK = {"match": "", "text": "quick answer"}
NOBODY = "http://127.0.0.1:9"


def run(*args, stdin=None, timeout=120):
    return subprocess.run([BINARY, *args], input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=timeout)


def write_byte_tokenizer(folder):
    """A tokenizer.json of Gemma's kind whose only pieces are the 256 bytes."""
    vocab = {"<unk>": 0, "\u2581": 1, **{f"<0x{i:02X}>": i + 2 for i in range(256)}}
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    back = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    Path(folder, "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": space,
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": None, "decoder": {"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": vocab,
                  "merges": []}}))


class Bench(unittest.TestCase):
    def test_report_and_json_line(self):
        with Server(script=[LONG]) as server, tempfile.TemporaryDirectory() as folder:
            write_byte_tokenizer(folder)
            sharegpt = Path(folder, "sharegpt.json")
            sharegpt.write_text(json.dumps([{"conversations": [{"value": f"question {i}"}, {"value": "answer"}]} for i in range(40)]))
            line = Path(folder, "out.jsonl")
            for backend in ("sglang", "sglang-oai", "sglang-oai-chat"):
                result = run("bench", "--port", str(server.port), "--backend", backend, "--num-prompts", "10", "--seed", "1",
                             "--dataset-path", str(sharegpt), "--max-concurrency", "4", "--tokenizer", folder, "--output-file",
                             str(line), "--flush-cache")
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn(f"Backend:                                 {backend:<10}\n", result.stdout)
                for row in ("Successful requests:                     10        ", "Total input tokens:                      6101      ",
                            "Total generated tokens:                  4220      "):
                    self.assertIn(row + "\n", result.stdout)
                data = json.loads(line.read_text().splitlines()[-1])
                self.assertEqual((data["backend"], data["completed"], data["total_output_tokens"]), (backend, 10, 4220))
                self.assertIn("internal_states", data["server_info"])

    def test_errors(self):
        self.assertEqual(run("bench", "--bogus").returncode, 2)
        self.assertEqual(run("bench", "--help").returncode, 0)
        result = run("bench", "--base-url", NOBODY, "--ready-check-timeout-sec", "0")
        self.assertEqual(result.returncode, 1)
        self.assertIn("cannot connect to 127.0.0.1:9", result.stderr)


class Chat(unittest.TestCase):
    def test_one_prompt(self):
        with Server(script=[QUICK]) as server:
            url = f"http://127.0.0.1:{server.port}"
            result = run("chat", "--url", url, "--prompt", "hello")
            self.assertEqual((result.returncode, result.stdout), (0, "quick answer\n"))
            result = run("chat", "--url", url, "--prompt", "-", stdin="many\nlines\n")
            self.assertEqual((result.returncode, result.stdout), (0, "quick answer\n"))
            result = run("chat", "--url", url, "--prompt", "hello", "--max-tokens", "100000000")
            self.assertEqual(result.returncode, 1)
            self.assertIn("error: the server answers 400", result.stdout)

    def test_piped_conversation(self):
        with Server(script=[QUICK]) as server:
            result = run("chat", "--url", f"http://127.0.0.1:{server.port}", stdin="hi\n/system Be a cat.\nagain \\\nand more\n/show\n")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(result.stdout, "quick answer\nThe system message is set. The conversation begins anew.\n"
                             "quick answer\nsystem: Be a cat.\nuser: again \nand more\nassistant: quick answer\n")

    def test_terminal(self):
        with Server(script=[SLOW, QUICK]) as server:
            terminal = Terminal("chat", "--url", f"http://127.0.0.1:{server.port}")
            terminal.wait_for("/help lists")
            terminal.wait_for(">>> ")
            terminal.send("slow one\n")
            terminal.wait_for("abcdefghij")
            terminal.send("\x03")  # Ctrl-C stops the answer
            terminal.wait_for("[stopped]")
            terminal.wait_for(">>> ")
            terminal.send("\x03")  # and does not leave
            terminal.wait_for("/quit or Ctrl-D leaves")
            terminal.send("/reset\nhi\n")
            terminal.wait_for("quick answer")
            terminal.wait_for(">>> ")
            terminal.send("\x04")
            self.assertEqual(terminal.exit_status(), 0)
            self.assertEqual(server.chat("x").status, 200)

    def test_in_this_process(self):
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, "script.jsonl")
            script.write_text(json.dumps({"match": "", "text": "scripted answer"}))
            scripted = ["--", "--load-format", "scripted", "--script", str(script)]
            result = run("chat", "--engine-only", "--prompt", "hello", "--verbose", *scripted)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stdout, r"^scripted answer\n\[\d+ \+ 16 tokens, first after .*\]\n$")
            result = run("chat", "--engine-only", "--max-tokens", "8", *scripted, stdin="hi\n/retry\n")
            self.assertEqual(result.stdout.count("scripted\n[cut at the longest answer]\n"), 2)
            script.write_text(json.dumps(SLOW))
            terminal = Terminal("chat", "--engine-only", *scripted)
            terminal.wait_for(">>> ")
            terminal.send("slow one\n")
            terminal.wait_for("abcdefghij")
            terminal.send("\x03")
            terminal.wait_for("[stopped]")
            terminal.send("/quit\n")
            self.assertEqual(terminal.exit_status(), 0)
        result = run("chat", "--model-path", MINIATURE, "--prompt", "hello", "--max-tokens", "4", "--", "--device", "cpu")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("random weights", result.stderr)
        result = run("chat", "--model-path", "/no/such/folder", "--prompt", "hello")
        self.assertEqual((result.returncode, "/no/such/folder" in result.stderr), (1, True))
        self.assertEqual(run("chat", "--engine-only", "--url", NOBODY).returncode, 2)
        self.assertEqual(run("chat", "--engine-only", "--", "--bogus").returncode, 1)

    def test_nobody_there(self):
        result = run("chat", "--url", NOBODY)
        self.assertEqual(result.returncode, 1)
        self.assertIn("cannot connect to 127.0.0.1:9", result.stderr)
        self.assertEqual(run("chat", "--bogus").returncode, 2)
        self.assertEqual(run("chat", "--help").returncode, 0)


class Terminal:
    """The program in a terminal of its own."""

    def __init__(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execv(BINARY, [BINARY, *args])
        self.seen = ""

    def send(self, text):
        os.write(self.fd, text.encode())

    def wait_for(self, text, timeout=30):
        """Reads until the text has come, and forgets all up to its end."""
        end = time.monotonic() + timeout
        while text not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            if not ready:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"{text!r} did not come; seen: {self.seen!r}")
            self.seen += os.read(self.fd, 65536).decode(errors="replace")
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def exit_status(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


if __name__ == "__main__":
    unittest.main()
