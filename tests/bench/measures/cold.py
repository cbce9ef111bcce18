"""What only the upstream has: a pull by a client whose node is empty, the upstream on loopback."""

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final

from tests.bench.content import MIB, UpstreamStorage
from tests.bench.context import OURS, Bench, rotations
from tests.bench.pull import Puller
from tests.bench.rows import Aim, Outcome, Row
from tests.bench.servers import DISTRIBUTION, NAMESPACE, bare_proxy, docker_registry, layermesh, pull_through_cache

_DIRECT: Final = "direct"
_PROXY: Final = "bare aiohttp proxy"
_QUERY: Final = f"?ns={NAMESPACE}"
_LAYERS: Final = 5
_LAYER_BYTES: Final = 4 * MIB


def first_byte(bench: Bench) -> Iterator[Outcome]:
    """Cold, the upstream on loopback: from sending the GET of a layer to the first byte of its body.

    Each round has an image of its own with five layers of 4 MiB, pulled one layer at a time over one kept connection
    after its manifest, as clients do: directly and through each contender, in rotating order. Samples pair by layer.
    The node fetches the layer ahead that is behind the one being pulled, so the first layers, which nothing fetched
    ahead, are shown on their own as well. The bare proxy shows what any aiohttp server between the two costs.
    """
    with ExitStack() as stack:
        storage = UpstreamStorage(bench.work / "upstream")
        registry = stack.enter_context(docker_registry(storage.root, bench.work))
        url = f"http://127.0.0.1:{registry.port}"
        servers, missing = bench.started(stack, {DISTRIBUTION: partial(pull_through_cache, url, bench.work)})
        yield from missing
        servers[_PROXY] = stack.enter_context(bare_proxy(url, bench.work))
        servers[OURS] = stack.enter_context(layermesh(bench.work / "node", bench.work, upstream=url))
        repository = "bench/first"
        pullers = {name: Puller("127.0.0.1", server.port, repository) for name, server in servers.items()}
        pullers |= {
            _DIRECT: Puller("127.0.0.1", registry.port, repository),
            OURS: Puller("127.0.0.1", servers[OURS].port, repository, _QUERY),
        }
        samples: dict[str, tuple[float, ...]] = dict.fromkeys(pullers, ())
        for number, order in enumerate(rotations(6 * bench.rounds + 1, list(pullers))):
            image = storage.image(repository, f"v{number}", [_LAYER_BYTES] * _LAYERS)
            for name in order:
                pulled = pullers[name].pull(image.tag, parallel=1, check=number == 0)
                if number:
                    samples[name] += tuple(1000 * seconds for seconds in pulled.first_byte_s)
    for what, step in (("cold layers", 1), ("cold first layers", _LAYERS)):
        for peer, bound in ((_DIRECT, 2.0), (_PROXY, None), (DISTRIBUTION, None)):
            if peer in samples:
                ours, theirs = samples[OURS][::step], samples[peer][::step]
                told = f"{what}, upstream on loopback: first byte"
                yield Row(bench.name, told, "ms", ours, Aim.ABOVE_BY_AT_MOST, peer, theirs, bound)
