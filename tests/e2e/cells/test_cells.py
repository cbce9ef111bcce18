"""Real clients before an upstream and a peer that misbehave: the right bytes, or the clean failure of a direct pull."""

import pytest

from tests.e2e.cells.conftest import Record
from tests.e2e.cells.scene import DIRECT_NAME, NO_END_S, open_scene
from tests.e2e.cells.stage import OTHER
from tests.e2e.cells.table import CELLS, CONTAINERD_24, Cell, Ends, Form
from tests.e2e.network import Network
from tests.e2e.process import wait_until
from tests.e2e.runtimes.containerd import Containerd
from tests.e2e.runtimes.runtime import assert_unpacked, pull
from tests.facade.matrix.cells import IMAGE
from tests.facade.matrix.upstreams import TAG, Behind

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_pull_is_right_or_fails_as_a_direct_one_would(
    cell: Cell, network: Network, secret: str, record_cell: Record
) -> None:
    with open_scene(cell, network, secret) as scene:
        played = scene.play()
        record_cell(cell, played)
        assert played.through is cell.ends or cell.worse, played
        assert played.direct is not Ends.RIGHT or played.through is Ends.RIGHT or cell.worse, f"worse: {played}"
        assert played.again is Ends.RIGHT, played
        wait_until(lambda: all(scene.node.stored().values()), "all that the node keeps is whole and right")


def test_layers_that_stall_hold_up_no_other_pull_of_the_machine(network: Network, secret: str) -> None:
    """containerd 2.4 has three slots for layers; without a node, all three stay taken."""
    cell = Cell("", CONTAINERD_24, Form.ALONE, "stalls")
    with open_scene(cell, network, secret) as scene:
        at_node, direct = scene.client, scene.direct
        stage, other = scene.stage, f"{scene.stage.elsewhere.address}/library/other:{TAG}"
        stage.spoil(cell)
        stalled = at_node.pulling(scene.image), direct.pulling(DIRECT_NAME)
        for behind in (stage.behind, stage.direct):
            wait_until(lambda behind=behind: _all_began(behind), "each layer stalls")  # type: ignore[misc]
        for client in (at_node, direct):
            assert isinstance(client, Containerd)
            client.trust(stage.elsewhere.address)
        held = direct.pulling(other)
        pull(at_node, other)
        assert_unpacked(at_node, other, OTHER)
        assert held.running
        wait_until(lambda: not stalled[0].running, "the pull that stalled has an end", NO_END_S)
        assert stalled[1].running


def _all_began(behind: Behind) -> bool:
    return all(behind.registry.sent[str(layer.digest)] for layer in IMAGE.layers)
