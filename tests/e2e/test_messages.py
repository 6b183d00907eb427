"""Anthropic's Messages API: answers, events and errors, with scripted replies."""

import json
import unittest

from carat_server import Server
from test_responses import PARSERS, WEATHER

SCRIPT = [
    {"match": "21 degrees", "text": "It is warm."},
    {"match": "weather", "text": WEATHER},
    {"match": "say-forever", "text": "abc", "finish": "length"},
    {"match": "say-stop", "text": "one END two"},
    {"match": "", "text": "Hello, world!"},
]
TOOLS = [{"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]


def assembled(events):
    """The message that a client makes of a stream."""
    message, arguments = None, ""
    for event in events:
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
                arguments = ""
            case "content_block_delta":
                delta = event["delta"]
                arguments += delta.get("partial_json", "")
                for key in ("text", "thinking"):
                    if key in delta:
                        message["content"][-1][key] += delta[key]
            case "content_block_stop" if arguments:
                message["content"][-1]["input"] = json.loads(arguments)
            case "message_delta":
                message |= event["delta"]
                message["usage"] = event["usage"]
    return message


def without_ids(message):
    return {**message, "id": "", "content": [{**block, **({"id": ""} if "id" in block else {})}
                                             for block in message["content"]]}


class Messages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--api-key", "secret", *PARSERS, script=SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def post(self, path, body, **headers):
        headers = {"x-api-key": "secret", "Content-Type": "application/json", **headers}
        return self.server.request("POST", path, json.dumps(body), headers)

    def ask(self, content="Hi", status=200, **more):
        messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
        answer = self.post("/v1/messages", {"model": "any", "max_tokens": 2000, "messages": messages, **more})
        self.assertEqual(answer.status, status, answer.text)
        return answer

    def test_answer(self):
        message = self.ask(system="Be brief.").json
        self.assertRegex(message.pop("id"), "^msg_[0-9a-f]{32}$")
        input_tokens = message["usage"].pop("input_tokens")
        self.assertGreater(input_tokens, 0)
        self.assertEqual(message, {
            "type": "message", "role": "assistant", "model": "any", "content": [{"type": "text", "text": "Hello, world!"}],
            "stop_reason": "end_turn", "stop_sequence": None,
            "usage": {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
                      "output_tokens": len("Hello, world!") + 1}})

    def test_thought_text_and_tool_use(self):
        message = self.ask("weather", tools=TOOLS, thinking={"type": "enabled", "budget_tokens": 1024}).json
        thought, text, call = message["content"]
        self.assertEqual(thought, {"type": "thinking", "thinking": "Need weather.", "signature": ""})
        self.assertEqual(text, {"type": "text", "text": "Let me see."})
        self.assertEqual((call["type"], call["name"], call["input"]), ("tool_use", "get_weather", {"city": "Oslo"}))
        self.assertRegex(call["id"], "^toolu_[0-9a-f]{24}$")
        self.assertEqual(message["stop_reason"], "tool_use")
        again = self.ask([{"role": "user", "content": "weather"}, {"role": "assistant", "content": message["content"]},
                          {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call["id"],
                                                        "content": "21 degrees"}]}], tools=TOOLS).json
        self.assertEqual(again["content"], [{"type": "text", "text": "It is warm."}])

    def test_stream_adds_up_to_the_whole_answer(self):
        for content, more in (("weather", {"tools": TOOLS}), ("weather", {"tools": TOOLS, "max_tokens": 30}),
                              ("weather", {}), ("say-stop", {"stop_sequences": ["END"]})):
            whole = self.ask(content, **more).json
            answer = self.ask(content, stream=True, **more)
            self.assertTrue(answer.headers["Content-Type"].startswith("text/event-stream"))
            events = answer.typed_events()
            kinds = [e["type"] for e in events]
            self.assertEqual((kinds[0], kinds[1], kinds[-2:]),
                             ("message_start", "ping", ["message_delta", "message_stop"]))
            self.assertEqual(without_ids(assembled(events)), without_ids(whole))

    def test_stop_reasons(self):
        message = self.ask("say-stop", stop_sequences=["END"]).json
        self.assertEqual((message["stop_reason"], message["stop_sequence"]), ("stop_sequence", "END"))
        self.assertEqual(message["content"][0]["text"], "one ")
        message = self.ask("say-forever", max_tokens=5).json
        self.assertEqual((message["stop_reason"], message["usage"]["output_tokens"]), ("max_tokens", 5))

    def test_count_tokens(self):
        count = lambda **more: self.post("/v1/messages/count_tokens", {
            "model": "any", "messages": [{"role": "user", "content": "Hi"}], **more})
        self.assertEqual(count().json, {"input_tokens": self.ask().json["usage"]["input_tokens"]})
        self.assertEqual(count(tools=TOOLS, system="Sys").json["input_tokens"],
                         self.ask(tools=TOOLS, system="Sys").json["usage"]["input_tokens"])
        self.assertEqual(count(messages=[]).json["error"]["message"], "Messages cannot be empty.")

    def test_answer_goes_on_from_the_assistants_last_word(self):
        usage = lambda *content: self.ask([{"role": "user", "content": "Hi"}, *content]).json["usage"]["input_tokens"]
        self.assertEqual(usage({"role": "assistant", "content": "Hel"}), usage() + len("Hel"))

    def test_keys(self):
        body = {"model": "any", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
        self.assertEqual(self.server.post("/v1/messages", body).status, 401)
        self.assertEqual(self.server.post("/v1/messages", body, headers={"x-api-key": "wrong"}).status, 401)
        self.assertEqual(self.server.post("/v1/messages", body, headers={"Authorization": "Bearer secret"}).status, 200)

    def refused(self, text, content="Hi", kind="invalid_request_error", status=400, **more):
        body = self.ask(content, status=status, **more).json
        self.assertEqual((body["type"], body["error"]["type"]), ("error", kind))
        self.assertIn(text, body["error"]["message"])

    def test_errors(self):
        self.refused("Messages cannot be empty.", [])
        self.refused("max_tokens", max_tokens=0)
        self.refused("maximum context length", max_tokens=10_000_000)
        self.refused("temperature", temperature=-1)
        self.refused("temperature", temperature=-1, stream=True)
        self.refused("not found in tools list", tools=TOOLS, tool_choice={"type": "tool", "name": "g"})
        self.refused("image", [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}]}])
        self.refused("'document' blocks are not supported", [{"role": "user", "content": [{"type": "document"}]}])
        answer = self.server.request("POST", "/v1/messages", "{}", {"x-api-key": "secret"})
        self.assertEqual((answer.status, answer.json["type"]), (400, "error"))


if __name__ == "__main__":
    unittest.main()
