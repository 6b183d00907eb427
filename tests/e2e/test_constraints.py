"""Answers in a form, on the built-in miniature: a model without sense, so that whatever is right is right by construction.

CARAT_ANSWERS=1000 checks so many answers and calls against their schemas (with the jsonschema package too, where it is),
CARAT_ANSWERS_MODEL=FOLDER on another model, with random weights."""

import collections
import json
import os
import re
import statistics
import threading
import time
import unittest

from carat_server import Server

try:
    import jsonschema
except ImportError:
    jsonschema = None

PERSON = {"type": "object", "properties": {
    "name": {"type": "string", "minLength": 1, "maxLength": 8}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "kind": {"enum": ["a", "grün", None, 5]}, "size": {"type": "number", "minimum": -1, "maximum": 1},
    "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]{1,3}$"}, "minItems": 1, "maxItems": 2},
    "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/leaf"}]}, "ok": {"type": "boolean"},
    "note": {"type": "string", "minLength": 3, "maxLength": 90}, "born": {"type": "string", "format": "date"}},
    "required": ["name", "age", "kind", "tags", "next"], "additionalProperties": False,
    "$defs": {"leaf": {"type": "object", "properties": {"Größe": {"const": [1, {"x": "y"}]}}, "required": ["Größe"], "additionalProperties": False}}}
LIST = {"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
    "wert": {"type": "integer", "multipleOf": 3, "minimum": -30, "maximum": 30}, "nächster": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["wert", "nächster"], "additionalProperties": False}}}
SHAPE = {"type": "object", "properties": {"shape": {"oneOf": [
    {"type": "object", "properties": {"kind": {"const": "circle"}, "radius": {"type": "number", "exclusiveMinimum": 0, "maximum": 5}},
     "required": ["kind", "radius"], "additionalProperties": False},
    {"type": "object", "properties": {"kind": {"const": "矩形"}, "sides": {"type": "array", "prefixItems": [{"type": "integer", "minimum": 1, "maximum": 99}, {"enum": [2, 4.5, "∞"]}],
     "items": False, "minItems": 2}}, "required": ["kind", "sides"], "additionalProperties": False}]},
    "label": {"type": ["string", "null"], "maxLength": 12}}, "required": ["shape", "label"], "additionalProperties": False}
EVENT = {"allOf": [{"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}, "at": {"type": "string", "format": "date-time"}}, "required": ["id", "at"]},
                   {"properties": {"guests": {"type": "array", "maxItems": 3, "items": {"type": "object", "properties": {
                       "name": {"type": "string", "minLength": 1, "maxLength": 40}, "ip": {"type": "string", "format": "ipv4"}}, "required": ["name"], "additionalProperties": False}},
                       "level": {"enum": ["low", "hoch", 3, None, [1]]}}, "required": ["guests", "level"]}]}
FLAT = {"type": "array", "minItems": 1, "maxItems": 4, "items": {"type": ["boolean", "integer"], "minimum": -5, "maximum": 1000000}}
SCHEMAS = [PERSON, LIST, SHAPE, EVENT, FLAT]
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PERSON}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
THINK = {"chat_template_kwargs": {"enable_thinking": True}}
FLAGS = ("--reasoning-parser", "gemma4", "--tool-call-parser", "gemma4", "--constrained-json-max-whitespace-cnt", "1", "--enable-metrics")


def problems(schema, value, root=None):
    """What of the keywords above does not hold."""
    root = root or schema
    if "$ref" in schema:
        return problems(root["$defs"][schema["$ref"].split("/")[-1]], value, root)
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int, "number": (int, float)}
    out = []
    if "anyOf" in schema and all(problems(option, value, root) for option in schema["anyOf"]):
        out.append("no alternative")
    types = schema.get("type", list(kinds))
    types = types if isinstance(types, list) else [types]
    if not any(isinstance(value, kinds[t]) and (not isinstance(value, bool) or t == "boolean") for t in types):
        return ["not a " + " or ".join(types)]
    if "const" in schema and value != schema["const"] or "enum" in schema and value not in schema["enum"]:
        out.append("not listed")
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1 << 30) or not re.search(schema.get("pattern", ""), value):
            out.append("text")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            out.append("range")
    elif isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 1 << 30):
            out.append("length")
        for item in value:
            out += problems(schema.get("items", {}), item, root)
    elif isinstance(value, dict):
        out += [key + " is missing" for key in schema.get("required", []) if key not in value]
        for key, item in value.items():
            if key not in schema.get("properties", {}):
                out += [key + " is not allowed"] if schema.get("additionalProperties") is False else []
            else:
                out += problems(schema["properties"][key], item, root)
    return out


def check(test, schema, text):
    value = json.loads(text)
    test.assertEqual(problems(schema, value), [], text)
    if jsonschema:
        jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER).validate(value)


class Constraints(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(*FLAGS, "--max-running-requests", "16")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def choice(self, **body):
        answer = self.server.chat("Hello", max_tokens=1000, **body)
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json["choices"][0]

    def generate(self, text="Hello", **params):
        answer = self.server.post("/generate", {"text": text, "sampling_params": {"max_new_tokens": 400, **params}})
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json

    def test_every_route_and_every_form(self):
        forms = [({"regex": "[a-f]{2,6}x"}, "[a-f]{2,6}x"), ({"ebnf": 'root ::= ("ab" | "c") "d"'}, "(ab|c)d"),
                 ({"json_schema": json.dumps({"type": "integer", "minimum": 5, "maximum": 11})}, "[5-9]|1[01]"),
                 ({"structural_tag": json.dumps({"format": {"type": "sequence", "elements": [
                     {"type": "const_string", "value": "<n>"}, {"type": "regex", "pattern": "[0-9]{2}"}]}})}, "<n>[0-9]{2}")]
        for form, expected in forms:
            with self.subTest(form=form):
                self.assertRegex(self.choice(**form)["message"]["content"], f"^({expected})$")
                answer = self.server.post("/v1/completions", {"prompt": "x", "max_tokens": 100, **form}).json["choices"][0]
                self.assertRegex(answer["text"], f"^({expected})$")
                self.assertEqual(answer["finish_reason"], "stop")
                self.assertRegex(self.generate(**form)["text"], f"^({expected})$")

    def test_other_apis(self):
        post = lambda path, body: self.server.post(path, body).json
        tool = {"name": "f", "parameters": PERSON}
        answer = post("/v1/responses", {"input": "Hello", "max_output_tokens": 1000, "text": {
            "format": {"type": "json_schema", "name": "p", "schema": PERSON}}})
        check(self, PERSON, answer["output"][0]["content"][0]["text"])
        for choice in ("required", {"type": "function", "name": "f"}):
            answer = post("/v1/responses", {"input": "Hello", "max_output_tokens": 1000, "tools": [{"type": "function", **tool}],
                                            "tool_choice": choice, "parallel_tool_calls": False})
            (call,) = answer["output"]
            self.assertEqual((call["type"], call["name"], answer["status"]), ("function_call", "f", "completed"))
            check(self, PERSON, call["arguments"])
        message = {"model": "m", "max_tokens": 1500, "messages": [{"role": "user", "content": "Hello"}]}
        answer = post("/v1/messages", {**message, "output_config": {"format": {"type": "json_schema", "schema": PERSON}}})
        check(self, PERSON, answer["content"][0]["text"])
        answer = post("/v1/messages", {**message, "tools": [{"name": "f", "input_schema": PERSON}],
                                       "tool_choice": {"type": "any", "disable_parallel_tool_use": True}})
        self.assertEqual((answer["content"][0]["name"], answer["stop_reason"]), ("f", "tool_use"))
        check(self, PERSON, json.dumps(answer["content"][0]["input"]))
        answer = post("/api/chat", {**message, "stream": False, "format": PERSON})
        check(self, PERSON, answer["message"]["content"])
        for path, body in (("/v1/responses", {"input": "x", "text": {"format": {"type": "json_object"}}, "tool_choice": "required",
                                              "tools": [{"type": "function", **tool}]}),
                           ("/v1/responses", {"input": "x", "text": {"format": {"type": "json_schema", "name": "n"}}})):
            self.assertEqual(self.server.post(path, body).status, 400)

    def test_response_formats(self):
        schema = {"type": "object", "properties": {"a": {"type": "integer", "maximum": 9, "minimum": 0}}, "required": ["a"]}
        for form in ({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}, {"type": "json_schema", "schema": schema}):
            check(self, schema, self.choice(response_format=form)["message"]["content"])
        tag = {"type": "structural_tag", "structures": [{"begin": "<a>", "schema": schema, "end": "</a>"}], "triggers": ["<a"]}
        self.assertIn(self.choice(response_format=tag)["finish_reason"], ("stop", "length"))
        self.assertIsInstance(self.choice(response_format={"type": "text"}, regex="[ab]")["message"]["content"], str)

    def test_streams_samples_and_logprobs(self):
        body = {"regex": "[a-f]{3,9}", "seed": 5}
        whole = self.choice(**body)["message"]["content"]
        events = self.server.chat("Hello", max_tokens=1000, stream=True, **body).events()
        self.assertEqual("".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"]), whole)
        answer = self.server.chat("Hello", n=4, regex="[a-f]{3,9}", logprobs=True, top_logprobs=20).json
        for choice in answer["choices"]:
            self.assertRegex(choice["message"]["content"], "^[a-f]{3,9}$")
            for entry in choice["logprobs"]["content"]:
                self.assertGreater(entry["logprob"], -100)
                self.assertEqual(len(entry["top_logprobs"]), 20)
        batch = self.server.post("/generate", {"text": ["a", "b"], "sampling_params": [{"regex": "x{2}"}, {"regex": "y{3}"}]}).json
        self.assertEqual([item["text"] for item in batch], ["xx", "yyy"])

    def test_ends_with_the_form(self):
        answer = self.generate(regex="[a-f]{3}", ignore_eos=True, min_new_tokens=50)
        self.assertRegex(answer["text"], "^[a-f]{3}$")
        self.assertEqual(answer["meta_info"]["finish_reason"]["type"], "stop")
        answer = self.generate(regex="[a-f]+", min_new_tokens=30)
        self.assertGreaterEqual(answer["meta_info"]["completion_tokens"], 30)
        self.assertEqual(self.generate(regex="[a-f]{300}", max_new_tokens=5)["meta_info"]["finish_reason"]["type"], "length")
        self.assertRegex(self.generate(regex="a*ba*", stop=["b"])["text"], "^a*$")

    def test_what_cannot_be_followed_is_an_error(self):
        form = {"ebnf": 'root ::= root root | [ -~]'}
        whole = self.server.chat("Hello", max_tokens=3000, **form)
        self.assertEqual(whole.status, 400, whole.text)
        self.assertIn("the grammar is too ambiguous: 3 tokens took more than 20 ms each to match", whole.json["message"])
        events = self.server.chat("Hello", max_tokens=3000, stream=True, **form).events()
        self.assertIn("too ambiguous", events[-1]["error"]["message"])
        self.assertIsNone(events[-2]["choices"][0]["finish_reason"])
        native = self.server.post("/generate", {"text": "x", "sampling_params": {"max_new_tokens": 3000, **form}})
        self.assertEqual(native.status, 400)

    def test_thinking_budget(self):
        for form in ({}, {"regex": "yes|no"}):
            thought = 0
            for seed in range(12):
                answer = self.server.chat("Hello", max_tokens=60, seed=seed, thinking_budget=6, logit_bias={"100": 50}, **THINK, **form).json
                message, used = answer["choices"][0]["message"], answer["usage"]["reasoning_tokens"]
                if message["reasoning_content"] is not None or used < 60:
                    self.assertLessEqual(used, 8, message)  # a newline and the closing token beside it
                    thought += 1
                if form:
                    self.assertIn(message["content"], ("yes", "no"))
            self.assertGreater(thought, 0)

    def test_required_and_named_calls(self):
        choice = self.choice(tools=[WEATHER, CLOCK], tool_choice="required", parallel_tool_calls=False)
        self.assertEqual((len(choice["message"]["tool_calls"]), choice["message"]["content"]), (1, ""))
        self.assertEqual(choice["finish_reason"], "tool_calls")
        named = {"type": "function", "function": {"name": "clock"}}
        for call in self.choice(tools=[WEATHER, CLOCK], tool_choice=named)["message"]["tool_calls"]:
            self.assertEqual(call["function"], {"name": "clock", "arguments": "{}"})

    def test_calls_under_auto_fit_once_they_are_opened(self):
        bias = {"48": 30}  # <|tool_call>
        choice = self.choice(tools=[CLOCK], logit_bias=bias, parallel_tool_calls=False)
        self.assertEqual([call["function"] for call in choice["message"]["tool_calls"]], [{"name": "clock", "arguments": "{}"}])

    def test_many_answers_and_calls_are_valid(self):
        count, model = int(os.environ.get("CARAT_ANSWERS", 60)), os.environ.get("CARAT_ANSWERS_MODEL")
        tools = [{"type": "function", "function": {"name": f"f{i}", "parameters": schema}} for i, schema in enumerate(SCHEMAS) if schema is not FLAT] + [CLOCK]
        parameters = {tool["function"]["name"]: tool["function"].get("parameters", {"type": "object"}) for tool in tools}
        lock, todo, failures, whole = threading.Lock(), iter(range(count)), [], collections.Counter()

        def answer(server, thinking, more):
            schema = SCHEMAS[more["seed"] % len(SCHEMAS)]
            choice = server.chat("Who?", response_format={"type": "json_schema", "json_schema": {"schema": schema}}, **more).json["choices"][0]
            whole[f"answers {choice['finish_reason']}, thinking {thinking}"] += 1
            if choice["finish_reason"] == "stop":
                check(self, schema, choice["message"]["content"])

        def calls(server, thinking, more):
            choice = server.chat("Who?", tools=tools, tool_choice="required", **more).json["choices"][0]
            whole[f"replies {choice['finish_reason']}, thinking {thinking}"] += 1
            for call in choice["message"]["tool_calls"] or [] if choice["finish_reason"] == "tool_calls" else []:
                check(self, parameters[call["function"]["name"]], call["function"]["arguments"])
                whole[f"calls, thinking {thinking}"] += 1

        def work(server):
            while True:
                with lock:
                    i = next(todo, None)
                if i is None:
                    return
                thinking = "on" if i // len(SCHEMAS) % 2 else "off"
                more = {"seed": i, "max_tokens": 2000, **({**THINK, "thinking_budget": i % 13} if thinking == "on" else {})}
                for ask in (answer, calls):
                    try:
                        ask(server, thinking, more)
                    except Exception as failure:  # told by the main thread
                        failures.append((i, failure))

        server = Server("--model-path", model, "--load-format", "dummy", *FLAGS, "--max-running-requests", "16") if model else self.server
        threads = [threading.Thread(target=work, args=(server,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if model:
            server.stop()
        print("; ".join(f"{n} {what}" for what, n in sorted(whole.items())) + f"; {len(failures)} not valid", flush=True)
        self.assertEqual(failures, [])
        for thinking in ("on", "off"):
            self.assertGreater(whole[f"answers stop, thinking {thinking}"], count // 4)
            self.assertGreater(whole[f"calls, thinking {thinking}"], count // 4)

    def test_neighbours_do_not_wait(self):
        """Gaps between a stream's tokens while others send what is hard to compile, wrong or huge."""
        def gaps(seconds):
            body = {"text": "a neighbour", "stream": True, "sampling_params": {"max_new_tokens": 30000, "ignore_eos": True}}
            connection = self.server.connect()
            connection.request("POST", "/generate", json.dumps(body), {"Content-Type": "application/json"})
            response, out, last, end = connection.getresponse(), [], None, time.monotonic() + seconds
            while time.monotonic() < end:
                if response.readline().startswith(b"data:"):
                    now = time.monotonic()
                    out.append(now - last if last else 0)
                    last = now
            connection.close()
            return out

        deep = {"type": "integer"}
        for _ in range(60):
            deep = {"type": "array", "items": deep}
        slow = lambda i: {"type": "object", "properties": {f"p{i}_{k}": {"type": "string", "pattern": "." * (8 + k % 9)} for k in range(150)}}
        huge_tools = [{"type": "function", "function": {"name": f"f{i}", "parameters": {"type": "object", "properties": {
            f"p{k}": {"type": "string", "description": "x" * 200} for k in range(25)}}}} for i in range(1600)]
        stop = threading.Event()

        def trouble():
            i = 0
            while not stop.is_set():
                i += 1
                for schema in (slow(i), deep, {"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, {"enum": ["x" * 1100000]}, {"type": "nix"}):
                    status = self.server.chat("x", max_tokens=1, response_format={"type": "json_schema", "json_schema": {"schema": schema}}).status
                    self.assertIn(status, (200, 400))
                self.assertEqual(self.server.chat("x", max_tokens=1, tools=huge_tools, tool_choice="required").status, 400)

        calm = statistics.quantiles(gaps(3), n=20)
        troubled = threading.Thread(target=trouble)
        troubled.start()
        try:
            busy = statistics.quantiles(gaps(6), n=20)
        finally:
            stop.set()
            troubled.join()
        print(f"gaps in ms, median and 95 %: calm {calm[9] * 1e3:.2f}, {calm[18] * 1e3:.2f}; busy {busy[9] * 1e3:.2f}, {busy[18] * 1e3:.2f}", flush=True)
        self.assertLess(busy[18], calm[18] * 5 + 0.1)

    def test_metrics(self):
        before = self.numbers()
        for _ in range(2):
            self.choice(regex="unique-[0-9]")
        self.server.chat("x", regex="((")
        after = self.numbers()
        self.assertEqual([after[k] - before[k] for k in ("total", "cache_hit_total", "aborted_total")], [3, 1, 1])

    def numbers(self):
        found = re.findall(r"sglang:num_grammar_(\w+){[^}]*} ([0-9.]+)", self.server.get("/metrics").text)
        return {name: float(value) for name, value in found}


class WithoutABackend(unittest.TestCase):
    def test_forms_are_refused(self):
        with Server("--grammar-backend", "none", "--tool-call-parser", "gemma4") as server:
            for form in ({"regex": "a"}, {"response_format": {"type": "json_object"}}, {"tools": [CLOCK], "tool_choice": "required"}):
                answer = server.chat("x", **form)
                self.assertEqual(answer.status, 400)
                self.assertIn("--grammar-backend none", answer.json["message"])
            self.assertEqual(server.chat("x", tools=[CLOCK], max_tokens=3).status, 200)


if __name__ == "__main__":
    unittest.main()
