"""What `layermesh up` says of a Kubo that cannot be used: one line, however often it is looked at."""

import time
from contextlib import ExitStack
from pathlib import Path

from tests.facade.cli.beside import beside
from tests.facade.cli.started import LIMIT_S, started
from tests.fakes.kubo import FakeKubo
from tests.fakes.kubo_faults import KuboFaults

_LOOKS = 3


def test_each_kubo_that_cannot_be_used_is_told_of_in_one_line(tmp_path: Path) -> None:
    cases = (
        (KuboFaults(version="0.39.9"), "kubo", "Kubo 0.39.9 is too old: at least 0.40 is needed"),
        (KuboFaults(trickle=True), "ipfshttpclient", "makes other CIDs than this node"),
        (KuboFaults(html=True), "kubo", "is no Kubo RPC"),
        (KuboFaults(gateway_html=True), "kubo", "gives no answer as one: see Addresses.Gateway"),
    )
    with ExitStack() as running:
        kubos = [running.enter_context(beside(FakeKubo(faults=faults))) for faults, _, _ in cases]
        nodes = []
        for index, (kubo, (_, client, _)) in enumerate(zip(kubos, cases, strict=True)):
            data = tmp_path / str(index)
            nodes.append(running.enter_context(started(tmp_path, data, "--ipfs", f"{client}={kubo.rpc}")))
        deadline = time.monotonic() + LIMIT_S
        while any(kubo.asked.count("id") < _LOOKS for kubo in kubos):
            assert time.monotonic() < deadline, [kubo.asked for kubo in kubos]
            time.sleep(0.1)
        for node, (faults, _, words) in zip(nodes, cases, strict=True):
            node.stop()
            status, logged = node.ended()
            told = [line for line in logged.splitlines() if "kubo can" in line]
            assert (status, len(told)) == (0, 1), (faults, logged)
            assert "kubo cannot be used" in told[0] and words in told[0]
