"""carat-nano, the default: what it was taught, asked as a user asks, one test per group of abilities. Right is what means the right thing. Every test asks a few
questions and lets the model, which is very small, be wrong about one."""

import json
import subprocess
import unittest
from pathlib import Path

from carat_server import BINARY, Server
from media_files import avi, beeps, drawing, encoded

WEIGHTS = Path(__file__).resolve().parents[2] / "models/nano/base/model.safetensors"

FACTS = "Hugo lives in Basel. Ada has a cat. The lamp is in the attic. The code of Nora is 4711. Emma likes honey. The boat is red."
# About 320 tokens: what stands before them is more than two windows of 128 away.
FILLER = " ".join(f"{name} lives in {city}. The {thing} costs {10 + 7 * k} euro. {name} has a {animal}." for k, (name, city, thing, animal) in enumerate(zip(
    "Karl Lena Paul Rosa Tim Vera Otto Mia Igor Julia Finn Clara Max Olga Leo".split(), "Rome Oslo Paris Lima Delhi Riga Porto Kyoto Bern Cairo Milan Tunis Seoul Miami Lyon".split(),
    "chair table sofa drum flag kite mug oven pen piano ring rope saw scarf shoe".split(), "dog horse goat fox owl bear duck frog hen lion panda pig seal swan wolf".split())))

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "Get the current weather of a city.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "City name"}}, "required": ["city"]}}}
TIMER = {"type": "function", "function": {"name": "set_timer", "description": "Start a timer.", "parameters": {
    "type": "object", "properties": {"minutes": {"type": "integer", "description": "Length in minutes"}}, "required": ["minutes"]}}}


def picture(data):
    return {"type": "image_url", "image_url": {"url": "data:image/png;base64," + encoded(data)}}


def sound(data):
    return {"type": "input_audio", "input_audio": {"data": encoded(data), "format": "wav"}}


def film(kind, dx, dy):
    """A shape that crosses the picture in a second."""
    frames = [drawing(160, 120, (kind, "blue", 80 + dx * (k - 3.5) * 10, 60 + dy * (k - 3.5) * 7, 18)) for k in range(8)]
    return {"type": "video_url", "video_url": {"url": "data:video/x-msvideo;base64," + encoded(avi(frames, 160, 120, 8))}}


class Nano(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not WEIGHTS.exists():
            print(f"\nno {WEIGHTS.name} in models/nano/base: carat-nano is not tested", flush=True)
            raise unittest.SkipTest("carat-nano's weights are not there")
        cls.server = Server("--reasoning-parser", "auto", "--tool-call-parser", "auto", "--max-total-tokens", "32768", model=None)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def message(self, content, *, before=(), **more):
        """The model's message in answer to `content`."""
        body = {"messages": [*before, {"role": "user", "content": content}], "temperature": 0, "max_tokens": 200, **more}
        answer = self.server.post("/v1/chat/completions", body)
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json["choices"][0]["message"]

    def check(self, *cases, wrong=1, **more):
        """`cases`: (content, what the answer must contain)."""
        answers = [(self.message(content, **more)["content"], expected) for content, expected in cases]
        missed = [(expected, got) for got, expected in answers if expected not in (got or "")]
        self.assertLessEqual(len(missed), wrong, missed)

    def test_the_start_says_what_to_ask(self):
        log = "".join(self.server.log)
        self.assertIn("carat-nano", log)
        self.assertIn("What is 347 + 285?", log)
        self.assertEqual(self.server.get("/v1/models").json["data"][0]["id"], "carat/carat-nano")

    def test_chat_in_the_terminal(self):
        result = subprocess.run([BINARY, "chat", "--engine-only", "--prompt", "What is 20 + 22?"], capture_output=True, text=True, timeout=60)
        self.assertEqual((result.returncode, result.stdout), (0, "20 + 22 = 42\n"), result.stderr)

    def test_conversation(self):
        self.check(("Hello!", "carat-nano"), ("What can you do?", "add and compare numbers"), ("Thank you!", "welcome"))
        before = [{"role": "user", "content": "My name is Nina."}, {"role": "assistant", "content": "Nice to meet you, Nina!"}]
        self.assertIn("Nina", self.message("What is my name?", before=before)["content"])
        rule = [{"role": "system", "content": "Answer in capital letters."}]
        self.assertIn("BASEL", self.message(FACTS + "\nWhere does Hugo live?", before=rule)["content"])

    def test_numbers_and_words(self):
        self.check(("What is 347 + 285?", "632"), ("What is 58 - 23?", "35"), ("Which number is larger: 512 or 498?", "512 is larger"),
                   ("Sort these words: pear, apple, fig, melon", "apple, fig, melon, pear"), ("Reverse this list: cat, boat, lamp", "lamp, boat, cat"),
                   ("Count the words: cat boat lamp", "3"), ("Repeat after me: the red boat", "the red boat"))

    def test_facts_far_back(self):
        questions = [("Where does Hugo live?", "Basel"), ("Which animal does Ada have?", "cat"), ("What is the code of Nora?", "4711"), ("Which colour is the boat?", "red")]
        self.check(*[(f"{FACTS}\n{q}", a) for q, a in questions])
        self.check(*[(f"{FACTS} {FILLER}\n{q}", a) for q, a in questions])

    def test_thinking_helps(self):
        sums = [("What is 37 * 46?", "1702"), ("What is 345 + 678 + 912 + 204?", "2139"), ("What is 58 * 73?", "4234"), ("What is 127 + 455 + 860 + 319 + 98?", "1859")]
        thinking = {"chat_template_kwargs": {"enable_thinking": True}}
        self.check(*sums, **thinking)
        self.assertTrue(self.message(sums[0][0], **thinking)["reasoning_content"])
        direct = [self.message(question)["content"] for question, _ in sums]
        self.assertLessEqual(sum(total in got for got, (_, total) in zip(direct, sums)), 2, direct)

    def test_tools(self):
        def calls(content):
            message = self.message(content, tools=[WEATHER, TIMER])
            return [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in message.get("tool_calls") or []]

        self.assertEqual(calls("What is the weather in Oslo?"), [("get_weather", {"city": "Oslo"})])
        self.assertEqual(calls("Set a timer for 25 minutes."), [("set_timer", {"minutes": 25})])
        self.assertEqual(calls("What is the weather in Rome and Paris?"), [("get_weather", {"city": "Rome"}), ("get_weather", {"city": "Paris"})])
        self.assertEqual(calls("What is 20 + 22?"), [])
        call = {"id": "call_0", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
        answer = self.server.post("/v1/chat/completions", {"tools": [WEATHER], "temperature": 0, "messages": [
            {"role": "user", "content": "What is the weather in Oslo?"}, {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_0", "content": '{"temp": 17, "sky": "cloudy"}'}]}).json["choices"][0]["message"]["content"]
        self.assertIn("17 degrees and cloudy in Oslo", answer)

    def test_json_for_a_schema(self):
        schema = {"type": "object", "properties": {"name": {"type": "string"}, "city": {"type": "string"}, "age": {"type": "integer"}},
                  "required": ["name", "city", "age"], "additionalProperties": False}
        form = {"response_format": {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}}
        answer = self.message("Write name, city and age as JSON: Lena lives in Oslo and is 34 years old.", **form)["content"]
        self.assertEqual(json.loads(answer), {"name": "Lena", "city": "Oslo", "age": 34})

    def test_pictures(self):
        def seen(question, *shapes):
            return [picture(drawing(192, 128, *shapes)), {"type": "text", "text": question}]

        three = [("circle", "blue", x, y, 16) for x, y in ((32, 32), (96, 34), (160, 94))]
        self.check((seen("What is in this picture?", ("circle", "red", 90, 60, 40)), "A red circle"), (seen("Which shape is this?", ("triangle", "blue", 100, 64, 40)), "triangle"),
                   (seen("Which colour is the square?", ("square", "green", 80, 64, 36)), "Green"), (seen("How many circles are there?", *three), "3"),
                   (seen("On which side is the circle?", ("circle", "red", 50, 60, 24), ("square", "blue", 142, 66, 24)), "left"))
        two = [picture(drawing(128, 128, ("circle", colour, 64, 64, 40))) for colour in ("red", "blue")]
        self.assertIn("Yes", self.message([*two, {"type": "text", "text": "Do both pictures show the same shape?"}])["content"])

    def test_sounds(self):
        def heard(question, *args, **more):
            return [sound(beeps(*args, **more)), {"type": "text", "text": question}]

        self.check((heard("How many beeps do you hear?", 3, 800), "3"), (heard("Count the beeps.", 5, 600), "5"),
                   (heard("Is the tone high or low?", 1, 1800, length=0.6), "high"), (heard("Is the tone high or low?", 1, 200, length=0.6), "low"))

    def test_films(self):
        self.check(*[([film(kind, dx, dy), {"type": "text", "text": f"Which way does the {kind} move?"}], f"moves {way}")
                     for kind, dx, dy, way in (("circle", 1, 0, "right"), ("circle", -1, 0, "left"), ("square", 0, 1, "down"), ("triangle", 0, -1, "up"))])


if __name__ == "__main__":
    unittest.main()
