"""--device on machines where the GPU cannot be used: what is said, and what happens instead."""

import os
import subprocess
import unittest

from carat_server import BINARY, Server

FAKE_DRIVER = os.environ.get("CARAT_FAKE_DRIVER")  # set where the program has CUDA code
NO_DEVICE, SYSTEM_MISMATCH = "100", "803"  # what cuInit answers

DUMMY = ("--load-format", "dummy", "--port", "0", "--skip-server-warmup")


def fake(**environment):
    return {"LD_LIBRARY_PATH": FAKE_DRIVER, **environment}


class WithoutCudaCode(unittest.TestCase):
    @unittest.skipIf(FAKE_DRIVER, "this program has CUDA code")
    def test_refused(self):
        result = subprocess.run([BINARY, "serve", "--device", "cuda", *DUMMY], capture_output=True, text=True, timeout=60)
        self.assertEqual(result.returncode, 1)
        self.assertIn("built without CUDA code", result.stderr)


@unittest.skipUnless(FAKE_DRIVER, "this program has no CUDA code")
class UnusableGpus(unittest.TestCase):
    CASES = (
        (dict(FAKE_DRIVER_VERSION="12020"), "The GPU driver supports CUDA 12.2, this program needs 13.0 or later."),
        (dict(FAKE_DRIVER_INIT=NO_DEVICE), "No GPU was found"),
        (dict(FAKE_DRIVER_INIT=SYSTEM_MISMATCH), "The GPU driver fails: counting devices: system has unsupported"),
    )

    def test_cuda_is_refused_with_one_message(self):
        for environment, message in self.CASES:
            result = subprocess.run([BINARY, "serve", "--device", "cuda", *DUMMY], capture_output=True, text=True,
                                    timeout=60, env={**os.environ, **fake(**environment)})
            self.assertEqual(result.returncode, 1, result.stderr)
            errors = [line for line in result.stderr.splitlines() if "] E " in line]
            self.assertEqual(len(errors), 1, result.stderr)
            self.assertIn("--device cuda: " + message, errors[0])
            self.assertIn("--device cpu", errors[0])

    def test_auto_names_the_fallback_and_serves(self):
        environment, message = self.CASES[0]
        with Server("--load-format", "dummy", env=fake(**environment)) as server:
            self.assertTrue(any(message + " Computing on the CPU." in line for line in server.log), server.log)
            self.assertEqual(server.chat("Hello", max_tokens=2).status, 200)


if __name__ == "__main__":
    unittest.main()
