"""One GET, its body dropped; prints how many seconds it took from sending the request to the last byte.

Runs as a module so that it can be started inside a network namespace.
"""

import argparse
import time
from contextlib import closing

from tests.bench.content import MANIFEST_TYPE
from tests.bench.wire import Wire


def get(host: str, port: int, target: str) -> float:
    """Seconds from sending the request to the last byte.

    Raises:
        MeasureError: when the answer is not a whole 200.
    """
    with closing(Wire(host, port)) as wire:
        started = time.perf_counter()
        wire.send(target, accept=f"{MANIFEST_TYPE}, */*")
        wire.head()
        wire.take_body()
        return time.perf_counter() - started


def main() -> None:
    """Get it once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("target")
    options = parser.parse_args()
    print(get(options.host, options.port, options.target))


if __name__ == "__main__":
    main()
