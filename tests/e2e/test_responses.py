"""The Responses API: answers, events, errors and the store, with scripted replies."""

import json
import time
import unittest

from carat_server import Server, eventually

WEATHER = "<|channel>thought\nNeed weather.<channel|>Let me see.<|tool_call>call:get_weather{city:<|\"|>Oslo<|\"|>}<tool_call|>"
SCRIPT = [
    {"match": "21 degrees", "text": "It is warm."},
    {"match": "weather", "text": WEATHER},
    {"match": "say-json", "text": "{\"a\": 1}"},
    {"match": "say-slowly", "text": "slow " * 400, "ms_per_step": 20},
    {"match": "say-forever", "text": "abc", "finish": "length"},
    {"match": "", "text": "Hello, world!"},
]
PARSERS = ("--reasoning-parser", "gemma4", "--tool-call-parser", "gemma4")
TOOLS = [{"type": "function", "name": "get_weather",
          "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}]


def events_of(answer):
    out = answer.typed_events()
    assert [e["sequence_number"] for e in out] == list(range(len(out)))
    return out


def without_ids(response):
    text = json.dumps({**response, "id": "", "created_at": 0})
    for item in response["output"]:
        text = text.replace(item["id"], "ID").replace(item.get("call_id", "\0"), "CALL")
    return json.loads(text)


class Responses(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--enable-response-store", "--served-model-name", "m", *PARSERS, script=SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def respond(self, text="Hi", status=200, **more):
        answer = self.server.post("/v1/responses", {"input": text, **more})
        self.assertEqual(answer.status, status, answer.text)
        return answer

    def test_answer(self):
        response = self.respond(instructions="Be brief.", metadata={"k": "v"}, temperature=0.5).json
        self.assertRegex(response["id"], "^resp_[0-9a-f]{32}$")
        self.assertEqual((response["object"], response["status"], response["model"]), ("response", "completed", "m"))
        self.assertEqual((response["instructions"], response["metadata"]), ("Be brief.", {"k": "v"}))
        self.assertEqual((response["temperature"], response["error"]), (0.5, None))
        (item,) = response["output"]
        self.assertEqual(item["content"],
                         [{"type": "output_text", "text": "Hello, world!", "annotations": [], "logprobs": None}])
        self.assertEqual((item["role"], item["status"], item["phase"]), ("assistant", "completed", "final_answer"))
        self.assertEqual(response["usage"]["output_tokens"], len("Hello, world!") + 1)
        self.assertEqual(response["usage"]["total_tokens"],
                         response["usage"]["input_tokens"] + response["usage"]["output_tokens"])

    def test_prompt_is_that_of_chat(self):
        usage = self.respond(instructions="Be brief.", tools=TOOLS, reasoning={"effort": "low"}).json["usage"]
        chat = self.server.post("/v1/chat/completions", {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            "tools": [{"type": "function", "function": {k: v for k, v in TOOLS[0].items() if k != "type"}}],
            "reasoning_effort": "low"}).json["usage"]
        self.assertEqual(usage["input_tokens"], chat["prompt_tokens"])

    def test_thought_text_and_call(self):
        response = self.respond("weather", tools=TOOLS, reasoning={"effort": "high"}).json
        thought, text, call = response["output"]
        self.assertEqual([i["type"] for i in response["output"]], ["reasoning", "message", "function_call"])
        self.assertEqual(thought["content"], [{"type": "reasoning_text", "text": "Need weather."}])
        self.assertEqual((text["content"][0]["text"], text["phase"]), ("Let me see.", "commentary"))
        self.assertEqual((call["name"], json.loads(call["arguments"])), ("get_weather", {"city": "Oslo"}))
        self.assertRegex(" ".join((thought["id"], text["id"], call["id"], call["call_id"])),
                         r"^rs_\w+ msg_\w+ fc_\w+ call_[0-9a-f]{24}$")
        self.assertEqual(response["usage"]["output_tokens_details"]["reasoning_tokens"],
                         1 + len("thought\nNeed weather.") + 1)
        again = self.respond([{"role": "user", "content": "weather"}, *response["output"],
                              {"type": "function_call_output", "call_id": call["call_id"], "output": "21 degrees"}],
                             tools=TOOLS).json
        self.assertEqual(again["output"][0]["content"][0]["text"], "It is warm.")

    def test_stream_ends_with_the_whole_answer(self):
        for members in ({}, {"tools": TOOLS, "reasoning": {"effort": "high"}}, {"max_output_tokens": 30, "tools": TOOLS}):
            request = {"text": "weather", **members}
            whole = self.respond(**request).json
            answer = self.respond(stream=True, **request)
            self.assertTrue(answer.headers["Content-Type"].startswith("text/event-stream"))
            events = events_of(answer)
            self.assertEqual([e["type"] for e in events[:2]], ["response.created", "response.in_progress"])
            self.assertEqual(events[-1]["type"], "response." + whole["status"])
            self.assertEqual(without_ids(events[-1]["response"]), without_ids(whole))
            done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
            self.assertEqual(done, events[-1]["response"]["output"])

    def test_length_limit(self):
        response = self.respond("say-forever", max_output_tokens=4).json
        self.assertEqual((response["status"], response["incomplete_details"]),
                         ("incomplete", {"reason": "max_output_tokens"}))
        self.assertEqual(response["usage"]["output_tokens"], 4)

    def test_logprobs(self):
        response = self.respond(include=["message.output_text.logprobs"], top_logprobs=1).json
        entries = response["output"][0]["content"][0]["logprobs"]
        self.assertEqual("".join(e["token"] for e in entries[:-1]), "Hello, world!")
        self.assertEqual(set(entries[0]), {"token", "bytes", "logprob", "top_logprobs"})

    def test_encrypted_reasoning_comes_back(self):
        response = self.respond("weather", reasoning={"effort": "low"}, include=["reasoning.encrypted_content"]).json
        thought = {**response["output"][0], "content": [], "summary": []}
        items = lambda item: [{"role": "user", "content": "x"}, item,
                              {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                              {"type": "function_call_output", "call_id": "c", "output": "r"}]
        count = lambda item: self.respond(items(item)).json["usage"]["input_tokens"]
        self.assertGreater(count(thought), count({**thought, "encrypted_content": "unknown"}))

    # ---- store

    def test_get_and_previous_response(self):
        first = self.respond("weather", tools=TOOLS).json
        self.assertTrue(first["store"])
        self.assertEqual(self.server.get("/v1/responses/" + first["id"]).json, first)
        call = first["output"][-1]
        second = self.respond([{"type": "function_call_output", "call_id": call["call_id"], "output": "21 degrees"}],
                              previous_response_id=first["id"], tools=TOOLS).json
        self.assertEqual(second["output"][0]["content"][0]["text"], "It is warm.")
        self.assertEqual(second["previous_response_id"], first["id"])
        third = self.respond("And now?", previous_response_id=second["id"], stream=True, tools=TOOLS)
        final = events_of(third)[-1]["response"]
        self.assertGreater(final["usage"]["input_tokens"], second["usage"]["input_tokens"])
        self.assertEqual(self.server.get("/v1/responses/" + final["id"]).json, final)

    def test_unstored(self):
        response = self.respond(store=False).json
        self.assertFalse(response["store"])
        self.assertEqual(self.server.get("/v1/responses/" + response["id"]).status, 404)

    def wait_for(self, response_id, status):
        get = lambda: self.server.get("/v1/responses/" + response_id).json
        self.assertTrue(eventually(lambda: get()["status"] == status))
        return get()

    def test_background(self):
        queued = self.respond(background=True).json
        self.assertEqual((queued["status"], queued["output"]), ("queued", []))
        done = self.wait_for(queued["id"], "completed")
        self.assertEqual(done["output"][0]["content"][0]["text"], "Hello, world!")
        cancelled = self.server.post(f"/v1/responses/{queued['id']}/cancel", {})
        self.assertEqual((cancelled.status, cancelled.json), (200, done))

    def test_cancel(self):
        queued = self.respond("say-slowly", background=True).json
        self.wait_for(queued["id"], "in_progress")
        cancelled = self.server.post(f"/v1/responses/{queued['id']}/cancel", {}).json
        self.assertEqual(cancelled["status"], "cancelled")
        self.assertTrue(self.server.wait_idle(10), "the run ends with it")
        self.assertEqual(self.server.get("/v1/responses/" + queued["id"]).json, cancelled)
        self.respond("x", status=400, previous_response_id=queued["id"])

    def test_aborted_run_has_failed(self):
        queued = self.respond("say-slowly", background=True).json
        time.sleep(0.2)
        self.server.post("/abort_request", {"rid": queued["id"]})
        failed = self.wait_for(queued["id"], "failed")
        self.assertEqual(failed["error"]["code"], "server_error")

    # ---- errors

    def refused(self, status, message, **more):
        error = self.respond(status=status, **more).json["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertEqual(error["code"], status)
        self.assertIn(message, error["message"])

    def test_errors(self):
        self.refused(404, "The model 'other' does not exist", model="other")
        self.refused(404, "not found", previous_response_id="resp_nothing")
        self.refused(400, "Expected an ID that begins with 'resp'", previous_response_id="x")
        self.refused(400, "Tools cannot be empty", tool_choice="required")
        self.refused(400, "not found in tools list", tools=TOOLS, tool_choice={"type": "function", "name": "g"})
        self.refused(400, "maximum context length", max_output_tokens=10_000_000)
        self.refused(400, "temperature", temperature=-1)
        self.refused(400, "temperature", temperature=-1, stream=True)
        self.refused(400, "reasoning_effort", reasoning={"effort": "enormous"})
        self.refused(400, "cannot be streamed", background=True, stream=True)
        self.refused(400, "image", text=[{"role": "user", "content": [
            {"type": "input_image", "image_url": "data:image/png;base64,AA"}]}])
        answer = self.server.request("POST", "/v1/responses", "{}", {"Content-Type": "text/plain"})
        self.assertEqual(answer.status, 400)
        self.assertIn("Unsupported Media Type", answer.json["error"]["message"])
        self.assertEqual(self.server.get("/v1/responses/resp_nothing").status, 404)
        self.assertEqual(self.server.get("/v1/responses/x").status, 400)
        self.assertEqual(self.server.post("/v1/responses/resp_nothing/cancel", {}).status, 404)
        self.assertEqual(self.server.post("/v1/responses/resp_nothing/else", {}).status, 404)


class Shutdown(unittest.TestCase):
    def test_a_background_run_does_not_hold_up_the_end(self):
        with Server("--enable-response-store", script=SCRIPT) as server:
            self.assertEqual(server.post("/v1/responses", {"input": "say-slowly", "background": True}).status, 200)
            began = time.monotonic()
            self.assertEqual(server.stop(), 0)
            self.assertLess(time.monotonic() - began, 8)


class WithoutStore(unittest.TestCase):
    def test_store_is_off_by_default(self):
        with Server(script=SCRIPT) as server:
            response = server.post("/v1/responses", {"input": "Hi"}).json
            self.assertFalse(response["store"])
            self.assertEqual(server.get("/v1/responses/" + response["id"]).status, 404)
            self.assertEqual(server.post(f"/v1/responses/{response['id']}/cancel", {}).status, 404)
            for members in ({"previous_response_id": "resp_1"}, {"background": True}):
                answer = server.post("/v1/responses", {"input": "Hi", **members})
                self.assertEqual(answer.status, 400)
                self.assertIn("Response store is disabled.", answer.json["error"]["message"])


if __name__ == "__main__":
    unittest.main()
