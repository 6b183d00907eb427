"""Thoughts and tool calls in chat answers, with scripted replies so that every chunk is known."""

import json
import re
import unittest

from carat_server import Server

THOUGHT = "<|channel>thought\nHm, Oslo.\n<channel|>"
CALL = "<|tool_call>call:get_weather{city:<|\"|>Oslo<|\"|>,days:2}<tool_call|>"
SCRIPT = [
    {"match": "say-thought", "text": THOUGHT + "It is sunny."},
    {"match": "say-slowly", "text": THOUGHT + "It is sunny.", "ms_per_step": 5},
    {"match": "say-only-thought", "text": "<|channel>thought\nHm"},
    {"match": "say-call", "text": "I look.\n" + CALL + "<|tool_call>call:nope{}<tool_call|>\n"},
    {"match": "say-all", "text": THOUGHT + "I look." + CALL, "tokens_per_step": 1000},
    {"match": "say-cut", "text": CALL + "<|tool_call>call:get_weather{city:<|\"|>Ber", "finish": "length"},
    {"match": "say-broken", "text": "<|tool_call>get the weather<tool_call|>"},
    {"match": "say-response", "text": CALL + "<|tool_response>"},
    {"match": "say-plain", "text": "Plain answer"},
    {"match": "Half a", "text": " thought.<channel|>Whole."},
    {"match": "call:get_weather{", "text": "It said sun.<channel|>Sunny."},
    {"match": "", "text": "default answer"},
]
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}]
THINK = {"chat_template_kwargs": {"enable_thinking": True}}
EOT = 106  # <turn|>
FLAGS = ("--reasoning-parser", "gemma4", "--tool-call-parser", "gemma4")


def without_ids(calls):
    for call in calls:
        assert re.fullmatch("call_[0-9a-f]{24}", call["id"]), call
    assert len({call["id"] for call in calls}) == len(calls)
    return [(call["index"], call["type"], call["function"]["name"], call["function"]["arguments"]) for call in calls]


def gather(events):
    """What a client that merges deltas by index sees of choice 0."""
    message = {"content": "", "reasoning_content": "", "tool_calls": []}
    for event in events:
        for choice in event["choices"]:
            delta = choice["delta"]
            assert "reasoning_content" in delta, delta
            for key in ("content", "reasoning_content"):
                message[key] += delta.get(key) or ""
            for call in delta.get("tool_calls") or []:
                if call["id"]:
                    assert call["index"] == len(message["tool_calls"])
                    message["tool_calls"].append(call)
                else:
                    message["tool_calls"][call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    message["reasoning_content"] = message["reasoning_content"] or None
    return message


class Messages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(*FLAGS, script=SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def choice(self, content, **more):
        """The choice of an answer; a stream must tell the same."""
        choice = self.server.chat(content, **more).json["choices"][0]
        events = self.server.chat(content, stream=True, **more).events()
        streamed, message = gather(events), choice["message"]
        self.assertEqual((streamed["content"], streamed["reasoning_content"]),
                         (message["content"], message["reasoning_content"]))
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], choice["finish_reason"])
        if choice["finish_reason"] != "length":
            self.assertEqual(without_ids(streamed["tool_calls"]), without_ids(message.get("tool_calls", [])))
        return choice

    def test_parsers_are_told(self):
        info = self.server.get("/model_info").json
        self.assertEqual((info["reasoning_parser"], info["tool_call_parser"]), ("gemma4", "gemma4"))

    def test_thought(self):
        choice = self.choice("say-thought", **THINK)
        self.assertEqual(choice["message"], {"role": "assistant", "content": "It is sunny.", "reasoning_content": "Hm, Oslo.\n"})
        self.assertEqual((choice["finish_reason"], choice["matched_stop"]), ("stop", EOT))

    def test_reasoning_tokens(self):
        usage = self.server.chat("say-thought", **THINK).json["usage"]
        self.assertEqual(usage["reasoning_tokens"], 1 + len("thought\nHm, Oslo.\n") + 1)
        self.assertEqual(usage["completion_tokens_details"], {"reasoning_tokens": usage["reasoning_tokens"]})

    def test_thought_stays_in_the_content_if_asked(self):
        message = self.choice("say-thought", separate_reasoning=False, **THINK)["message"]
        self.assertEqual((message["content"], message["reasoning_content"]), (THOUGHT + "It is sunny.", None))

    def test_thought_in_one_piece(self):
        for stream_reasoning in (False, True):
            events = self.server.chat("say-slowly", stream=True, stream_reasoning=stream_reasoning, **THINK).events()
            pieces = [c["delta"]["reasoning_content"] for e in events for c in e["choices"] if c["delta"]["reasoning_content"]]
            self.assertEqual("".join(pieces), "Hm, Oslo.\n")
            self.assertEqual(len(pieces) == 1, not stream_reasoning)

    def test_no_thought_though_asked_for(self):
        message = self.choice("say-plain", **THINK)["message"]
        self.assertEqual((message["content"], message["reasoning_content"]), ("Plain answer", None))

    def test_content_is_never_empty_if_asked(self):
        more = {"chat_template_kwargs": {"enable_thinking": True, "force_nonempty_content": True}}
        message = self.choice("say-only-thought", **more)["message"]
        self.assertEqual((message["content"], message["reasoning_content"]), ("Hm", None))
        message = self.choice("say-thought", **more)["message"]
        self.assertEqual((message["content"], message["reasoning_content"]), ("It is sunny.", "Hm, Oslo.\n"))
        self.assertEqual(self.choice("say-only-thought", **THINK)["message"]["content"], "")

    def test_calls(self):
        choice = self.choice("say-call", tools=TOOLS)
        message = choice["message"]
        self.assertEqual((message["content"], message["reasoning_content"]), ("I look.\n", None))
        self.assertEqual(without_ids(message["tool_calls"]), [(0, "function", "get_weather", '{"city": "Oslo", "days": 2}'),
                                                              (1, "function", "nope", "{}")])
        self.assertEqual((choice["finish_reason"], choice["matched_stop"]), ("tool_calls", None))

    def test_calls_are_text_without_tools(self):
        for more in ({}, {"tools": TOOLS, "tool_choice": "none"}):
            choice = self.choice("say-broken", **more)
            self.assertEqual(choice["message"]["content"], "<|tool_call>get the weather<tool_call|>")
            self.assertNotIn("tool_calls", choice["message"])

    def test_what_is_no_call_is_text(self):
        choice = self.choice("say-broken", tools=TOOLS)
        self.assertEqual(choice["message"]["content"], "<|tool_call>get the weather<tool_call|>")
        self.assertEqual((choice["finish_reason"], choice["matched_stop"]), ("stop", EOT))

    def test_parts_of_one_step_are_chunks_in_their_order(self):
        # The script says all in one step, but for the first token, which the prompt's step yields: the thought's opener. A
        # chunk without text carries its log-probabilities if the reader was faster than the next step.
        events = self.server.chat("say-all", stream=True, tools=TOOLS, logprobs=True, **THINK).events()
        early = events[1]["choices"][0]["delta"] == {"reasoning_content": None}
        with_logprobs = [i for i, event in enumerate(events) if event["choices"][0]["logprobs"]]
        self.assertEqual(with_logprobs, [1, 2] if early else [1])
        self.assertEqual("".join(t["token"] for i in with_logprobs for t in events[i]["choices"][0]["logprobs"]["content"]),
                         THOUGHT + "I look." + CALL + "<turn|>")
        if early:
            del events[1]
        choices = [event["choices"][0] for event in events]
        kinds = ["call" if "tool_calls" in c["delta"] else "reasoning" if c["delta"]["reasoning_content"] else "content"
                 for c in choices]
        self.assertEqual(kinds, ["content", "reasoning", "content", "call", "call", "content"])
        name, arguments = choices[3]["delta"]["tool_calls"][0], choices[4]["delta"]["tool_calls"][0]
        self.assertEqual(name["function"], {"name": "get_weather", "arguments": ""})
        self.assertEqual(arguments, {"id": None, "index": 0, "type": "function",
                                     "function": {"name": None, "arguments": '{"city": "Oslo", "days": 2}'}})
        self.assertEqual([event["usage"] for event in events[3:5]], [None, None])
        self.assertEqual((choices[-1]["finish_reason"], choices[-1]["matched_stop"]), ("tool_calls", EOT))

    def test_logprobs_of_steps_without_text(self):
        events = self.server.chat("say-slowly", stream=True, logprobs=True, **THINK).events()
        tokens = [t["token"] for e in events for c in e["choices"] if c["logprobs"] for t in c["logprobs"]["content"]]
        self.assertEqual("".join(tokens), THOUGHT + "It is sunny.<turn|>")
        self.assertEqual(events[1]["choices"][0]["delta"], {"reasoning_content": None})

    def test_a_call_that_is_cut_off(self):
        limit = len(re.sub(r"<\S*?>", "x", CALL)) + 20  # each marker and each other character is a token
        choice = self.choice("say-cut", tools=TOOLS, max_tokens=limit)
        self.assertEqual(choice["finish_reason"], "length")
        self.assertEqual(len(choice["message"]["tool_calls"]), 1)
        events = self.server.chat("say-cut", tools=TOOLS, max_tokens=limit, stream=True).events()
        self.assertEqual([c["function"]["arguments"] for c in gather(events)["tool_calls"]],
                         ['{"city": "Oslo", "days": 2}', ""])

    def test_tool_response_marker_is_not_shown(self):
        message = self.choice("say-response", tools=TOOLS)["message"]
        self.assertEqual((message["content"], len(message["tool_calls"])), ("", 1))

    def test_reply_to_a_tool_result_goes_on_in_the_thought(self):
        messages = [{"role": "user", "content": "Weather?"},
                    {"role": "assistant", "content": None, "reasoning": "I ask.", "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Oslo\"}"}}]},
                    {"role": "tool", "tool_call_id": "c1", "content": "sun"}]
        body = {"messages": messages, "tools": TOOLS, **THINK}
        message = self.server.post("/v1/chat/completions", body).json["choices"][0]["message"]
        self.assertEqual((message["reasoning_content"], message["content"]), ("It said sun.", "Sunny."))

    def test_a_thought_begun_by_the_client_goes_on(self):
        for thinking in (False, True):
            messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "<|channel>thought\nHalf a"}]
            message = self.server.post("/v1/chat/completions", {
                "messages": messages, "continue_final_message": True,
                "chat_template_kwargs": {"enable_thinking": thinking}}).json["choices"][0]["message"]
            self.assertEqual((message["reasoning_content"], message["content"]), (" thought.", "Whole."))

    def test_prompts_given_as_ids_are_read_too(self):
        ids = self.server.post("/tokenize", {"prompt": "say-all<|channel>thought\n"}).json["tokens"]
        message = self.server.chat("x", input_ids=ids, tools=TOOLS).json["choices"][0]["message"]
        self.assertEqual((message["reasoning_content"], len(message["tool_calls"])), ("Hm, Oslo.\n", 1))

    def test_stop_strings_are_searched_in_the_raw_text(self):
        choice = self.choice("say-thought", stop=["\n<channel|>"], **THINK)
        self.assertEqual((choice["message"]["reasoning_content"], choice["message"]["content"]), ("Hm, Oslo.", ""))
        self.assertEqual((choice["finish_reason"], choice["matched_stop"]), ("stop", "\n<channel|>"))

    def test_n(self):
        choices = self.server.chat("say-call", n=3, tools=TOOLS).json["choices"]
        self.assertEqual(len({call["id"] for c in choices for call in c["message"]["tool_calls"]}), 6)


    # ---- texts

    def test_parse_function_call(self):
        body = {"text": "I look." + CALL + "<|tool_call>call:nope{}<tool_call|> Done", "tools": TOOLS, "tool_call_parser": "gemma4"}
        self.assertEqual(self.server.post("/parse_function_call", body).json, {
            "normal_text": "I look. Done",
            "calls": [{"tool_index": 0, "name": "get_weather", "parameters": '{"city": "Oslo", "days": 2}'},
                      {"tool_index": 1, "name": "nope", "parameters": "{}"}]})
        answer = self.server.post("/parse_function_call", {"text": THOUGHT + "<|tool_call>f<tool_call|>"}).json
        self.assertEqual(answer, {"normal_text": THOUGHT + "<|tool_call>f<tool_call|>", "calls": []})

    def test_separate_reasoning(self):
        body = {"text": THOUGHT + "A" + THOUGHT + "B" + CALL, "reasoning_parser": "gemma4"}
        plain = {"reasoning_text": "Hm, Oslo.\n" * 2, "text": "AB" + CALL}
        self.assertEqual(self.server.post("/separate_reasoning", body).json, plain)
        self.assertEqual(self.server.post("/separate_reasoning", {**body, "return_blocks": True}).json, {
            **plain, "reasoning_blocks": ["Hm, Oslo.\n"] * 2, "text_blocks": ["A", "B" + CALL],
            "blocks": [{"type": "reasoning", "text": "Hm, Oslo.\n"}, {"type": "text", "text": "A"},
                       {"type": "reasoning", "text": "Hm, Oslo.\n"}, {"type": "text", "text": "B" + CALL}]})

    def test_texts_that_are_refused(self):
        def error(path, **body):
            answer = self.server.post(path, body)
            self.assertEqual((answer.status, answer.json["object"]), (400, "error"))
            return answer.json["message"]

        self.assertIn("text: Field required", error("/parse_function_call"))
        self.assertIn("'llama3' is not supported", error("/parse_function_call", text="", tool_call_parser="llama3"))
        self.assertIn("tools[0]", error("/parse_function_call", text="", tools=[5]))
        self.assertIn("reasoning_parser: Field required", error("/separate_reasoning", text=""))
        self.assertIn("'qwen3' is not supported", error("/separate_reasoning", text="", reasoning_parser="qwen3"))


class Flags(unittest.TestCase):
    def test_auto_and_one_of_two(self):
        with Server("--reasoning-parser", "auto", script=SCRIPT) as server:
            info = server.get("/model_info").json
            self.assertEqual((info["reasoning_parser"], info["tool_call_parser"]), ("gemma4", None))
            message = server.chat("say-all", tools=TOOLS).json["choices"][0]["message"]
            self.assertEqual((message["reasoning_content"], message["content"]), ("Hm, Oslo.\n", "I look." + CALL))

    def test_required_calls_need_no_parser(self):
        with Server(script=SCRIPT) as server:
            for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
                answer = server.chat("say-all", tools=TOOLS, tool_choice=choice).json["choices"][0]
                self.assertEqual(without_ids(answer["message"]["tool_calls"]),
                                 [(0, "function", "get_weather", '{"city": "Oslo", "days": 2}')])
                self.assertEqual(answer["finish_reason"], "tool_calls")

    def test_calls_alone(self):
        with Server("--tool-call-parser", "auto", script=SCRIPT) as server:
            message = server.chat("say-all", tools=TOOLS).json["choices"][0]["message"]
            self.assertEqual((message["reasoning_content"], message["content"]), (None, THOUGHT + "I look."))
            self.assertEqual(len(message["tool_calls"]), 1)


if __name__ == "__main__":
    unittest.main()
