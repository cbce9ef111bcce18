"""The promise: whatever upstream and peers do, a pull is right, or fails as a direct one would, and never hangs."""

import pytest

from tests.facade.matrix.cells import CELLS, Cell, problems
from tests.facade.matrix.workers import Results


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_pull_is_right_or_fails_as_a_direct_one_would(cell: Cell, results: Results) -> None:
    result = results.of(cell)
    found = problems(cell, result)
    assert not found, "\n".join([*found, *map(str, (result.direct, result.through, result.again)), *result.log])
