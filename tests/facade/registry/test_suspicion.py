"""When a blob that is here is looked at again before it is served."""

from facade.registry.suspicion import SOON_S, Suspicion
from node.digest import Digest

ONE = Digest.of(b"one")


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_blob_asked_for_again_soon_is_doubted_once() -> None:
    suspicion = Suspicion(_Clock())
    assert not suspicion.doubted(ONE)
    suspicion.served(ONE)
    assert suspicion.doubted(ONE)
    suspicion.served(ONE)
    assert not suspicion.doubted(ONE)


def test_a_blob_asked_for_again_much_later_is_not_doubted() -> None:
    clock = _Clock()
    suspicion = Suspicion(clock)
    suspicion.served(ONE)
    clock.now = SOON_S + 1
    assert not suspicion.doubted(ONE)
