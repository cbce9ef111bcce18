"""`make bench`: measure layermesh beside docker-registry, distribution, nginx and bare aiohttp.

Timings are never asserted: a missed target is said in the table, and the exit status is 0. It is 1 when a measurement
failed, 2 for wrong usage.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.bench.context import Bench
from tests.bench.measures import (
    between,
    cold,
    crowd,
    delegated,
    files,
    gateway,
    ingest,
    kubo,
    linked,
    many,
    memory,
    own,
    peer,
    start,
    warm,
)
from tests.bench.others import Others
from tests.bench.report import show, write
from tests.bench.rows import Disturbed, Failed, Missing, MissingToolError, Outcome

MEASURES: Final[dict[str, Callable[[Bench], Iterator[Outcome]]]] = {
    "manifest": warm.manifest,
    "tag": warm.tag,
    "blob": warm.blob,
    "first-byte": cold.first_byte,
    "link": linked.link,
    "slow-link": linked.slow_link,
    "ingest": ingest.ingest,
    "peer": peer.peer,
    "gateway": gateway.gateway,
    "between": between.between,
    "between-link": between.between_link,
    "memory": memory.memory,
    "start": start.start,
    "crowd": crowd.crowd,
    "own": own.own,
    "push": own.push,
    "many": many.many,
    "delegated": delegated.delegated,
    "files": files.files,
    "kubo-publish": kubo.publish,
    "kubo-read": kubo.read,
    "kubo-nobody": kubo.nobody,
}


def main() -> int:
    """Run the measurements that were asked for."""
    options = _options()
    started = datetime.now(UTC)
    outcomes: list[Outcome] = []
    for name in options.only or MEASURES:
        outcomes += _measure(name, quick=options.quick)
        write(outcomes, options.json, started)
    show(outcomes, Console(width=None if sys.stdout.isatty() else 180))
    return 1 if any(isinstance(outcome, Failed) for outcome in outcomes) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure layermesh beside its peers.")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), metavar="NAME", help=", ".join(MEASURES))
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), metavar="PATH", help="default: bench.json")
    return parser.parse_args()


def _measure(name: str, *, quick: bool) -> list[Outcome]:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.1f} s] {name}: {text}", file=sys.stderr, flush=True)

    outcomes: list[Outcome] = []
    others = Others()
    with tempfile.TemporaryDirectory(prefix="layermesh-bench-") as folder:
        bench = Bench(name, Path(folder), rounds=2 if quick else 5, seconds=0.5 if quick else 1.0, say=say)
        say("starting")
        try:
            outcomes.extend(MEASURES[name](bench))
        except MissingToolError as error:
            outcomes.append(Missing(name, error.peer, error.provides))
        except Exception as error:  # the others go on; the table names this one
            say(f"failed: {error!r}")
            outcomes.append(Failed(name, f"{type(error).__name__}: {error}"[:600]))
    outcomes.append(Disturbed(name, others.cores()))
    say(f"done; other processes kept {others.cores():.2f} cores busy")
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
