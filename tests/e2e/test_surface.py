"""The corners of SGLang's surface: extra members of answers, headers, administration, logs."""

import json
import threading
import time
import unittest

from carat_server import Server, eventually, text_of

SCRIPT = [
    {"match": "say-hello", "text": "Hello, world!"},
    {"match": "", "text": "default answer"},
]
HELLO = "Hello, world!"
EOT = 106  # <turn|>


class Extras(unittest.TestCase):
    """Members of answers that only those get who ask."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server(script=SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def ids(self, text):
        return self.server.post("/tokenize", {"prompt": text}).json["tokens"]

    def prompt_ids(self, content):
        return self.server.post("/tokenize", {"messages": [{"role": "user", "content": content}]}).json["tokens"]

    def test_nothing_unasked(self):
        answer = self.server.chat("say-hello").json
        self.assertNotIn("sglext", answer)
        for key in ("prompt_token_ids", "response_token_ids", "meta_info"):
            self.assertNotIn(key, answer["choices"][0])

    def test_token_ids_in_choices(self):
        choice = self.server.chat("say-hello", return_token_ids=True).json["choices"][0]
        self.assertEqual(choice["response_token_ids"], self.ids(HELLO) + [EOT])
        self.assertEqual(choice["prompt_token_ids"], self.prompt_ids("say-hello"))
        choice = self.server.chat("say-hello", return_prompt_token_ids=True).json["choices"][0]
        self.assertEqual(choice["prompt_token_ids"], self.prompt_ids("say-hello"))
        self.assertNotIn("response_token_ids", choice)

    def test_choice_members_are_refused_in_streams(self):
        for field in ("return_token_ids", "return_prompt_token_ids", "return_meta_info"):
            answer = self.server.chat("say-hello", stream=True, **{field: True})
            self.assertEqual(answer.status, 400)
            self.assertIn(f"{field} is not supported with streaming", answer.json["message"])

    def test_sglext(self):
        answer = self.server.chat("say-hello", n=2, return_input_ids_in_sglext=True, return_output_ids_in_sglext=True,
                                  return_cached_tokens_details=True).json
        out = self.ids(HELLO) + [EOT]
        self.assertEqual(answer["sglext"], {
            "routed_experts": None, "cached_tokens_details": {"device": 0, "host": 0}, "spec_tokens_details": None,
            "input_ids": self.prompt_ids("say-hello"), "output_ids": [out, out]})

    def test_sglext_by_header_and_in_streams(self):
        headers = {"X-Sglext-Return-Output-Ids": "1"}
        body = {"messages": [{"role": "user", "content": "say-hello"}], "return_cached_tokens_details": True}
        out = [self.ids(HELLO) + [EOT]]
        answer = self.server.post("/v1/chat/completions", body, headers=headers).json
        self.assertEqual((answer["sglext"]["output_ids"], answer["sglext"]["input_ids"]), (out, None))
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        events = self.server.post("/v1/chat/completions", body, headers=headers).events()
        self.assertEqual((events[-2]["choices"], events[-2]["sglext"]["output_ids"]), ([], out))
        self.assertIn("usage", events[-1])
        framed = self.server.post("/v1/chat/completions", body, headers={**headers, "X-Sglext-Ids-Framed": "1"}).text
        blocks = framed.strip().split("\n\n")
        self.assertEqual(json.loads(blocks[-4].removeprefix("data: "))["sglext"]["cached_tokens_details"],
                         {"device": 0, "host": 0})
        name, data = blocks[-3].split("\n")
        self.assertEqual(name, "event: sglext_ids")
        self.assertEqual(json.loads(data.removeprefix("data: "))["sglext"]["output_ids"], out)

    def test_sglext_of_completions(self):
        body = {"prompt": "say-hello", "return_cached_tokens_details": True}
        self.assertEqual(self.server.post("/v1/completions", body).json["sglext"]["cached_tokens_details"],
                         {"device": 0, "host": 0})
        events = self.server.post("/v1/completions", {**body, "stream": True}).events()
        self.assertEqual((events[-1]["choices"], events[-1]["sglext"]["output_ids"]), ([], None))

    def test_final_usage_of_a_completion_stream_has_no_nulls(self):
        events = self.server.post("/v1/completions", {"prompt": "say-hello", "stream": True,
                                                      "stream_options": {"include_usage": True}}).events()
        self.assertNotIn(None, events[-1]["usage"].values())

    def test_stop_regex(self):
        pattern = r"w\w+d"
        choice = self.server.chat("say-hello", stop_regex=pattern).json["choices"][0]
        self.assertEqual((choice["message"]["content"], choice["finish_reason"], choice["matched_stop"]),
                         ("Hello, ", "stop", pattern))
        events = self.server.chat("say-hello", stop_regex=["zzz", pattern], stream=True).events()
        self.assertEqual(text_of(events), {0: "Hello, "})
        self.assertEqual(events[-1]["choices"][0]["matched_stop"], pattern)
        both = self.server.post("/v1/completions", {"prompt": "say-hello", "stop": "Hello", "stop_regex": "H.+o"}).json
        self.assertEqual(both["choices"][0]["matched_stop"], "Hello")
        native = self.server.post("/generate", {"text": ["say-hello"] * 2, "sampling_params": {
            "stop_regex": pattern, "no_stop_trim": True}}).json
        self.assertEqual([a["text"] for a in native], ["Hello, world"] * 2)
        self.assertEqual(native[0]["meta_info"]["finish_reason"], {"type": "stop", "matched": pattern})
        for bad, message in (("(", "is not supported"), ("a" * 257, "over the 256-byte limit"),
                             (["a"] * 33, "at most 32 stop_regex patterns are allowed, got 33"), (1, "stop_regex")):
            answer = self.server.chat("say-hello", stop_regex=bad)
            self.assertEqual(answer.status, 400)
            self.assertIn(message, answer.json["message"])

    def test_integers_have_64_bits(self):
        for seed, status in ((2**63 - 1, 200), (-2**63, 200), (2**63, 400), (1.5, 400)):
            answer = self.server.post("/generate", {"text": "x", "sampling_params": {"sampling_seed": seed}})
            self.assertEqual(answer.status, status)
        self.assertIn("should be an integer of 64 bits, got 1.5", answer.json["error"])

    def test_vertex(self):
        answer = self.server.post("/vertex_generate", {"instances": [{"text": "say-hello"}, {"text": "x"}],
                                                       "parameters": {"sampling_params": {"max_new_tokens": 5}}}).json
        self.assertEqual([a["text"] for a in answer["predictions"]], ["Hello", "defau"])
        answer = self.server.post("/vertex_generate", {"instances": [{"input_ids": self.ids("say-hello")}]}).json
        self.assertEqual(answer["predictions"][0]["text"], HELLO)
        for bad in ({}, {"instances": []}, {"instances": [1]}, {"instances": [{"text": "x"}, {}]},
                    {"instances": [{"text": "x"}], "parameters": 1}):
            self.assertEqual(self.server.post("/vertex_generate", bad).status, 400)

    def test_routing_headers(self):
        for value, status in (("0", 200), (" 3 ", 200), ("x", 400)):
            answer = self.server.post("/v1/completions", {"prompt": "x"}, headers={"X-Data-Parallel-Rank": value})
            self.assertEqual(answer.status, status)
        self.assertIn("must be an integer, got 'x'", answer.json["message"])

    def test_flags_ask_for_all(self):
        with Server("--return-input-ids", "--return-output-ids", script=SCRIPT) as server:
            sglext = server.chat("say-hello").json["sglext"]
            self.assertEqual(sglext["output_ids"], [self.ids(HELLO) + [EOT]])
            self.assertEqual(sglext["input_ids"], self.prompt_ids("say-hello"))


class Flags(unittest.TestCase):
    """Flags that change what requests get."""

    def test_streams(self):
        with Server("--stream-response-default-include-usage", "--incremental-streaming-output", "--weight-version", "w7",
                    "--stream-interval", "4", script=[{"match": "", "text": HELLO, "ms_per_step": 5}]) as server:
            events = server.chat("say-hello", stream=True).events()
            self.assertEqual((events[-1]["choices"], events[-1]["usage"]["completion_tokens"]), ([], len(HELLO) + 1))
            self.assertEqual(server.post("/v1/completions", {"prompt": "x", "stream": True}).events()[-1]["choices"], [])
            self.assertEqual(server.chat("say-hello").json["metadata"], {"weight_version": "w7"})
            body = {"text": "say-hello", "stream": True, "return_logprob": True}
            events = server.post("/generate", body).events()
            self.assertEqual("".join(e["text"] for e in events), HELLO)
            ids = [i for e in events for i in e["output_ids"]]
            self.assertEqual(len(ids), len(HELLO) + 1)
            logprobs = [x for e in events for x in e["meta_info"]["output_token_logprobs"]]
            self.assertEqual([x[1] for x in logprobs], ids)
            self.assertTrue(all(len(e["output_ids"]) >= 4 for e in events[1:-1]), "tokens per chunk")
            each = server.post("/generate", {**body, "sampling_params": {"stream_interval": 1}}).events()
            self.assertGreater(len(each), len(events))

    def test_sampling_defaults(self):
        preferred = {"max_new_tokens": 3, "stop_token_ids": [1], "temperature": 0.25}
        with Server("--preferred-sampling-params", json.dumps(preferred), script=SCRIPT) as server:
            self.assertEqual(server.get("/model_info").json["preferred_sampling_params"], preferred)
            self.assertEqual(server.chat("say-hello").json["choices"][0]["message"]["content"], "Hel")
            self.assertEqual(server.chat("say-hello", max_tokens=5).json["choices"][0]["message"]["content"], "Hello")
            self.assertEqual(server.post("/generate", {"text": "say-hello"}).json["text"], "Hel")
        with Server("--preferred-sampling-params", '{"no_such": 1}', script=SCRIPT, ready=False) as server:
            self.assertNotEqual(server.process.wait(60), 0)
            self.assertTrue(eventually(lambda: "no_such" in "".join(server.log)))

    def test_prefix_cache_by_salt(self):
        with Server("--enable-cache-report", script=SCRIPT) as server:
            def cached(**more):
                body = {"prompt": "long " * 200, "max_tokens": 1, **more}
                return server.post("/v1/completions", body).json["usage"]["prompt_tokens_details"]["cached_tokens"]
            self.assertEqual(cached(), 0)
            self.assertGreater(cached(), 500)
            for field in ("cache_salt", "extra_key"):
                self.assertEqual(cached(**{field: "a"}), 0)
                self.assertGreater(cached(**{field: "a"}), 500)
                self.assertEqual(cached(**{field: "b"}), 0)
            self.assertEqual(cached(cache_salt="a", extra_key="a"), 0)
            batch = {"text": ["long " * 200] * 2, "sampling_params": {"max_new_tokens": 1}}
            answer = server.post("/generate", {**batch, "extra_key": ["a", "new"]}).json
            self.assertGreater(answer[0]["meta_info"]["cached_tokens"], 500)
            self.assertEqual(answer[1]["meta_info"]["cached_tokens"], 0)
            for bad in ({"extra_key": ["a"]}, {"cache_salt": [1, 2]}, {"priority": [1, 2]}):
                self.assertEqual(server.post("/generate", {**batch, **bad}).status, 400)

    def test_abort_by_prefix(self):
        slow = [{"match": "", "text": "step ", "ms_per_step": 5, "finish": "length"}]
        with Server(script=slow) as server:
            got = {}
            def ask(name, body):
                got[name] = server.post("/generate", {"sampling_params": {"max_new_tokens": 100}, **body}).json
            threads = [threading.Thread(target=ask, args=a) for a in (
                ("batch", {"text": ["a", "b"], "rid": "job"}), ("other", {"text": "c", "rid": "another"}))]
            for thread in threads:
                thread.start()
            self.assertTrue(eventually(lambda: server.load()["num_running_reqs"] == 3))
            self.assertEqual(server.post("/abort_request", {"rid": "job"}).status, 200)
            for thread in threads:
                thread.join()
            reasons = [a["meta_info"]["finish_reason"]["type"] for a in got["batch"]]
            self.assertEqual(reasons, ["abort", "abort"])
            self.assertEqual(got["other"]["meta_info"]["finish_reason"]["type"], "length")

    def test_priorities(self):
        slow = [{"match": "", "text": "step ", "ms_per_step": 2, "finish": "length"}]
        for flags, first in (((), "high"), (("--schedule-low-priority-values-first",), "low")):
            with Server("--enable-priority-scheduling", "--max-running-requests", "1", "--disable-priority-preemption",
                        *flags, script=slow) as server:
                done = []
                def ask(name, priority):
                    server.post("/v1/completions", {"prompt": "x", "max_tokens": 300 if name == "running" else 5,
                                                    "priority": priority})
                    done.append(name)
                threads = []
                for i, (name, priority) in enumerate((("running", 5), ("low", 1), ("high", 9))):
                    threads.append(threading.Thread(target=ask, args=(name, priority)))
                    threads[-1].start()
                    self.assertTrue(eventually(lambda: server.load()["num_total_reqs"] == i + 1))
                for thread in threads:
                    thread.join()
                self.assertEqual(done[:2], ["running", first])
        with Server("--abort-on-priority-when-disabled", script=SCRIPT) as server:
            answer = server.post("/v1/completions", {"prompt": "x", "priority": 1})
            self.assertEqual(answer.status, 400)
            self.assertIn("Using priority is disabled for this server.", answer.json["message"])


class Logs(unittest.TestCase):
    """Access and request logs, as text and as JSON, and changing them while serving."""

    BODY = {"prompt": "say-hello" + "x" * 3000, "temperature": 0.5, "rid": "my-rid"}

    def ask(self, server):
        """The lines that one completion leaves."""
        before = len(server.log)
        self.assertEqual(server.post("/v1/completions", self.BODY).status, 200)
        self.assertTrue(eventually(lambda: any("/v1/completions" in line for line in server.log[before:])))
        time.sleep(0.05)
        return server.log[before:]

    def test_access_lines(self):
        with Server(script=SCRIPT) as server:
            lines = self.ask(server)
            self.assertRegex("".join(lines), r'I 127\.0\.0\.1:\d+ "POST /v1/completions" 200 \d+\.\d ms\n')
            self.assertNotIn("say-hello", "".join(lines))
            server.get("/nothing/here")
            self.assertTrue(eventually(lambda: any('"GET /nothing/here" 404' in line for line in server.log)))
            server.get("/health")
            self.assertNotIn("/health", "".join(server.log))
        with Server("--log-level-http", "warning", script=SCRIPT) as server:
            server.post("/v1/completions", self.BODY)
            server.get("/v1/models")
            self.assertNotIn("/v1/", "".join(line for line in server.log if "Try:" not in line))

    def records(self, lines):
        return {r["event"]: r for r in (json.loads(line) for line in lines if line.startswith("{"))}

    def test_json_records_by_level(self):
        with Server("--log-requests", "--log-requests-format", "json", script=SCRIPT) as server:
            for level in (0, 1, 2, 3):
                self.assertEqual(server.post("/configure_logging", {"log_requests_level": level}).status, 200)
                got = self.records(self.ask(server))
                received, finished = got["request.received"], got["request.finished"]
                self.assertEqual((received["rid"], finished["rid"], received["path"]), ("my-rid", "my-rid", "/v1/completions"))
                self.assertEqual(got["http.answered"]["status"], 200)
                self.assertEqual("temperature" in received["obj"], level >= 1)
                self.assertEqual("prompt" in received["obj"], level >= 2)
                self.assertEqual("text" in finished["out"], level >= 2)
                self.assertEqual(finished["out"]["meta_info"]["finish_reason"]["type"], "stop")
                if level >= 2:
                    self.assertEqual(len(received["obj"]["prompt"]), 3009 if level == 3 else 2048 + 3)
                    self.assertEqual(finished["out"]["text"], HELLO + "<turn|>")

    def test_text_records_and_refusals(self):
        with Server("--log-requests", script=SCRIPT) as server:
            text = "".join(self.ask(server))
            self.assertIn('Receive: {"rid":"my-rid"', text)
            self.assertIn('Finish: {"rid":"my-rid"', text)
            server.post("/v1/completions", {"prompt": "x", "n": 0})
            self.assertTrue(eventually(lambda: any('Receive: {"rid":null' in line for line in server.log)))

    def test_configure_logging(self):
        with Server(script=SCRIPT) as server:
            self.assertNotIn("Receive", "".join(self.ask(server)))
            self.assertEqual(server.post("/configure_logging", {"log_requests": True, "log_requests_level": 3,
                                                                "dump_requests_folder": "/x"}).status, 200)
            self.assertIn("Receive", "".join(self.ask(server)))
            self.assertEqual(server.post("/configure_logging", {"log_requests": False}).status, 200)
            self.assertNotIn("Receive", "".join(self.ask(server)))
            self.assertEqual(server.post("/configure_logging", {"log_level": "error"}).status, 200)
            before = len(server.log)
            server.post("/v1/completions", self.BODY)
            self.assertEqual(len(server.log), before)
            for bad in ({"log_requests": 1}, {"log_requests_level": 4}, {"log_requests_format": "x"}, {"log_level": "x"}):
                self.assertEqual(server.post("/configure_logging", bad).status, 400)


class Administration(unittest.TestCase):
    """Pause and go on, loads, metrics, and what is refused."""

    SCRIPT = [{"match": "slow", "text": "step by step ", "ms_per_step": 5, "finish": "length"}] + SCRIPT

    @classmethod
    def setUpClass(cls):
        cls.server = Server("--enable-metrics", script=cls.SCRIPT)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def pause(self, mode):
        answer = self.server.post("/pause_generation", {"mode": mode})
        self.assertEqual((answer.status, answer.json["status"]), (200, "ok"))

    def go_on(self):
        answer = self.server.post("/continue_generation", {})
        self.assertEqual((answer.status, answer.json["status"]), (200, "ok"))

    def test_pause_keeps_requests_waiting(self):
        for mode in ("in_place", "retract"):
            got = []
            ask = threading.Thread(target=lambda: got.append(self.server.chat("slow", max_tokens=100)))
            ask.start()
            self.assertTrue(eventually(lambda: self.server.load()["num_running_reqs"] == 1))
            self.pause(mode)
            running = 1 if mode == "in_place" else 0
            self.assertTrue(eventually(lambda: self.server.load()["num_running_reqs"] == running))
            late = threading.Thread(target=lambda: got.append(self.server.chat("say-hello")))
            late.start()
            self.assertTrue(eventually(lambda: self.server.load()["num_total_reqs"] == 2))
            self.assertTrue(eventually(lambda: self.server.load()["queues"]["paused"] == 2))
            self.assertEqual(self.server.get("/ready").status, 503)
            self.assertEqual(self.server.get("/health").status, 200)
            self.assertEqual(self.server.post("/flush_cache", {}).status, 400 if mode == "in_place" else 200)
            time.sleep(0.1)
            self.assertEqual(got, [])
            self.go_on()
            ask.join()
            late.join()
            self.assertEqual([a.status for a in got], [200, 200])
            self.assertEqual(max(a.json["usage"]["completion_tokens"] for a in got), 100)
            self.assertEqual(self.server.get("/ready").status, 200)

    def test_pause_aborts_by_default(self):
        got = []
        ask = threading.Thread(target=lambda: got.append(self.server.chat("slow", max_tokens=2000)))
        ask.start()
        self.assertTrue(eventually(lambda: self.server.load()["num_running_reqs"] == 1))
        self.assertEqual(self.server.post("/pause_generation", {}).status, 200)
        ask.join()
        self.assertEqual(got[0].json["choices"][0]["finish_reason"], "abort")
        self.go_on()
        self.assertEqual(self.server.post("/pause_generation", {"mode": "x"}).status, 400)

    def test_a_paused_server_still_stops(self):
        with Server(script=self.SCRIPT) as server:
            got = []
            ask = threading.Thread(target=lambda: got.append(server.chat("slow", max_tokens=20)))
            ask.start()
            self.assertTrue(eventually(lambda: server.load()["num_running_reqs"] == 1))
            server.post("/pause_generation", {"mode": "in_place"})
            self.assertEqual(server.stop(), 0)
            ask.join()
            self.assertEqual(got[0].json["usage"]["completion_tokens"], 20)

    def test_loads(self):
        answer = self.server.get("/v1/loads").json
        self.assertEqual(set(answer), {"timestamp", "version", "accelerator", "num_accelerators", "loads"})
        self.assertTrue({"memory", "queues", "num_waiting_reqs", "token_usage"} <= set(answer["loads"][0]))
        core = self.server.get("/v1/loads?include=core").json["loads"][0]
        self.assertFalse({"memory", "queues"} & set(core))
        self.assertIn("memory", self.server.get("/v1/loads?include=core,memory").json["loads"][0])
        self.assertEqual(self.server.get("/v1/loads?dp_rank=1").json["loads"], [])
        self.assertIn("Invalid include section 'x'", self.server.get("/v1/loads?include=x").json["message"])
        self.assertEqual(self.server.get("/v1/loads?dp_rank=x").status, 400)
        text = self.server.get("/v1/loads?format=prometheus").text
        self.assertRegex(text, r'# TYPE sglang_num_running_reqs gauge\nsglang_num_running_reqs\{dp_rank="0"\} \d+\n')
        self.assertIn('sglang_memory_token_capacity{dp_rank="0"} ', text)

    def metric(self, server, line):
        for text in server.get("/metrics").text.splitlines():
            if text.startswith("sglang:" + line + " ") or text.startswith("sglang:" + line + "{"):
                return float(text.rsplit(" ", 1)[1])
        self.fail(line)

    def test_metrics_by_sample(self):
        with Server("--enable-metrics", "--skip-server-warmup", "--served-model-name", "m", "--collect-tokens-histogram",
                    "--generation-tokens-buckets", "custom", "1", "5", script=self.SCRIPT) as server:
            server.post("/v1/completions", {"prompt": ["say-hello", "x"], "n": 2, "max_tokens": 5})
            label = '{model_name="m"}'
            self.assertEqual(self.metric(server, "num_requests_total" + label), 4)
            self.assertEqual(self.metric(server, "generation_tokens_total" + label), 20)
            for name, count in (("e2e_request_latency_seconds", 4), ("request_time_per_output_token_seconds", 4),
                                ("time_to_first_token_seconds", 4), ("inter_token_latency_seconds", 16),
                                ("queue_time_seconds", 2), ("prompt_tokens_histogram", 2)):
                self.assertEqual(self.metric(server, f"{name}_count" + label), count, name)
            self.assertEqual(self.metric(server, 'generation_tokens_histogram_bucket{model_name="m",le="5.0"}'), 4)
            for stage in ("tokenize", "prefill_waiting", "prefill_forward", "decode_loop"):
                self.metric(server, 'per_stage_req_latency_seconds_count{model_name="m",stage="%s"}' % stage)
            engine = 'model_name="m",engine_type="unified",tp_rank="0",pp_rank="0"'
            self.assertEqual(self.metric(server, 'realtime_tokens_total{%s,mode="decode"}' % engine), 20)
            server.post("/generate", {"text": "say-hello", "log_metrics": False})
            self.assertEqual(self.metric(server, "num_requests_total" + label), 4)

    def test_every_metric_of_the_list(self):
        text = self.server.get("/metrics").text
        for name in ("num_running_reqs num_queue_reqs num_used_tokens max_total_num_tokens token_usage gen_throughput "
                     "cache_hit_rate full_token_usage swa_token_usage num_grammar_queue_reqs num_retracted_reqs "
                     "num_paused_reqs utilization is_cuda_graph page_size num_pages context_len startup_time_seconds "
                     "startup_cuda_graph_time_seconds weight_memory_usage_gb kv_cache_memory_usage_gb "
                     "graph_memory_usage_gb max_total_num_tokens_swa kv_available_tokens kv_evictable_tokens "
                     "kv_used_tokens swa_available_tokens swa_evictable_tokens swa_used_tokens "
                     "num_retracted_input_tokens_total num_retracted_output_tokens_total evicted_tokens_total "
                     "realtime_tokens_total").split():
            self.assertRegex(text, r'sglang:%s\{model_name="[^"]*",engine_type="unified",tp_rank="0",pp_rank="0"' % name)
        for name in ("prompt_tokens_total generation_tokens_total num_requests_total num_so_requests_total num_grammar_total num_aborted_requests_total "
                     "cached_tokens_total time_to_first_token_seconds_bucket inter_token_latency_seconds_bucket "
                     "e2e_request_latency_seconds_bucket queue_time_seconds_bucket "
                     "request_time_per_output_token_seconds_bucket per_stage_req_latency_seconds_bucket").split():
            self.assertRegex(text, r'sglang:%s\{model_name="' % name)

    def test_what_is_not_there(self):
        for path in ("/open_session", "/close_session"):
            answer = self.server.post(path, {})
            self.assertEqual(answer.status, 501)
            self.assertIn(path, answer.json["message"])
        self.assertEqual(self.server.post("/set_internal_state", {"server_args": {"x": 1}}).json, [False])
        for path in ("/v1/score", "/v1/decisions", "/v1/systemone"):
            self.assertEqual(self.server.post(path, {}).status, 501)


if __name__ == "__main__":
    unittest.main()
