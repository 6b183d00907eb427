"""The error table of the API: statuses, shapes and texts; keys and origins; the small endpoints."""

import json
import socket
import unittest

from carat_server import Server

SCRIPT = [{"match": "", "text": "ok"}]
MESSAGES = [{"role": "user", "content": "hi"}]


class Errors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--context-length", "100", "--served-model-name", "org/the-model", script=SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def check_openai(self, answer, kind, text, status=400):
        self.assertEqual(answer.status, status, answer.text)
        body = answer.json
        self.assertEqual(set(body), {"object", "message", "type", "param", "code"})
        self.assertEqual((body["object"], body["param"], body["code"]), ("error", None, status))
        self.assertEqual(body["type"], kind)
        self.assertIn(text, body["message"])

    def chat(self, **body):
        return self.server.post("/v1/chat/completions", {"messages": MESSAGES, **body})

    def completions(self, **body):
        return self.server.post("/v1/completions", {"prompt": "x", **body})

    def test_schema(self):
        bad = "Bad Request"
        json_type = {"Content-Type": "application/json"}
        for path in ("/v1/chat/completions", "/v1/completions"):
            self.check_openai(self.server.post(path, b"{", headers=json_type), bad, "")
            self.check_openai(self.server.post(path, b"", headers=json_type), bad, "")
            self.check_openai(self.server.post(path, b"[1]", headers=json_type), bad, "object")
            self.check_openai(self.server.post(path, b"{}"), bad,
                              "Unsupported Media Type: Only 'application/json' is allowed")
        self.check_openai(self.chat(temperature="hot"), bad, "temperature")
        self.check_openai(self.chat(max_tokens="5"), bad, "max_tokens")
        self.check_openai(self.chat(stream="yes"), bad, "stream")
        self.check_openai(self.chat(stop=[1]), bad, "stop")
        self.check_openai(self.chat(logit_bias=[1]), bad, "logit_bias")
        self.check_openai(self.chat(stream_options={"include_usage": 1}), bad, "include_usage")
        self.check_openai(self.server.post("/v1/completions", {"model": "m"}), bad, "prompt")
        self.check_openai(self.completions(prompt={"a": 1}), bad, "prompt")
        self.check_openai(self.completions(prompt=[1, "x"]), bad, "prompt")

    def test_semantics(self):
        bad = "BadRequest"
        self.check_openai(self.server.post("/v1/chat/completions", {"messages": []}), bad, "Messages cannot be empty.")
        self.check_openai(self.completions(prompt=""), bad, "Prompt cannot be empty")
        self.check_openai(self.completions(prompt=[]), bad, "Prompt cannot be empty")
        self.check_openai(self.completions(max_tokens=0), bad, "max_tokens must be positive")
        self.check_openai(self.chat(temperature=-1), bad, "temperature must be a non-negative finite number, got -1")
        self.check_openai(self.chat(top_p=0), bad, "top_p must be in (0, 1], got 0")
        self.check_openai(self.chat(top_k=0), bad, "top_k must be -1 (disable) or at least 1, got 0")
        self.check_openai(self.chat(n=0), bad, "n must be between 1 and")
        self.check_openai(self.chat(stop=["x"] * 33), bad, "at most 32 stop strings are allowed, got 33")
        self.check_openai(self.chat(response_format={"type": "json_schema"}), bad,
                          "schema_ is required for json_schema response format request.")
        self.check_openai(self.chat(response_format={"type": "json_schema", "json_schema": {"schema": {"type": "no"}}}), bad,
                          "Invalid grammar request: schema: unknown type 'no'")
        self.check_openai(self.chat(regex="(("), bad, "Invalid grammar request: ")
        self.check_openai(self.chat(regex="a", ebnf="root ::= \"a\""), bad,
                          "Only one of json_schema, regex, ebnf, or structural_tag can be set.")
        self.check_openai(self.chat(thinking_budget=-1), bad, "thinking_budget must be an integer between 0 and")
        self.check_openai(self.chat(return_hidden_states=True), bad, "return_hidden_states")
        self.check_openai(self.chat(messages=[{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}}]}]), bad, "127.0.0.1")
        self.check_openai(self.chat(tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="required", regex="a"),
                          bad, "tool_choice 'required' or a named tool cannot be combined with response_format, regex, or ebnf: the "
                          "tool-call constraint and the output constraint cannot both be honored.")

    def test_lengths(self):
        bad = "BadRequest"
        self.check_openai(self.completions(prompt="x" * 100), bad,
                          "The input (100 tokens) is longer than the model's context length (100 tokens).")
        self.check_openai(
            self.completions(prompt="x" * 90, max_tokens=11), bad,
            "Requested token count exceeds the model's maximum context length of 100 tokens. You requested a total of "
            "101 tokens: 90 tokens from the input messages and 11 tokens for the completion. Please reduce the number "
            "of tokens in the input messages or the completion to fit within the limit.")
        self.assertEqual(self.completions(prompt="x" * 90, max_tokens=10).status, 200)
        self.check_openai(self.chat(max_tokens=101), bad, "max_completion_tokens is too large: 101.This model supports "
                                                          "at most 100 completion tokens.")

    def test_streams_fail_before_they_begin(self):
        self.check_openai(self.chat(stream=True, top_p=2), "BadRequest", "top_p")
        self.check_openai(self.completions(stream=True, prompt="x" * 200), "BadRequest", "longer than")

    def test_native(self):
        def error(**body):
            answer = self.server.post("/generate", body)
            self.assertEqual(answer.status, 400, answer.text)
            return answer.json["error"]
        self.assertIn("longer than", error(text="x" * 200)["message"])
        self.assertIn("top_p must be in", error(text="x", sampling_params={"top_p": 7})["message"])
        self.assertTrue(error(text="x", sampling_params={"bogus": 1}).startswith("unknown field `bogus`, expected one of"))
        self.assertIn("text", error(text=5))
        self.assertIn("should be provided", error(sampling_params={}))
        self.assertIn("should be provided", error(text="x", input_ids=[1]))
        self.assertIn("Duplicate", error(text=["x", "y"], rid=["a", "a"])["message"])
        self.assertIn("vocabulary", error(input_ids=[999999])["message"])
        self.assertIn("flat list", error(text="x", return_logprob=True, token_ids_logprob="a"))
        self.assertIn("out-of-vocabulary", error(text="x", return_logprob=True, token_ids_logprob=[999999])["message"])
        answer = self.server.post("/generate", {"text": "x" * 200, "stream": True})
        self.assertEqual(answer.status, 200)
        inner = answer.events()[0]["error"]
        self.assertEqual((inner["type"], inner["code"], inner["retryable"]), ("invalid_request_error", 400, False))

    def test_paths_and_methods(self):
        self.assertEqual(self.server.get("/nothing/here").status, 404)
        self.assertEqual(self.server.get("/v1/chat/completions").status, 405)
        self.assertEqual(self.server.post("/v1/score", {}).status, 501)
        self.assertIn("error", self.server.post("/v1/responses", {}).json)
        self.check_openai(self.server.post("/v1/embeddings", {"input": "x"}), "BadRequest",
                          "This model does not appear to be an embedding model by default.")

    def test_models(self):
        models = self.server.get("/v1/models").json
        card = models["data"][0]
        self.assertEqual((models["object"], card["id"], card["max_model_len"]), ("list", "org/the-model", 100))
        self.assertEqual(self.server.get("/v1/models/org/the-model").json, card)
        answer = self.server.get("/v1/models/x")
        self.assertEqual(answer.status, 404)
        self.assertEqual(answer.json["error"], {"message": "The model 'x' does not exist", "type":
                         "invalid_request_error", "param": "model", "code": "model_not_found"})

    def test_small_endpoints(self):
        self.assertEqual([self.server.get(p).status for p in ("/health", "/health_generate", "/ready", "/ping")],
                         [200] * 4)
        self.assertEqual(self.server.get("/health").body, b"")
        self.assertEqual(self.server.get("/").json, "SGLang is running")
        for path in ("/model_info", "/get_model_info"):
            info = self.server.get(path).json
            self.assertTrue(info["is_generation"])
            self.assertEqual(info["served_model_name"], "org/the-model")
        for path in ("/server_info", "/get_server_info"):
            info = self.server.get(path).json
            self.assertEqual((info["tp_size"], info["context_length"]), (1, 100))
            self.assertIn("last_gen_throughput", info["internal_states"][0])
            self.assertIn("carat serve", info["launch_command"])
        self.assertIn("Cache flushed.", self.server.post("/flush_cache", None).text)
        self.assertEqual(self.server.post("/flush_cache?timeout=1.5", None).status, 200)
        self.assertEqual(self.server.post("/flush_cache?timeout=x", None).status, 400)
        self.assertEqual(self.server.post("/start_profile", {}).text, "Start profiling.\n")
        self.assertEqual(self.server.post("/stop_profile", {}).status, 200)
        self.assertEqual(self.server.post("/abort_request", {"rid": "nobody"}).status, 200)
        self.assertEqual(self.server.get("/metrics").status, 404)

    def test_tokenize(self):
        tokens = self.server.post("/tokenize", {"prompt": "hé <bos>"}).json
        self.assertEqual(tokens["count"], 5)
        self.assertEqual(tokens["tokens"][-1], 2)
        self.assertEqual(self.server.post("/v1/detokenize", {"tokens": tokens["tokens"]}).json["text"], "hé ")
        self.assertEqual(self.server.post("/detokenize", {"tokens": tokens["tokens"], "skip_special_tokens": False})
                         .json["text"], "hé <bos>")
        many = self.server.post("/v1/tokenize", {"prompt": ["a", "bc"]}).json
        self.assertEqual(many["count"], [1, 2])
        chat = self.server.post("/tokenize", {"messages": MESSAGES}).json
        text = self.server.post("/detokenize", {"tokens": chat["tokens"], "skip_special_tokens": False}).json["text"]
        self.assertEqual(text, "<bos><|turn>user\nhi<turn|>\n<|turn>model\n")
        def prompt(**more):
            ids = self.server.post("/tokenize", {"messages": MESSAGES, **more}).json["tokens"]
            return self.server.post("/detokenize", {"tokens": ids, "skip_special_tokens": False}).json["text"]
        self.assertTrue(prompt(add_generation_prompt=True).endswith("<|turn>model\n"))
        self.assertEqual(prompt(add_generation_prompt=True), prompt())
        self.assertTrue(prompt(add_generation_prompt=False).endswith("<turn|>\n"))
        self.assertEqual(self.server.post("/tokenize", {"messages": MESSAGES, "add_generation_prompt": 1}).status, 400)
        self.assertEqual(self.server.post("/tokenize", {"messages": MESSAGES, "prompt": "x"}).status, 400)
        self.assertEqual(self.server.post("/tokenize", {}).status, 400)
        self.assertEqual(self.server.post("/detokenize", {"tokens": "x"}).status, 400)

    def test_malformed_http(self):
        for bytes_out in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nbad\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", self.server.port), timeout=20) as raw:
                raw.sendall(bytes_out)
                self.assertTrue(raw.recv(4096).startswith(b"HTTP/1.1 400 "), bytes_out)
        self.assertEqual(self.server.get("/health").status, 200)

    def test_deep_json(self):
        body = b"[" * 100000
        answer = self.server.post("/v1/chat/completions", body, headers={"Content-Type": "application/json"})
        self.check_openai(answer, "Bad Request", "")


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--api-key", "secret", "--admin-api-key", "root", "--enable-metrics", "--cors-allow-origins",
                            "http://app.example", script=SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_keys(self):
        bearer = lambda key: {"Authorization": key}
        self.assertEqual(self.server.get("/v1/models").status, 401)
        self.assertEqual(self.server.get("/v1/models").json, {"error": "Unauthorized"})
        for wrong in ("secret", "Bearer secre", "Bearer secrets", "Bearer ", "Basic secret", "Bearer root"):
            self.assertEqual(self.server.get("/v1/models", headers=bearer(wrong)).status, 401, wrong)
        for right in ("Bearer secret", "bearer secret", "BEARER  secret"):
            self.assertEqual(self.server.get("/v1/models", headers=bearer(right)).status, 200, right)
        for path in ("/health", "/ready", "/health_generate", "/metrics"):
            self.assertEqual(self.server.get(path).status, 200)
        self.assertNotEqual(self.server.request("OPTIONS", "/v1/models").status, 401)
        for path in ("/abort_request", "/start_profile", "/stop_profile"):
            self.assertEqual(self.server.post(path, {}, headers=bearer("Bearer secret")).status, 401, path)
        self.assertEqual(self.server.post("/flush_cache", None, headers=bearer("Bearer secret")).status, 401)
        self.assertEqual(self.server.post("/flush_cache", None, headers=bearer("Bearer root")).status, 200)

    def test_secrets_are_not_shown(self):
        text = self.server.get("/server_info", headers={"Authorization": "Bearer secret"}).text
        self.assertNotIn("secret", text)
        self.assertNotIn("root\"", text)

    def test_origins(self):
        key = {"Authorization": "Bearer secret"}
        listed = self.server.get("/v1/models", headers={**key, "Origin": "http://app.example"})
        self.assertEqual(listed.headers["Access-Control-Allow-Origin"], "http://app.example")
        other = self.server.get("/v1/models", headers={**key, "Origin": "http://evil.example"})
        self.assertEqual(other.status, 403)
        self.assertNotIn("Access-Control-Allow-Origin", other.headers)
        preflight = {"Origin": "http://app.example", "Access-Control-Request-Method": "POST",
                     "Access-Control-Request-Headers": "content-type"}
        answer = self.server.request("OPTIONS", "/v1/chat/completions", headers=preflight)
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["Access-Control-Allow-Headers"], "content-type")
        answer = self.server.request("OPTIONS", "/v1/chat/completions", headers={**preflight, "Origin": "http://b"})
        self.assertEqual(answer.status, 400)


if __name__ == "__main__":
    unittest.main()
