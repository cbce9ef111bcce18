"""Every condition that layermesh reports, each named for what the caller does next.

LayermeshError
├── InvalidError          what was given is malformed: tell whoever gave it
├── NotFoundError         not here: ask elsewhere
├── DeniedError           not for this caller: say so, do not ask again
├── UnreachableError      a source gave no answer, or no bytes in time: another may
│   └── ThrottledError    a source asks for patience: wait `retry_after_s`
├── MismatchError         bytes do not hash to their name: drop the source
├── FullError             no room on this disk: stream through without keeping
└── StartError            this process cannot run: one line for the operator
"""


class LayermeshError(Exception):
    """The root; never raised itself."""


class InvalidError(LayermeshError):
    """What was given is malformed. The message names what is wrong and what is allowed."""


class NotFoundError(LayermeshError):
    """It is not here; somewhere else may have it."""


class DeniedError(LayermeshError):
    """It may exist, but not for this caller."""


class UnreachableError(LayermeshError):
    """A source gave no answer, or no bytes in time; another source may."""


class ThrottledError(UnreachableError):
    """A source asked for patience (HTTP 429)."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class MismatchError(LayermeshError):
    """Bytes do not hash to their name, or a size is not the one promised; the source is not to be believed."""


class FullError(LayermeshError):
    """The disk (or the quota) has no room for this blob."""


class StartError(LayermeshError):
    """This process cannot start or go on; the message is one line for the operator, with what to do."""
