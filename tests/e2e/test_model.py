"""The built-in miniature on the CPU: everything but sense."""

import threading
import unittest

from carat_server import Server, text_of

PROMPTS = ["The capital of France is", "x", "a b c d e f g " * 40, "Numbers: 1 2 3 4 5", "<bos>again " * 30]


class Miniature(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--enable-cache-report", "--max-running-requests", "8")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def generate(self, text, **params):
        params = {"temperature": 0, "max_new_tokens": 24, "ignore_eos": True, **params}
        return self.server.post("/generate", {"text": text, "sampling_params": params}).json

    def test_start_line_says_what_it_is(self):
        self.assertIn("random weights", "".join(self.server.log))
        self.assertIn("curl http://127.0.0.1:", "".join(self.server.log))

    def test_answers(self):
        answer = self.server.chat("Hello", max_tokens=8).json
        self.assertGreaterEqual(answer["usage"]["completion_tokens"], 1)
        events = self.server.chat("Hello", max_tokens=8, stream=True).events()
        self.assertIsNotNone(events[-1]["choices"][0]["finish_reason"])

    def test_alone_in_a_batch_and_from_the_cache(self):
        alone = [self.generate(p)["output_ids"] for p in PROMPTS]
        self.assertEqual([self.generate(p)["output_ids"] for p in PROMPTS], alone)
        self.assertGreater(self.generate(PROMPTS[2])["meta_info"]["cached_tokens"], 0)
        self.assertEqual(self.server.post("/flush_cache?timeout=10", None).status, 200)
        together = {}
        def ask(i):
            together[i] = self.generate(PROMPTS[i % len(PROMPTS)])["output_ids"]
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(3 * len(PROMPTS))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        self.assertEqual([together[i] for i in range(3 * len(PROMPTS))], alone * 3)

    def test_streamed_equals_whole(self):
        whole = self.server.chat("Tell me", temperature=0, max_tokens=40).json["choices"][0]["message"]["content"]
        events = self.server.chat("Tell me", temperature=0, max_tokens=40, stream=True).events()
        self.assertEqual(text_of(events)[0], whole)

    def test_seeds(self):
        once = self.generate("seed", temperature=1, sampling_seed=5)["output_ids"]
        self.assertEqual(self.generate("seed", temperature=1, sampling_seed=5)["output_ids"], once)
        self.assertNotEqual(self.generate("seed", temperature=1, sampling_seed=6)["output_ids"], once)
        twins = self.server.post("/generate", {"text": "seed", "sampling_params": {
            "temperature": 1, "max_new_tokens": 24, "ignore_eos": True, "n": 2}}).json
        self.assertNotEqual(twins[0]["output_ids"], twins[1]["output_ids"])

    def test_logprobs_of_the_prompt(self):
        body = {"text": "hello", "sampling_params": {"max_new_tokens": 2, "temperature": 0}, "return_logprob": True,
                "logprob_start_len": 0, "top_logprobs_num": 2, "return_text_in_logprobs": True}
        meta = self.server.post("/generate", body).json["meta_info"]
        self.assertEqual([entry[2] for entry in meta["input_token_logprobs"]], list("hello"))
        self.assertIsNone(meta["input_token_logprobs"][0][0])
        self.assertIsNone(meta["input_top_logprobs"][0])
        self.assertTrue(all(e[0] < 0 for e in meta["input_token_logprobs"][1:]))
        for chosen, best in zip(meta["output_token_logprobs"], meta["output_top_logprobs"]):
            self.assertEqual(chosen[:2], best[0][:2])
        echoed = self.server.post("/v1/completions", {"prompt": "hello", "echo": True, "logprobs": 1, "max_tokens": 2,
                                                      "temperature": 0}).json["choices"][0]
        self.assertEqual(echoed["logprobs"]["tokens"][:5], list("hello"))
        self.assertIsNone(echoed["logprobs"]["token_logprobs"][0])
        self.assertEqual(len(echoed["logprobs"]["tokens"]), 7)

    def test_bias_and_limits(self):
        token = self.server.post("/tokenize", {"prompt": "Z"}).json["tokens"][0]
        answer = self.server.chat("x", temperature=0, max_tokens=5, logit_bias={str(token): 100}).json
        self.assertEqual(answer["choices"][0]["message"]["content"], "ZZZZZ")
        answer = self.generate("x", min_new_tokens=10, max_new_tokens=10, ignore_eos=False)
        self.assertEqual(len(answer["output_ids"]), 10)


if __name__ == "__main__":
    unittest.main()
