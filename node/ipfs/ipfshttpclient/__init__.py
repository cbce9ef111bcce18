"""A Kubo daemon by way of the library ipfshttpclient, for those who have that in place (`layermesh[ipfshttpclient]`).

It is not the default. Of version 0.7.0 (2021, the last one), beside a Kubo 0.43, was measured:

- its `connect()` refuses every daemon since 0.8, so that is not called;
- `add` sends `raw-leaves=false` unless it is told otherwise, whatever `opts` say, and the CID is another one then;
- `cat` of a file that has lost a block returns what comes before it, with no error;
- what it decodes, it keeps in memory, however much comes; a wait can be bounded, but not be ended;
- it blocks, so each call holds a thread, and it speaks to the RPC alone: 256 MiB are read, by verified blocks, in 1.3
  to 1.7 s, where the daemon's gateway takes 0.3 s and a sixth of the processor time; adding takes as long by either;
- it warns of a parameter that urllib3 3 will refuse.
"""

import importlib.util

from node.errors import StartError


def check_installed() -> None:
    """That the library is here, without loading it.

    Raises:
        StartError: when it is not, with what to do.
    """
    if importlib.util.find_spec("ipfshttpclient") is None:
        raise StartError("ipfshttpclient is not installed: pip install 'layermesh[ipfshttpclient]', or --ipfs kubo=URL")
