# SPDX-License-Identifier: MIT
"""test_spec_example.py LORAPACK SPEC: the smallest file of the spec, taken from its text, is one that lorapack verifies and inspects."""
import json
import pathlib
import re
import subprocess
import sys
import tempfile


def smallest_file(spec):
    """The bytes of the dump in spec 10, and the adapter id that the text states."""
    section = spec[spec.index("\n## 10."):]
    dump = re.search(r"^```lora-hex\n(.*?)^```", section, re.DOTALL | re.MULTILINE).group(1)
    data, last, repeat = bytearray(), b"", False
    for line in dump.splitlines():
        if line == "*":
            repeat = True
            continue
        offset, rest = line.split(None, 1)
        while repeat and len(data) < int(offset, 16):
            data += last
        repeat = False
        if len(data) != int(offset, 16):
            sys.exit(f"the line at {offset} comes after 0x{len(data):x} bytes")
        last = bytes.fromhex(rest.split(";")[0])
        data += last
    return bytes(data), re.search(r"`([0-9a-f]{64})`", section).group(1)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def main():
    lorapack, spec = sys.argv[1:3]
    data, adapter_id = smallest_file(pathlib.Path(spec).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory, "smallest.lora")
        path.write_bytes(data)
        run(lorapack, "verify", path)
        shown = json.dumps(json.loads(run(lorapack, "inspect", "--json", path)))
    if adapter_id not in shown or '"w"' not in shown:
        sys.exit(f"lorapack inspect --json must show adapter {adapter_id} and its target w: {shown}")
    print(f"{len(data)} bytes, adapter {adapter_id}")


if __name__ == "__main__":
    main()
