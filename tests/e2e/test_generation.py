"""What the generation routes answer, with scripted answers so that every byte is known."""

import json
import unittest

from carat_server import Server, text_of

SCRIPT = [
    {"match": "say-hello", "text": "Hello, world! How are you?"},
    {"match": "say-slowly", "text": "step by step", "ms_per_step": 5},
    {"match": "say-emoji", "text": "a😀b€c", "tokens_per_step": 3},
    {"match": "say-thought", "text": "<|channel>thought\nhm\n<channel|>Answer"},
    {"match": "say-call", "text": "<|tool_call>call:f{a:1}<tool_call|>"},
    {"match": "say-turn", "text": "one<pad>two"},
    {"match": "say-quotes", "text": "\"quoted\"\\\n\t\u0001</script>"},
    {"match": "say-forever", "text": "abc", "finish": "length"},
    {"match": "", "text": "default answer"},
]
EOT = 106  # <turn|>


class Generation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--enable-metrics", "--enable-cache-report", script=SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    # ---- chat

    def test_chat_answer(self):
        answer = self.server.chat("say-hello", model="any/name").json
        self.assertRegex(answer["id"], "^[0-9a-f]{32}$")
        self.assertEqual(answer["object"], "chat.completion")
        self.assertEqual(answer["model"], "any/name")
        self.assertEqual(answer["metadata"], {"weight_version": "default"})
        choice = answer["choices"][0]
        self.assertEqual(choice["message"],
                         {"role": "assistant", "content": "Hello, world! How are you?", "reasoning_content": None})
        self.assertEqual((choice["finish_reason"], choice["matched_stop"], choice["logprobs"]), ("stop", EOT, None))
        usage = answer["usage"]
        self.assertEqual(usage["completion_tokens"], len("Hello, world! How are you?") + 1)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
        self.assertEqual(usage["reasoning_tokens"], 0)
        self.assertIn("cached_tokens", usage["prompt_tokens_details"])

    def test_chat_stream(self):
        answer = self.server.chat("say-hello", stream=True, stream_options={"include_usage": True})
        self.assertTrue(answer.headers["Content-Type"].startswith("text/event-stream"))
        events = answer.events()
        first, last, usage = events[0], events[-2], events[-1]
        self.assertEqual(first["choices"][0]["delta"], {"reasoning_content": None, "role": "assistant", "content": ""})
        self.assertEqual(set(first), {"id", "object", "created", "model", "choices"})
        self.assertEqual(text_of(events), {0: "Hello, world! How are you?"})
        self.assertEqual(last["choices"][0]["delta"], {"reasoning_content": None})
        self.assertEqual((last["choices"][0]["finish_reason"], last["choices"][0]["matched_stop"]), ("stop", EOT))
        self.assertEqual(usage["choices"], [])
        self.assertEqual(usage["usage"]["completion_tokens"], len("Hello, world! How are you?") + 1)
        self.assertEqual(len({(e["id"], e["created"]) for e in events}), 1)
        self.assertTrue(all("usage" not in e for e in events[:-1]))
        for event in events[1:-2]:
            self.assertEqual(set(event["choices"][0]["delta"]), {"reasoning_content", "content"})

    def test_chat_stream_without_usage_has_choices_everywhere(self):
        events = self.server.chat("say-hello", stream=True).events()
        self.assertTrue(all(len(e["choices"]) == 1 for e in events))

    def test_continuous_usage(self):
        events = self.server.chat("say-slowly", stream=True, stream_options={"continuous_usage_stats": True}).events()
        counts = [e["usage"]["completion_tokens"] for e in events if e["choices"][0]["delta"].get("content")]
        self.assertEqual(counts, sorted(counts))
        self.assertEqual((counts[0], counts[-1]), (1, len("step by step")))

    def test_characters_are_never_cut(self):
        for stream in (False, True):
            answer = self.server.chat("say-emoji", stream=stream)
            text = text_of(answer.events())[0] if stream else answer.json["choices"][0]["message"]["content"]
            self.assertEqual(text, "a😀b€c")
        self.assertNotIn("\ufffd", answer.text)

    def test_escapes(self):
        for stream in (False, True):
            answer = self.server.chat("say-quotes", stream=stream)
            text = text_of(answer.events())[0] if stream else answer.json["choices"][0]["message"]["content"]
            self.assertEqual(text, "\"quoted\"\\\n\t\u0001</script>")

    def test_markers_stay_without_parsers_and_other_specials_go(self):
        content = lambda *a, **k: self.server.chat(*a, **k).json["choices"][0]["message"]["content"]
        self.assertEqual(content("say-thought"), "<|channel>thought\nhm\n<channel|>Answer")
        self.assertEqual(content("say-call"), "<|tool_call>call:f{a:1}<tool_call|>")
        self.assertEqual(content("say-turn"), "onetwo")
        self.assertEqual(content("say-turn", skip_special_tokens=False), "one<pad>two")

    def test_reasoning_tokens(self):
        usage = self.server.chat("say-thought", chat_template_kwargs={"enable_thinking": True}).json["usage"]
        self.assertEqual(usage["reasoning_tokens"], 1 + len("thought\nhm\n") + 1)
        self.assertEqual(usage["completion_tokens_details"], {"reasoning_tokens": usage["reasoning_tokens"]})

    def test_n(self):
        answer = self.server.chat("say-hello", n=3).json
        self.assertEqual([c["index"] for c in answer["choices"]], [0, 1, 2])
        self.assertEqual({c["message"]["content"] for c in answer["choices"]}, {"Hello, world! How are you?"})
        one = self.server.chat("say-hello").json["usage"]
        self.assertEqual(answer["usage"]["prompt_tokens"], one["prompt_tokens"])
        self.assertEqual(answer["usage"]["completion_tokens"], 3 * one["completion_tokens"])
        events = self.server.chat("say-hello", n=2, stream=True).events()
        self.assertEqual(text_of(events), {0: "Hello, world! How are you?", 1: "Hello, world! How are you?"})
        ends = [e["choices"][0]["index"] for e in events if e["choices"][0]["finish_reason"]]
        self.assertEqual(ends, [0, 1])
        self.assertEqual([bool(e["choices"][0]["finish_reason"]) for e in events[-2:]], [True, True])

    def test_max_tokens(self):
        for field in ("max_tokens", "max_completion_tokens"):
            answer = self.server.chat("say-hello", **{field: 5}).json
            self.assertEqual(answer["choices"][0]["message"]["content"], "Hello")
            self.assertEqual(answer["choices"][0]["finish_reason"], "length")
            self.assertIsNone(answer["choices"][0]["matched_stop"])
            self.assertEqual(answer["usage"]["completion_tokens"], 5)
        self.assertEqual(self.server.chat("say-hello", max_tokens=0).json["choices"][0]["finish_reason"], "stop")
        both = self.server.chat("say-hello", max_tokens=9, max_completion_tokens=2).json
        self.assertEqual(both["usage"]["completion_tokens"], 2)

    def test_stop_strings(self):
        for stop in ("world", ["zzz", "world"]):
            choice = self.server.chat("say-hello", stop=stop).json["choices"][0]
            self.assertEqual(choice["message"]["content"], "Hello, ")
            self.assertEqual((choice["finish_reason"], choice["matched_stop"]), ("stop", "world"))
        kept = self.server.chat("say-hello", stop="world", no_stop_trim=True).json["choices"][0]
        self.assertEqual(kept["message"]["content"], "Hello, world")
        events = self.server.chat("say-hello", stop="world", stream=True).events()
        self.assertEqual(text_of(events), {0: "Hello, "})
        self.assertEqual(events[-1]["choices"][0]["matched_stop"], "world")
        self.assertTrue(self.server.wait_idle())

    def test_stop_token_ids(self):
        comma = self.server.post("/tokenize", {"prompt": ","}).json["tokens"][0]
        choice = self.server.chat("say-hello", stop_token_ids=[comma]).json["choices"][0]
        self.assertEqual((choice["message"]["content"], choice["matched_stop"]), ("Hello", comma))

    def test_length_beats_a_stop_string(self):
        choice = self.server.chat("say-hello", stop="Hello", max_tokens=5).json["choices"][0]
        self.assertEqual((choice["finish_reason"], choice["matched_stop"]), ("length", None))
        self.assertEqual(choice["message"]["content"], "Hello")
        events = self.server.chat("say-hello", stop="Hello", max_tokens=5, stream=True).events()
        self.assertEqual((text_of(events)[0], events[-1]["choices"][0]["finish_reason"]), ("Hello", "length"))
        native = self.server.post("/generate", {"text": "say-hello", "sampling_params": {
            "max_new_tokens": 5, "stop": ["lo"]}}).json
        self.assertEqual((native["text"], native["meta_info"]["finish_reason"]), ("Hello", {"type": "length", "length": 5}))
        one_more = self.server.chat("say-hello", stop="Hello", max_tokens=6).json["choices"][0]
        self.assertEqual((one_more["finish_reason"], one_more["message"]["content"]), ("stop", ""))

    def test_ignore_eos(self):
        answer = self.server.chat("say-hello", ignore_eos=True, max_tokens=40).json
        self.assertEqual(answer["choices"][0]["finish_reason"], "length")
        self.assertEqual(answer["usage"]["completion_tokens"], 40)

    def test_logprobs(self):
        choice = self.server.chat("say-hello", logprobs=True, top_logprobs=2, max_tokens=3).json["choices"][0]
        entries = choice["logprobs"]["content"]
        self.assertEqual([e["token"] for e in entries], ["H", "e", "l"])
        self.assertEqual(entries[0]["bytes"], [72])
        self.assertTrue(all(len(e["top_logprobs"]) == 2 for e in entries))
        self.assertTrue(all(isinstance(e["logprob"], float) for e in entries))
        events = self.server.chat("say-hello", logprobs=True, stream=True, max_tokens=3).events()
        streamed = [t for e in events for c in e["choices"] if c["logprobs"] for t in c["logprobs"]["content"]]
        self.assertEqual([t["token"] for t in streamed], ["H", "e", "l"])

    def test_rid_is_the_id(self):
        self.assertEqual(self.server.chat("say-hello", rid="my-request").json["id"], "my-request")

    def test_chat_input_ids_and_meta_info(self):
        ids = self.server.post("/tokenize", {"prompt": "say-hello"}).json["tokens"]
        answer = self.server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}],
                                                           "input_ids": ids, "return_meta_info": True}).json
        self.assertEqual(answer["usage"]["prompt_tokens"], len(ids))
        meta = answer["choices"][0]["meta_info"]
        self.assertEqual(meta["finish_reason"], {"type": "stop", "matched": EOT})
        self.assertEqual(meta["completion_tokens"], answer["usage"]["completion_tokens"])

    def test_harmless_fields(self):
        answer = self.server.chat("say-hello", user="u", unknown_field={"a": [1]}, reasoning_effort=None,
                                  session_id="s", thinking=None, return_hidden_states=False, lora_path=None, store=True,
                                  metadata={"a": "b"}, service_tier="auto", response_format={"type": "text"},
                                  tools=None, tool_choice=None, stop=None, temperature=None, logit_bias=None)
        self.assertEqual(answer.status, 200, answer.text)

    # ---- completions

    def test_completion(self):
        answer = self.server.post("/v1/completions", {"prompt": "say-hello", "max_tokens": 100}).json
        self.assertEqual(answer["object"], "text_completion")
        self.assertEqual(answer["choices"], [{"index": 0, "text": "Hello, world! How are you?", "logprobs": None,
                                              "finish_reason": "stop", "matched_stop": EOT}])
        self.assertEqual(self.server.post("/v1/completions", {"prompt": "say-hello"}).json["usage"]["completion_tokens"],
                         16)

    def test_completion_drops_markers(self):
        answer = self.server.post("/v1/completions", {"prompt": "say-call", "max_tokens": 100}).json
        self.assertEqual(answer["choices"][0]["text"], "call:f{a:1}")

    def test_completion_stream(self):
        events = self.server.post("/v1/completions", {"prompt": "say-hello", "max_tokens": 100, "stream": True}).events()
        self.assertEqual("".join(e["choices"][0]["text"] for e in events), "Hello, world! How are you?")
        self.assertEqual([e["choices"][0]["finish_reason"] for e in events if e["choices"][0]["finish_reason"]], ["stop"])
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], "stop")
        self.assertTrue(all(e["usage"] is None for e in events))
        with_usage = self.server.post("/v1/completions", {"prompt": "say-hello", "stream": True,
                                                          "stream_options": {"include_usage": True}}).events()
        self.assertEqual(with_usage[-1]["choices"], [])
        self.assertEqual(with_usage[-1]["usage"]["completion_tokens"], 16)

    def test_completion_batch_n_echo(self):
        ids = self.server.post("/tokenize", {"prompt": "say-emoji"}).json["tokens"]
        answer = self.server.post("/v1/completions", {"prompt": ["say-hello", "say-emoji"], "n": 2, "max_tokens": 50,
                                                      "echo": True}).json
        self.assertEqual([c["index"] for c in answer["choices"]], [0, 1, 2, 3])
        self.assertEqual([c["text"] for c in answer["choices"]],
                         ["say-helloHello, world! How are you?"] * 2 + ["say-emojia😀b€c"] * 2)
        by_ids = self.server.post("/v1/completions", {"prompt": [ids], "max_tokens": 50, "echo": True}).json
        self.assertEqual(by_ids["choices"][0]["text"], "say-emojia😀b€c")
        flat = self.server.post("/v1/completions", {"prompt": ids, "max_tokens": 50}).json
        self.assertEqual(flat["choices"][0]["text"], "a😀b€c")

    def test_completion_logprobs(self):
        choice = self.server.post("/v1/completions", {"prompt": "say-hello", "max_tokens": 3, "logprobs": 2}).json["choices"][0]
        lists = choice["logprobs"]
        self.assertEqual(lists["tokens"], ["H", "e", "l"])
        self.assertEqual(lists["text_offset"], [-1, -1, -1])
        self.assertEqual([len(lists["token_logprobs"]), len(lists["top_logprobs"])], [3, 3])

    # ---- /generate

    def generate(self, **body):
        return self.server.post("/generate", body)

    def test_generate(self):
        answer = self.generate(text="say-hello", sampling_params={"max_new_tokens": 5}).json
        self.assertEqual(answer["text"], "Hello")
        self.assertEqual(len(answer["output_ids"]), 5)
        meta = answer["meta_info"]
        self.assertEqual(meta["finish_reason"], {"type": "length", "length": 5})
        self.assertEqual((meta["prompt_tokens"], meta["completion_tokens"]), (9, 5))
        for key in ("id", "weight_version", "num_retractions", "reasoning_tokens", "cached_tokens", "e2e_latency",
                    "response_sent_to_client_ts"):
            self.assertIn(key, meta)

    def test_generate_by_ids_and_put(self):
        ids = self.server.post("/tokenize", {"prompt": "say-hello"}).json["tokens"]
        answer = self.server.request("PUT", "/generate", {"input_ids": ids, "sampling_params": {"max_new_tokens": 2}})
        self.assertEqual(answer.json["text"], "He")

    def test_generate_zero_tokens(self):
        answer = self.generate(text="say-hello", sampling_params={"max_new_tokens": 0}).json
        self.assertEqual((answer["text"], answer["output_ids"]), ("", []))
        self.assertEqual(answer["meta_info"]["finish_reason"]["type"], "length")

    def test_generate_stream_is_cumulative(self):
        events = self.generate(text="say-hello", stream=True, sampling_params={"max_new_tokens": 50}).events()
        texts = [e["text"] for e in events]
        for before, after in zip(texts, texts[1:]):
            self.assertTrue(after.startswith(before))
        self.assertEqual(texts[-1], "Hello, world! How are you?")
        self.assertEqual([e["meta_info"]["completion_tokens"] for e in events], [len(e["output_ids"]) for e in events])
        self.assertEqual(events[-1]["output_ids"][-1], EOT)
        self.assertEqual(events[-1]["meta_info"]["finish_reason"], {"type": "stop", "matched": EOT})
        self.assertTrue(all(e["meta_info"]["finish_reason"] is None for e in events[:-1]))
        self.assertNotIn("index", events[0])

    def test_generate_batch_and_n(self):
        answer = self.generate(text=["say-hello", "say-emoji"], sampling_params={"max_new_tokens": 50, "n": 2}).json
        self.assertEqual([a["text"] for a in answer], ["Hello, world! How are you?"] * 2 + ["a😀b€c"] * 2)
        events = self.generate(text=["say-hello", "say-emoji"], stream=True,
                               sampling_params=[{"max_new_tokens": 3}, {"max_new_tokens": 50}]).events()
        last = {e["index"]: e["text"] for e in events}
        self.assertEqual(last, {0: "Hel", 1: "a😀b€c"})
        self.assertIsInstance(self.generate(text=["say-hello"]).json, list)

    def test_generate_rids(self):
        answer = self.generate(text=["say-hello", "say-emoji"], rid=["a", "b"]).json
        self.assertEqual([a["meta_info"]["id"] for a in answer], ["a", "b"])
        answer = self.generate(text=["say-hello", "say-emoji"], rid="r").json
        self.assertEqual([a["meta_info"]["id"] for a in answer], ["r_0", "r_1"])

    def test_generate_logprobs(self):
        meta = self.generate(text="say-hello", sampling_params={"max_new_tokens": 3}, return_logprob=True,
                             top_logprobs_num=2, token_ids_logprob=[5, 6], return_text_in_logprobs=True).json["meta_info"]
        self.assertEqual([entry[2] for entry in meta["output_token_logprobs"]], ["H", "e", "l"])
        self.assertEqual([len(x) for x in meta["output_top_logprobs"]], [2, 2, 2])
        self.assertEqual([[e[1] for e in x] for x in meta["output_token_ids_logprobs"]], [[5, 6]] * 3)
        self.assertEqual(meta["output_token_logprobs_length"], 3)
        self.assertEqual(meta["input_token_logprobs"], [])

    def test_generate_as_the_benchmark_client_asks(self):
        events = self.generate(text="say-forever", stream=True, lora_path=None, return_logprob=False,
                               return_routed_experts=False, logprob_start_len=-1,
                               sampling_params={"temperature": 0.0, "max_new_tokens": 20, "ignore_eos": True}).events()
        self.assertEqual(events[-1]["meta_info"]["completion_tokens"], 20)

    def test_generate_as_the_front_end_asks(self):
        answer = self.generate(text="say-hello", sampling_params={
            "skip_special_tokens": True, "spaces_between_special_tokens": True, "max_new_tokens": 4, "min_new_tokens": 0,
            "n": 1, "stop": ["Question", "Assistant:", "<|separator|>"], "stop_token_ids": None, "stop_regex": None,
            "temperature": 0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "frequency_penalty": 0.0,
            "presence_penalty": 0.0, "ignore_eos": False, "regex": None, "json_schema": None})
        self.assertEqual(answer.json["text"], "Hell")

    def test_metrics_count(self):
        def value(name):
            for line in self.server.get("/metrics").text.splitlines():
                if line.startswith("sglang:" + name + "{"):
                    return float(line.rsplit(" ", 1)[1])
            self.fail(name)
        before = value("generation_tokens_total"), value("num_requests_total")
        hits = value("cache_hit_rate")
        for _ in range(20):
            self.assertEqual(self.server.get("/health_generate").status, 200)
        self.assertEqual(value("cache_hit_rate"), hits)
        self.assertEqual((value("generation_tokens_total"), value("num_requests_total")), before)
        self.server.chat("say-hello", max_tokens=5)
        self.server.get("/health")
        self.assertEqual((value("generation_tokens_total") - before[0], value("num_requests_total") - before[1]), (5, 1))
        text = self.server.get("/metrics").text
        for name in ("num_running_reqs", "num_queue_reqs", "num_used_tokens", "max_total_num_tokens", "token_usage",
                     "gen_throughput", "cache_hit_rate", "prompt_tokens_total", "num_aborted_requests_total",
                     "cached_tokens_total", "time_to_first_token_seconds_bucket", "inter_token_latency_seconds_bucket",
                     "e2e_request_latency_seconds_bucket", "queue_time_seconds_bucket", "http_requests_total"):
            self.assertIn("sglang:" + name, text)


if __name__ == "__main__":
    unittest.main()
