"""Names of hosts."""


def is_host(name: str) -> bool:
    """Whether a resolver can be asked for it: no label is empty, or longer than 63 bytes; a dot may end it."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True
