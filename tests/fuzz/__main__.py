"""Search for inputs that break a target, for as long as you like.

    python -m tests.fuzz request --seconds 600
    python -m tests.fuzz policy --corpus /tmp/corpus      with atheris (`pip install atheris`)

With atheris installed the search is guided by what code an input reaches, and what it finds is kept in
the corpus; without it, inputs are made at random from the seeds. The first failure ends the search, with
the bytes that cause it.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("target", choices=("request", "policy", "chunked", "xml"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--corpus", type=Path, help="a directory to keep what is found (atheris)")
    parser.add_argument("--random", action="store_true", help="do not use atheris")
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None or options.random:
        return search(options.target, options.seconds)
    return guided(options.target, options.seconds, options.corpus)


def search(name: str, seconds: float) -> int:
    from tests.fuzz.mutate import Mutator
    from tests.fuzz.targets import make_targets

    target, seed = make_targets()[name], random.randrange(2**32)
    mutator, end, count = Mutator(target.seeds, seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = mutator.make()
        count += 1
        try:
            target.run(data)
        except Exception:
            print(f"input {count} of seed {seed} fails: {data!r}", file=sys.stderr)
            raise
    print(f"{name}: {count} inputs in {seconds:g} s, none of which fails")
    return 0


def guided(name: str, seconds: float, corpus: Path | None) -> int:
    import atheris

    with atheris.instrument_imports(include=["objectio", "objectio_api_s3"]):
        from tests.fuzz.targets import make_targets
    target = make_targets()[name]
    arguments = [sys.argv[0], f"-max_total_time={int(seconds)}", "-max_len=8192", "-timeout=10"]
    if corpus is not None:
        corpus.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(target.seeds):
            (corpus / f"seed-{number}").write_bytes(data)
        arguments.append(str(corpus))
    atheris.Setup(arguments, target.run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
