"""What the program needs from the machine: glibc and nothing else."""

import os
import re
import subprocess
import unittest

from carat_server import BINARY

ALLOWED = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "ld-linux-x86-64.so.2",
           "ld-linux-aarch64.so.1"}
RUNTIME = {"libstdc++.so.6", "libgcc_s.so.1"}
NEWEST_GLIBC = (2, 35)


class Binary(unittest.TestCase):
    def needed(self):
        out = subprocess.run(["readelf", "-d", BINARY], capture_output=True, text=True, check=True).stdout
        return set(re.findall(r"\(NEEDED\).*\[(.*?)\]", out))

    def test_needed_libraries(self):
        sanitized = any(name.startswith(("libasan", "libubsan", "libtsan")) for name in self.needed())
        if sanitized:
            self.skipTest("a build with sanitizers needs their libraries")
        static = os.environ.get("CARAT_STATIC_RUNTIME") == "1"
        self.assertLessEqual(self.needed(), ALLOWED if static else ALLOWED | RUNTIME)

    def test_glibc_versions(self):
        out = subprocess.run(["objdump", "-T", BINARY], capture_output=True, text=True, check=True).stdout
        versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_(\d+\.\d+)", out)}
        self.assertTrue(versions)
        self.assertLessEqual(max(versions), NEWEST_GLIBC)


if __name__ == "__main__":
    unittest.main()
