"""`make proto`: the messages of the control plane, from the .proto files of objectio/rpc/control/proto.

What is made is committed, so that neither building nor running needs a compiler:

    pb/messages.py, pb/reflection.py    the messages, by betterproto2
    pb/pool.py                          where they find each other
    pb/protoset.py                      what protoc says of the files: a FileDescriptorSet, as text

The versions of the tools are in constraints.txt; the tests make everything anew and compare.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTROL = ROOT / "objectio" / "rpc" / "control"
SOURCES = CONTROL / "proto"
TARGET = CONTROL / "pb"
POOL = "objectio.rpc.control.pb.pool"
MODULES = {
    "objectio/v1/__init__.py": "messages.py",
    "grpc/reflection/v1/__init__.py": "reflection.py",
    "message_pool.py": "pool.py",
}
DOCSTRING = '"""Generated from the .proto files by `make proto`: not to be edited."""\n'


def compile_protos(into: Path) -> None:
    """Raises `CalledProcessError`."""
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    files = [str(path.relative_to(SOURCES)) for path in sorted(SOURCES.rglob("*.proto"))]
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCES}"),
            *(f"--python_betterproto2_out={into}", f"--descriptor_set_out={into}/protoset"),
            *("--python_betterproto2_opt=client_generation=none", "--include_source_info"),
            *files,
        ],
        check=True,
        capture_output=True,
        env=environment,
    )


def module(text: str) -> str:
    """As the compiler made it, but for what the rules of this repository ask of every module."""
    text = re.sub(r"^__all__ = \(\n.*?^\)\n", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^# .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^from \.+message_pool import", f"from {POOL} import", text, flags=re.MULTILINE)
    return DOCSTRING + text


def protoset(raw: bytes) -> str:
    lines = textwrap.wrap(base64.b64encode(raw).decode(), 96)
    return f'{DOCSTRING}\nPROTOSET = """\n' + "\n".join(lines) + '\n"""\n'


def generate() -> dict[str, str]:
    """What each module of the package `pb` is to hold."""
    with tempfile.TemporaryDirectory() as name:
        into = Path(name)
        compile_protos(into)
        made = {file: module((into / path).read_text()) for path, file in MODULES.items()}
        made["protoset.py"] = protoset((into / "protoset").read_bytes())
        made["__init__.py"] = DOCSTRING
    return {file: tidy(text, TARGET / file) for file, text in made.items()}


def tidy(text: str, path: Path) -> str:
    done = text
    for command in (["check", "--fix", "--select", "I,UP,F401"], ["format"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--quiet", "--stdin-filename", str(path), "-"],
            input=done,
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
        ).stdout
    return done


def main() -> int:
    TARGET.mkdir(exist_ok=True)
    for file, text in generate().items():
        (TARGET / file).write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
