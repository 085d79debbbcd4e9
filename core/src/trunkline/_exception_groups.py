"""What a group of exceptions says: a plugin whose step uses a task group raises one, even for a single error."""

from __future__ import annotations

from collections.abc import Iterator

from trunkline._exception_text import exception_text
from trunkline.errors import RemoteError, TrunklineError


def singles(error: Exception) -> Iterator[Exception]:
    """Yield the exceptions in a group and in the groups in it; for another exception, itself."""
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from singles(inner)
    else:
        yield error


def most_telling(error: Exception) -> TrunklineError | None:
    """Return the error of Trunkline in a group, or `None`. Of several, the first that another attempt cannot mend."""
    known = [single for single in singles(error) if isinstance(single, TrunklineError)]
    final = (single for single in known if not (isinstance(single, RemoteError) and single.retryable))
    return next(final, known[0] if known else None)


def described(error: Exception) -> str:
    """Return the class and the text of an exception, or of each exception in a group."""
    return "; ".join(map(exception_text, singles(error)))
