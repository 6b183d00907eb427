"""Pictures and sound in every form that the routes have, on the built-in miniature, which sees and hears."""

import http.server
import random
import re
import socket
import struct
import tempfile
import threading
import time
import unittest
import zlib
from pathlib import Path

import media_files
from carat_server import Server, text_of
from media_files import encoded

IMAGE_TOKENS = 264  # of a picture with the shape of 1280 x 720


def png(seed, width=32, height=18):
    return media_files.png(width, height, random.Random(seed).randbytes(3 * width * height))


def wav(seconds=1.0, seed=0):
    return media_files.wav(random.Random(seed).randbytes(2 * int(16000 * seconds)))


def url(seed, **size):
    return "data:image/png;base64," + encoded(png(seed, **size))


def image(seed):
    return {"type": "image_url", "image_url": {"url": url(seed)}}


def text(words):
    return {"type": "text", "text": words}


class Files(http.server.BaseHTTPRequestHandler):
    """A picture at /picture; nothing at /never, for as long as the test goes on."""
    released = threading.Event()

    def do_GET(self):
        if self.path == "/never":
            self.released.wait(60)
        body = png(1) if self.path == "/picture" else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Media(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        Path(cls.folder.name, "picture.png").write_bytes(png(1))
        cls.files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
        cls.files.daemon_threads = True
        threading.Thread(target=cls.files.serve_forever, daemon=True).start()
        cls.address = f"http://127.0.0.1:{cls.files.server_address[1]}"
        cls.server = Server("--enable-cache-report", "--enable-metrics", "--max-total-tokens", "65536", "--reasoning-parser", "gemma4",
                            "--allow-private-media", "--allowed-local-media-path", cls.folder.name, "--mm-io-worker-num", "2",
                            "--limit-mm-data-per-request", '{"image": 16, "audio": 2}')

    @classmethod
    def tearDownClass(cls):
        Files.released.set()
        cls.files.shutdown()
        cls.files.server_close()
        cls.server.stop()
        cls.folder.cleanup()

    def chat(self, content, **more):
        more = {"temperature": 0, "max_tokens": 4, "logprobs": True, "ignore_eos": True, **more}
        answer = self.server.chat(content, **more)
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json

    def seen(self, content, **more):
        return [t["logprob"] for t in self.chat(content, **more)["choices"][0]["logprobs"]["content"]]

    def refused(self, part, content, status=400):
        answer = self.server.chat(content if isinstance(content, list) else [content], max_tokens=1)
        self.assertEqual(answer.status, status, answer.text)
        self.assertIn(part, answer.error_message)

    def test_what_the_model_says_of_itself(self):
        info = self.server.get("/model_info").json
        self.assertTrue(info["has_image_understanding"] and info["has_audio_understanding"])

    def test_the_same_picture_the_same_answer(self):
        once = self.seen([image(1), text("What?")])
        self.assertEqual(self.seen([image(1), text("What?")]), once)
        self.assertNotEqual(self.seen([image(2), text("What?")]), once)
        self.assertNotEqual(self.seen([text("What?"), image(1)]), once)

    def test_order_counts(self):
        self.assertNotEqual(self.seen([image(1), image(2)]), self.seen([image(2), image(1)]))

    def test_a_picture_is_in_the_prefix_cache(self):
        first = self.chat([image(11), text("once")])["usage"]["prompt_tokens_details"]
        self.assertEqual(first, {"cached_tokens": 0, "image_tokens": IMAGE_TOKENS})
        again = self.chat([image(11), text("once")])["usage"]["prompt_tokens_details"]
        self.assertGreaterEqual(again["cached_tokens"], 256)
        other = self.chat([image(12), text("once")])["usage"]["prompt_tokens_details"]
        self.assertEqual(other["cached_tokens"], 0)

    def test_cached_answers_are_those_of_the_first_time(self):
        content = [text("a"), image(13), text("b"), image(13), text("c")]
        self.assertEqual(self.seen(content), self.seen(content))

    def test_all_forms_of_one_picture(self):
        want = self.seen([image(1), text("What?")])
        for form in (url(1), {"url": url(1), "detail": "high"}, {"url": encoded(png(1))}, self.address + "/picture",
                     f"file://{self.folder.name}/picture.png"):
            self.assertEqual(self.seen([{"type": "image_url", "image_url": form}, text("What?")]), want, form)

    def test_usage_and_counts(self):
        usage = self.chat([image(1), image(2)])["usage"]
        self.assertEqual(usage["prompt_tokens_details"]["image_tokens"], 2 * IMAGE_TOKENS)
        messages = [{"role": "user", "content": [image(1), image(2)]}]
        tokens = self.server.post("/tokenize", {"messages": messages}).json
        self.assertEqual(tokens["count"], usage["prompt_tokens"])
        self.assertEqual(len(tokens["tokens"]), tokens["count"])
        self.assertEqual(sum(t == max(set(tokens["tokens"]), key=tokens["tokens"].count) for t in tokens["tokens"]), 2 * IMAGE_TOKENS)
        blocks = [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded(png(s))}} for s in (1, 2)]
        counted = self.server.post("/v1/messages/count_tokens", {"model": "m", "messages": [{"role": "user", "content": blocks}]}).json
        self.assertEqual(counted["input_tokens"], usage["prompt_tokens"])

    def test_sixteen_pictures(self):
        usage = self.chat([image(s) for s in range(16)], max_tokens=1)["usage"]
        self.assertEqual(usage["prompt_tokens_details"]["image_tokens"], 16 * IMAGE_TOKENS)
        self.refused("Image count 17 exceeds limit 16 per request.", [image(s) for s in range(17)])

    def test_sound(self):
        def sound(seed, seconds=1.0):
            return [{"type": "input_audio", "input_audio": {"data": encoded(wav(seconds, seed)), "format": "wav"}}, text("Hear?")]
        once = self.chat(sound(1))
        self.assertEqual(once["usage"]["prompt_tokens_details"]["audio_tokens"], 25)
        self.assertNotEqual(self.seen(sound(1)), self.seen(sound(2)))
        by_url = [{"type": "audio_url", "audio_url": {"url": "data:audio/wav;base64," + encoded(wav(1.0, 1))}}, text("Hear?")]
        self.assertEqual(self.seen(by_url), self.seen(sound(1)))
        both = self.chat([image(1), *sound(1, 30.0)], max_tokens=1)["usage"]["prompt_tokens_details"]
        self.assertEqual((both["image_tokens"], both["audio_tokens"]), (IMAGE_TOKENS, 750))

    def test_sound_that_is_not_heard_is_told_in_the_log(self):
        long = {"type": "input_audio", "input_audio": {"data": encoded(wav(30.5)), "format": "wav"}}
        self.chat([long, long], max_tokens=1)
        told = [line for line in self.server.log if "hears the first 30 s" in line]
        self.assertEqual(len(told), 1, self.server.log)
        self.assertIn("1 s were left out", told[0])

    def metric(self, name, modality=""):
        found = re.search(rf'^sglang:{name}{{[^}}]*{modality}[^}}]*}} (\S+)$', self.server.get("/metrics").text, re.M)
        return float(found.group(1))

    def test_metrics(self):
        names = ("mm_media_load_seconds_count", "mm_media_download_seconds_count", "mm_media_failed_total")
        before = [self.metric(name, "image") for name in names]
        self.chat([image(1), {"type": "image_url", "image_url": self.address + "/picture"}], max_tokens=1)
        self.refused("404", {"type": "image_url", "image_url": {"url": self.address + "/nothing"}})
        self.assertEqual([self.metric(name, "image") - b for name, b in zip(names, before)], [2, 2, 1])
        with self.server.open_stream("/v1/chat/completions", {"messages": [{"role": "user", "content": [image(1)]}], "stream": True,
                                                              "ignore_eos": True, "max_tokens": 8000}) as raw:
            while b"data: " not in raw.recv(4096):
                pass
            self.assertEqual(self.metric("mm_media_held_bytes"), IMAGE_TOKENS * 48 * 48 * 3)
        end = time.monotonic() + 10
        while self.metric("mm_media_held_bytes") and time.monotonic() < end:
            time.sleep(0.02)
        self.assertEqual(self.metric("mm_media_held_bytes"), 0)
        self.assertEqual(self.metric("mm_media_waiting_bytes"), 0)

    def test_video(self):
        corpus = Path(__file__).resolve().parent.parent / "corpus/video_fuzz"
        for name in ("h264.mp4", "animated.gif"):
            video = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64," + encoded((corpus / name).read_bytes())}}
            messages = [{"role": "user", "content": [video, text("What moves?")]}]
            tokens = self.server.post("/tokenize", {"messages": messages})
            if tokens.status == 400 and "FFmpeg" in tokens.text:
                self.skipTest(tokens.json["message"])
            spelled = self.server.post("/detokenize", {"tokens": tokens.json["tokens"], "skip_special_tokens": False}).json["text"]
            frames = re.findall(r"(\d\d:\d\d) <\|image>((?:<\|video\|>)+)<image\|>( ?)", spelled)
            self.assertTrue(1 <= len(frames) <= 32, spelled[:300])
            self.assertEqual([f[0] for f in frames], sorted(f[0] for f in frames))
            self.assertEqual([f[2] for f in frames], [" "] * (len(frames) - 1) + [""])
            usage = self.chat(messages[0]["content"], max_tokens=1)["usage"]
            self.assertEqual(usage["prompt_tokens"], tokens.json["count"])
            self.assertEqual(usage["prompt_tokens_details"]["video_tokens"], spelled.count("<|video|>"))

    def test_history_and_tool_results(self):
        tool = {"type": "function", "function": {"name": "look"}}
        messages = [{"role": "user", "content": [text("Look"), image(1)]}, {"role": "assistant", "content": "A picture."},
                    {"role": "user", "content": "Take one."},
                    {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
                    {"role": "tool", "tool_call_id": "c", "content": [text("done"), image(2)]}]

        def usage(messages):
            answer = self.server.post("/v1/chat/completions", {"messages": messages, "tools": [tool], "max_tokens": 1})
            self.assertEqual(answer.status, 200, answer.text)
            return answer.json["usage"]["prompt_tokens_details"]["image_tokens"]
        self.assertEqual(usage(messages), 2 * IMAGE_TOKENS)

    def test_streams(self):
        content = [image(3), text("Say")]
        whole = self.chat(content, max_tokens=16)["choices"][0]["message"]["content"]
        events = self.server.chat(content, max_tokens=16, temperature=0, ignore_eos=True, stream=True,
                                  stream_options={"include_usage": True}).events()
        self.assertEqual(text_of(events)[0], whole)
        self.assertEqual(events[-1]["usage"]["prompt_tokens_details"]["image_tokens"], IMAGE_TOKENS)

    def test_other_routes(self):
        want = self.chat([image(1), text("What?")], max_tokens=8)["choices"][0]["message"]["content"]
        answer = self.server.post("/v1/responses", {"input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": url(1)}, {"type": "input_text", "text": "What?"}]}], "temperature": 0, "max_output_tokens": 8})
        self.assertEqual(answer.status, 200, answer.text)
        spoken = self.server.post("/v1/messages", {"model": "m", "max_tokens": 8, "temperature": 0, "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded(png(1))}}, text("What?")]}]})
        self.assertEqual(spoken.status, 200, spoken.text)
        usage = spoken.json["usage"]
        self.assertEqual(usage["input_tokens"] + usage["cache_read_input_tokens"], answer.json["usage"]["input_tokens"])
        ollama = self.server.post("/api/chat", {"model": "m", "stream": False, "options": {"temperature": 0, "num_predict": 8},
                                                "messages": [{"role": "user", "content": "What?", "images": [encoded(png(1))]}]})
        self.assertEqual(ollama.status, 200, ollama.text)
        self.assertGreater(ollama.json["prompt_eval_count"], IMAGE_TOKENS)
        self.assertTrue(want)

    def test_generate(self):
        def ask(prompt, media, **more):
            return self.server.post("/generate", {**prompt, "image_data": media, "sampling_params": {
                "temperature": 0, "max_new_tokens": 4, "ignore_eos": True}, **more})
        one = ask({"text": "<bos>see <|image|>!"}, url(1))
        self.assertEqual(one.status, 200, one.text)
        self.assertEqual(one.json["meta_info"]["image_tokens"], IMAGE_TOKENS)
        ids = self.server.post("/tokenize", {"prompt": "<bos>see <|image|>!", "add_special_tokens": False}).json["tokens"]
        self.assertEqual(ask({"input_ids": ids}, [url(1)]).json["output_ids"], one.json["output_ids"])
        expanded = ask({"text": "<bos>see <|image>" + "<|image|>" * 7 + "<image|>!"}, [[url(1)]])
        self.assertEqual(expanded.json["output_ids"], one.json["output_ids"])
        batch = ask({"text": ["<bos>see <|image|>!", "none"]}, [url(1), None]).json
        self.assertEqual(batch[0]["output_ids"], one.json["output_ids"])
        self.assertNotIn("image_tokens", batch[1]["meta_info"])
        for prompt, media in (("<|image|>", [url(1), url(2)]), ("<|image|><|image|>", url(1)), ("none", url(1))):
            answer = ask({"text": prompt}, media)
            self.assertEqual(answer.status, 400)
            self.assertIn("placeholders for", answer.json["error"]["message"])
        words = self.server.post("/generate", {"text": "<|image|>", "sampling_params": {"max_new_tokens": 1}})
        self.assertEqual((words.status, words.json["meta_info"]["prompt_tokens"]), (200, 1))

    def test_words_are_not_pictures(self):
        plain = self.chat("<|image|> is a token", max_tokens=1)["usage"]
        self.assertIsNone(plain["prompt_tokens_details"].get("image_tokens"))
        self.assertLess(plain["prompt_tokens"], IMAGE_TOKENS)
        mixed = self.chat([text("<|image|> is a token, this is one:"), image(1)], max_tokens=1)["usage"]
        self.assertEqual(mixed["prompt_tokens_details"]["image_tokens"], IMAGE_TOKENS)

    def test_refusals(self):
        def at(address):
            return {"type": "image_url", "image_url": {"url": address}}
        self.refused("no known format", at("data:image/png;base64," + encoded(b"no picture at all")))
        self.refused("base64", at("data:image/png;base64,!!!"))
        self.refused("PNG", at("data:image/png;base64," + encoded(png(1)[:60])))
        self.refused("404", at(self.address + "/nothing"))
        self.refused("file:///etc/passwd"[7:], at("file:///etc/passwd"))
        self.refused("Medium 2 of 2 (image): ", [image(1), at("data:,x")])
        bomb = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
        self.refused("60000", at("data:image/png;base64," + encoded(
            b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bomb + struct.pack(">I", zlib.crc32(b"IHDR" + bomb)))), status=413)
        answer = self.server.post("/v1/chat/completions", {"messages": [{"role": "system", "content": [image(1)]}, {"role": "user", "content": "x"}]})
        self.assertEqual(answer.status, 400)
        self.assertIn("no place in the prompt", answer.json["message"])
        streamed = self.server.chat([at("data:,x")], stream=True)
        self.assertEqual(streamed.status, 400)

    def test_too_long_with_its_pictures(self):
        answer = self.server.chat([image(s) for s in range(16)], max_tokens=32768)
        self.assertEqual(answer.status, 400)
        self.assertIn("maximum context length", answer.json["message"])

    def test_an_address_that_does_not_answer_holds_up_only_addresses(self):
        stuck = [self.server.open_stream("/v1/chat/completions", {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": self.address + "/never"}}]}]}) for _ in range(2)]
        try:
            time.sleep(0.2)
            for content in ("Hello", [image(1)]):
                start = time.monotonic()
                self.chat(content, max_tokens=1)
                self.assertLess(time.monotonic() - start, 10)
            behind = self.server.open_stream("/v1/chat/completions", {"messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": self.address + "/picture"}}]}], "max_tokens": 1})
            stuck.append(behind)
            behind.settimeout(0.3)
            with self.assertRaises(socket.timeout):
                behind.recv(1)
            Files.released.set()
            behind.settimeout(60)
            self.assertIn(b"200 OK", behind.recv(4096))
        finally:
            Files.released.set()
            for raw in stuck:
                raw.close()


class Ends(unittest.TestCase):
    """Addresses that never answer, and those who do not wait for them."""

    def setUp(self):
        self.listener = socket.create_server(("127.0.0.1", 0))  # connections are taken, nothing is ever said

    def tearDown(self):
        self.listener.close()

    def ask(self, server):
        return server.open_stream("/v1/chat/completions", {"max_tokens": 1, "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": f"http://127.0.0.1:{self.listener.getsockname()[1]}/"}}]}]})

    def wait_for_fetches(self, count):
        self.listener.settimeout(10)
        return [self.listener.accept()[0] for _ in range(count)]

    def test_a_client_that_goes_away_ends_its_fetch(self):
        with Server("--allow-private-media", "--mm-io-worker-num", "1") as server:
            with self.ask(server):
                fetch, = self.wait_for_fetches(1)
            fetch.settimeout(1)
            with fetch:
                while fetch.recv(4096):  # ends when the server closes its side; a time-out is an error
                    pass
            with self.ask(server):
                self.wait_for_fetches(1)[0].close()  # the thread is free again

    def test_the_end_of_the_server_does_not_wait_for_fetches(self):
        with Server("--allow-private-media") as server:
            stuck = [self.ask(server) for _ in range(3)]
            fetches = self.wait_for_fetches(3)
            start = time.monotonic()
            self.assertEqual(server.stop(), 0)
            self.assertLess(time.monotonic() - start, 5)
            for raw in stuck:
                answer = raw.recv(4096)
                self.assertIn(b"503", answer.split(b"\r\n")[0])
                self.assertIn(b"shutting down", answer)
            for raw in stuck + fetches:
                raw.close()


class Closed(unittest.TestCase):
    """What the defaults and the other flags do not let in."""

    def refused(self, server, part, address, kind="image"):
        answer = server.chat([{"type": f"{kind}_url", f"{kind}_url": {"url": address}}], max_tokens=1)
        self.assertEqual(answer.status, 400, answer.text)
        self.assertIn(part, answer.error_message)

    def test_defaults(self):
        with Server() as server:
            self.refused(server, "127.0.0.1", "http://127.0.0.1:9/picture")
            self.refused(server, "--allowed-local-media-path", "file:///etc/passwd")

    def test_the_folder_of_local_media_must_be_one(self):
        with Server("--allowed-local-media-path", "/no/such/folder", ready=False) as server:
            self.assertEqual(server.process.wait(60), 1)
            server._reader.join(10)
            self.assertIn("--allowed-local-media-path: '/no/such/folder' is no folder", "".join(server.log))

    def test_domains_and_sizes(self):
        with Server("--allowed-media-domains", "example.org", "--allow-private-media", "--media-url-max-file-size-mb", "1") as server:
            self.refused(server, "localhost", "http://localhost/picture")
            large = "data:image/png;base64," + encoded(bytes(1 << 20) + b"x")
            answer = server.chat([{"type": "image_url", "image_url": {"url": large}}], max_tokens=1)
            self.assertEqual(answer.status, 413, answer.text)

    def test_text_only(self):
        with Server("--language-model-only") as server:
            self.refused(server, "takes no image input", url(1))
            self.refused(server, "takes no audio input", "data:,", kind="audio")
            self.refused(server, "takes no video input", "data:,", kind="video")
            self.assertFalse(server.get("/model_info").json["has_image_understanding"])


if __name__ == "__main__":
    unittest.main()
