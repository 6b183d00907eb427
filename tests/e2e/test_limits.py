"""Every limit of docs/api.md: one step below works, one above is refused with a message that names it."""

import json
import socket
import unittest

from carat_server import Server

SCRIPT = [{"match": "", "text": "ok"}]


class Limits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--max-body-mb", "1", "--context-length", "1000", script=SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def chat(self, messages=None, **body):
        return self.server.post("/v1/chat/completions",
                                {"messages": messages or [{"role": "user", "content": "hi"}], **body})

    def refused(self, answer, *texts, status=400):
        self.assertEqual(answer.status, status, answer.text)
        for text in texts:
            self.assertIn(text, answer.error_message)

    def works(self, answer):
        self.assertEqual(answer.status, 200, answer.text)

    def generate(self, **body):
        return self.server.post("/generate", {"text": "x", **body})

    def test_body(self):
        self.refused(self.server.post("/v1/completions", {"prompt": "x" * (1 << 20)}), "too large", status=413)
        self.works(self.server.post("/v1/completions", {"prompt": "x", "user": "y" * 1000000}))

    def test_headers(self):
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=20) as raw:
            raw.sendall(b"GET /health HTTP/1.1\r\nHost: h\r\nX-Long: " + b"y" * 70000 + b"\r\n\r\n")
            self.assertTrue(raw.recv(100).startswith(b"HTTP/1.1 431 "))

    def test_nesting(self):
        for depth, status in ((100, 200), (200, 400)):
            body = '{"prompt": "x", "user": ' + "[" * depth + "]" * depth + "}"
            answer = self.server.post("/v1/completions", body.encode(), headers={"Content-Type": "application/json"})
            self.assertEqual(answer.status, status, answer.text)

    def test_messages_and_tools(self):
        empty = {"role": "user", "content": ""}
        self.refused(self.chat([empty] * 16385), "16384", status=413)
        tool = {"type": "function", "function": {"name": "f"}}
        self.refused(self.chat(tools=[tool] * 2049), "2048", status=413)
        self.refused(self.chat([{"role": "user", "content": [{"type": "text", "text": ""}] * 16385}]), "16384", status=413)

    def test_batches(self):
        self.refused(self.server.post("/v1/completions", {"prompt": ["x"] * 4097}), "4096")
        self.refused(self.server.post("/generate", {"text": ["x"] * 4097}), "4096")
        self.assertEqual(len(self.server.post("/v1/completions", {"prompt": ["x"] * 300, "max_tokens": 1}).json["choices"]), 300)

    def test_samples(self):
        for n in (0, 257):
            self.refused(self.chat(n=n), "between 1 and 256", str(n))
            self.refused(self.generate(sampling_params={"n": n}), "between 1 and 256")
        self.assertEqual(len(self.chat(n=256, max_tokens=1).json["choices"]), 256)

    def test_stops(self):
        self.refused(self.chat(stop=["x"] * 33), "at most 32 stop strings are allowed, got 33")
        self.works(self.chat(stop=["x"] * 32))
        self.refused(self.chat(stop="x" * 4097), "4097 bytes", "4096")
        self.works(self.chat(stop="x" * 4096))
        self.refused(self.chat(stop_token_ids=[1] * 1025), "1024", "1025")
        self.works(self.chat(stop_token_ids=[1] * 1024))

    def test_logprobs(self):
        self.refused(self.chat(logprobs=True, top_logprobs=257), "256")
        self.works(self.chat(logprobs=True, top_logprobs=256))
        self.refused(self.generate(return_logprob=True, top_logprobs_num=257), "256")
        self.refused(self.generate(return_logprob=True, token_ids_logprob=[1] * 4097), "4096")
        self.refused(self.server.post("/v1/completions", {"prompt": "x", "logprobs": 257}), "256")

    def test_request_id(self):
        self.refused(self.chat(rid="x" * 257), "256")
        self.refused(self.chat(rid=""), "rid")
        self.assertEqual(self.chat(rid="x" * 256).json["id"], "x" * 256)
        self.refused(self.generate(rid="x" * 257), "256")

    def test_context(self):
        self.refused(self.generate(text="x" * 1000), "The input (1000 tokens) is longer than the model's context length (1000 tokens).")
        self.works(self.generate(text="x" * 990, sampling_params={"max_new_tokens": 10}))
        self.refused(self.generate(text="x" * 990, sampling_params={"max_new_tokens": 11}), "Requested token count exceeds")

    def test_truncation_instead(self):
        with Server("--allow-auto-truncate", "--context-length", "100", script=SCRIPT) as server:
            meta = server.post("/generate", {"text": "x" * 300, "sampling_params": {"max_new_tokens": 500}}).json["meta_info"]
            self.assertEqual(meta["prompt_tokens"], 99)
            self.assertEqual(server.chat("x" * 300, max_tokens=90).status, 200)


class SamplingRanges(unittest.TestCase):
    """The error texts of sampling parameters, native and OpenAI."""

    CASES = [("temperature", -0.5, "temperature must be a non-negative finite number, got -0.5."),
             ("top_p", 0, "top_p must be in (0, 1], got 0"), ("top_p", 1.5, "top_p must be in (0, 1], got 1.5."),
             ("top_k", 0, "top_k must be -1 (disable) or at least 1, got 0."),
             ("top_k", -2, "top_k must be -1 (disable) or at least 1, got -2."), ("min_p", 1.5, "min_p must be in [0, 1], got 1.5"),
             ("frequency_penalty", 2.5, "frequency_penalty must be in [-2, 2], got 2.5"),
             ("presence_penalty", -2.5, "presence_penalty must be in [-2, 2], got -2.5"),
             ("repetition_penalty", 2.5, "repetition_penalty must be in (0, 2], got 2.5"),
             ("repetition_penalty", 0, "repetition_penalty must be in (0, 2], got 0"), ("logit_bias", {"9999999": 1}, "9999999")]

    @classmethod
    def setUpClass(cls):
        cls.server = Server(script=SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_ranges(self):
        for name, value, text in self.CASES:
            with self.subTest(name=name, value=value):
                answer = self.server.chat("x", **{name: value})
                self.assertEqual(answer.status, 400, answer.text)
                self.assertIn(text, answer.json["message"])
                answer = self.server.post("/v1/completions", {"prompt": "x", name: value})
                self.assertIn(text, answer.json["message"])
                answer = self.server.post("/generate", {"text": "x", "sampling_params": {name: value}})
                self.assertEqual(answer.status, 400, answer.text)
                self.assertIn(text, answer.json["error"]["message"])

    def test_native_lengths(self):
        def error(**params):
            return self.server.post("/generate", {"text": "x", "sampling_params": params}).json["error"]["message"]
        self.assertIn("max_new_tokens must be at least 0, got -1.", error(max_new_tokens=-1))
        self.assertIn("min_new_tokens", error(min_new_tokens=5, max_new_tokens=4))
        answer = self.server.post("/generate", {"text": "x", "sampling_params": {"max_new_tokens": 0}}).json
        self.assertEqual((answer["text"], answer["meta_info"]["completion_tokens"]), ("", 0))

    def test_null_is_the_default(self):
        names = ("temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias",
                 "stop", "stop_token_ids", "ignore_eos", "skip_special_tokens", "no_stop_trim", "n")
        nothing = dict.fromkeys(names)
        self.assertEqual(self.server.chat("x", **nothing, seed=None, max_tokens=None, min_tokens=None).status, 200)
        native = {**nothing, "max_new_tokens": None, "min_new_tokens": None, "sampling_seed": None, "json_schema": None,
                  "regex": "", "ebnf": None, "structural_tag": None, "beam_width": None, "watermark": None, "custom_params": None}
        self.assertEqual(self.server.post("/generate", {"text": "x", "sampling_params": native}).status, 200)

    def test_seed_is_a_64_bit_integer(self):
        for seed, status in ((2**63 - 1, 200), (-2**63, 200), (2**63, 400), (1.5, 400), ("1", 400)):
            self.assertEqual(self.server.chat("x", seed=seed).status, status, seed)
            answer = self.server.post("/generate", {"text": "x", "sampling_params": {"sampling_seed": seed}})
            self.assertEqual(answer.status, status, seed)

    def test_broken_constraints_are_refused_everywhere(self):
        for name, value in (("regex", "a("), ("ebnf", "root = a"), ("json_schema", "{"), ("structural_tag", "{}"),
                            ("regex", "a" * 65537), ("json_schema", json.dumps({"enum": ["x" * 1048576]}))):
            with self.subTest(name=name, size=len(value)):
                self.assertEqual(self.server.chat("x", **{name: value}).status, 400)
                self.assertEqual(self.server.post("/v1/completions", {"prompt": "x", name: value}).status, 400)
                answer = self.server.post("/generate", {"text": "x", "sampling_params": {name: value}})
                self.assertEqual(answer.status, 400, answer.text)


class ChatErrors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(script=SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def message(self, **body):
        answer = self.server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], **body})
        self.assertEqual(answer.status, 400, answer.text)
        self.assertEqual((answer.json["object"], answer.json["code"]), ("error", 400))
        return answer.json["message"]

    def test_texts(self):
        tool = {"type": "function", "function": {"name": "f"}}
        self.assertIn("Tools cannot be empty if tool choice is set to required.", self.message(tool_choice="required"))
        named = {"type": "function", "function": {"name": "g"}}
        self.assertIn("Tools cannot be empty if tool choice is set to a specific tool.", self.message(tool_choice=named))
        self.assertIn("Tool 'g' not found in tools list.", self.message(tools=[tool], tool_choice=named))
        bad = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": 5}}}
        self.assertIn("Tool 0 function has invalid 'parameters' schema:", self.message(tools=[bad]))
        self.assertIn("'role' must be one of 'system', 'assistant', 'tool', 'function', 'developer', 'latest_reminder', 'root' (case-insensitive).",
                      self.message(messages=[{"role": "boss", "content": "x"}]))
        self.assertIn("schema_ is required for json_schema response format request.",
                      self.message(response_format={"type": "json_schema", "json_schema": {"name": "n"}}))
        self.assertIn("Request-supplied chat_template is not allowed.",
                      self.message(chat_template_kwargs={"chat_template": "x"}))
        self.message(reasoning_effort=True)
        self.message(reasoning_effort="enormous")
        self.assertIn("return_meta_info", self.message(return_meta_info=True, stream=True))

    def test_ignored_fields(self):
        more = {"user": "u", "session_id": "s", "bogus": {"x": 1}, "lora_path": None, "return_hidden_states": False,
                "model": "org/other:adapter", "watermark": None, "store": True}
        answer = self.server.chat("x", **more)
        self.assertEqual((answer.status, answer.json["model"]), (200, "org/other:adapter"))
        headers = {"x-smg-routing-key": "k", "x-data-parallel-rank": "0"}
        self.assertEqual(self.server.post("/v1/completions", {"prompt": "x", "best_of": 1, "suffix": None}, headers=headers).status, 200)


if __name__ == "__main__":
    unittest.main()
