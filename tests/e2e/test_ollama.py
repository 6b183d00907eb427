"""Ollama's API: answers, lines and small endpoints, with scripted replies."""

import json
import unittest

from carat_server import Server
from test_responses import PARSERS, WEATHER

SCRIPT = [{"match": "weather", "text": WEATHER}, {"match": "say-forever", "text": "abc", "finish": "length"},
          {"match": "", "text": "Hello, world!"}]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}}}}]


class Ollama(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--served-model-name", "m", *PARSERS, script=SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def chat(self, content, **more):
        return self.server.post("/api/chat", {"model": "m", "messages": [{"role": "user", "content": content}], **more})

    def test_chat(self):
        answer = self.chat("Hi", stream=False).json
        self.assertEqual((answer["model"], answer["message"], answer["done"], answer["done_reason"]),
                         ("m", {"role": "assistant", "content": "Hello, world!"}, True, "stop"))
        self.assertEqual(answer["eval_count"], len("Hello, world!") + 1)
        self.assertGreater(answer["total_duration"], 0)
        call = self.chat("weather", stream=False, think=True, tools=TOOLS).json["message"]
        self.assertEqual((call["thinking"], call["content"]), ("Need weather.", "Let me see."))
        self.assertEqual(call["tool_calls"], [{"function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}])

    def test_stream_is_the_default(self):
        answer = self.chat("weather", tools=TOOLS, think="low")
        self.assertEqual(answer.headers["Content-Type"], "application/x-ndjson")
        lines = [json.loads(line) for line in answer.text.splitlines()]
        self.assertEqual([line["done"] for line in lines], [False] * (len(lines) - 1) + [True])
        self.assertEqual("".join(line["message"]["content"] for line in lines), "Let me see.")
        self.assertEqual("".join(line["message"].get("thinking", "") for line in lines), "Need weather.")
        self.assertEqual([c["function"]["name"] for line in lines for c in line["message"].get("tool_calls", [])],
                         ["get_weather"])

    def test_generate(self):
        answer = self.server.post("/api/generate", {"model": "m", "prompt": "say-forever", "stream": False,
                                                    "options": {"num_predict": 4}}).json
        self.assertEqual((answer["response"], answer["done_reason"], answer["eval_count"]), ("abca", "length", 4))
        lines = self.server.post("/api/generate", {"model": "m", "prompt": "Hi"}).text.splitlines()
        self.assertEqual("".join(json.loads(line)["response"] for line in lines), "Hello, world!")

    def test_requests_that_ask_for_nothing(self):
        for path in ("/api/chat", "/api/generate"):
            for stream in (False, True):
                answer = self.server.post(path, {"model": "m", "stream": stream})
                self.assertEqual((answer.json["done"], answer.json["done_reason"]), (True, "load"))

    def test_content_type_does_not_matter(self):
        body = json.dumps({"model": "m", "prompt": "Hi", "stream": False})
        answer = self.server.request("POST", "/api/generate", body, {"Content-Type": "application/x-www-form-urlencoded"})
        self.assertEqual(answer.json["response"], "Hello, world!")

    def test_errors(self):
        for path, body, text in (("/api/chat", {}, "model: Field required"),
                                 ("/api/generate", {"model": "m", "prompt": "x", "raw": True}, "raw is not supported"),
                                 ("/api/generate", {"model": "m", "prompt": "x", "options": {"temperature": -1}}, "temperature"),
                                 ("/api/generate", {"model": "m", "prompt": "x", "images": ["AA"]}, "image")):
            answer = self.server.post(path, body)
            self.assertEqual(answer.status, 400)
            self.assertIn(text, answer.json["error"])

    def test_what_is_served(self):
        self.assertEqual([m["name"] for m in self.server.get("/api/tags").json["models"]], ["m"])
        shown = self.server.post("/api/show", {"model": "m"}).json
        self.assertEqual(shown["capabilities"], ["completion", "vision", "tools", "thinking"])
        self.assertGreater(shown["model_info"][shown["model_info"]["general.architecture"] + ".context_length"], 0)
        self.assertIn("version", self.server.get("/api/version").json)


if __name__ == "__main__":
    unittest.main()
