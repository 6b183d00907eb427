"""The programs of the Gemma 4 page in SGLang's cookbook, as they are, against scripted replies that think and call tools.

They need the openai package: CARAT_CLIENT_PYTHON names an interpreter that has it (default: this one). The programs lie in the
shared folder beside the checkout; without either the tests are skipped.
"""

import os
import subprocess
import sys
import unittest
from pathlib import Path

from carat_server import Server

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parents[2] / "shared/tools/clients/examples"
PYTHON = os.environ.get("CARAT_CLIENT_PYTHON", sys.executable)


def has_openai():
    return subprocess.run([PYTHON, "-c", "import openai"], capture_output=True).returncode == 0


@unittest.skipUnless(EXAMPLES.is_dir(), f"{EXAMPLES} is not there")
@unittest.skipUnless(has_openai(), f"{PYTHON} has no openai package")
class PageExamples(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--reasoning-parser", "gemma4", "--tool-call-parser", "gemma4", "--load-format", "scripted",
                            "--script", str(HERE / "page_examples.jsonl"))

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def run_example(self, name):
        env = {**os.environ, "BASE_URL": f"http://127.0.0.1:{self.server.port}/v1"}
        done = subprocess.run([PYTHON, EXAMPLES / name], env=env, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        print(f"--- {name}\n{done.stdout}", end="", file=sys.stderr)
        return done.stdout

    def test_basic(self):
        self.assertEqual(self.run_example("4_1_basic.py"),
                         "TCP is connection-oriented: it orders and repeats segments until they arrive.\n"
                         "UDP sends single datagrams and promises nothing.\n")

    def test_reasoning(self):
        self.assertEqual(self.run_example("4_3_reasoning.py"),
                         "=============== Thinking =================\n"
                         "Distance is speed times time: 60 * 2.5 = 150.\n\n"
                         "=============== Content =================\n"
                         "1. Distance = speed x time\n2. 60 km/h x 2.5 h = **150 km**\n")

    def test_tools(self):
        self.assertEqual(self.run_example("4_4_tools.py"),
                         "Tool Call: get_weather\n   Arguments: \n"
                         "Tool Call: None\n   Arguments: {\"location\": \"Tokyo\", \"unit\": \"celsius\"}\n\n")


if __name__ == "__main__":
    unittest.main()
