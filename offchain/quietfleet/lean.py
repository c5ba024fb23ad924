"""What a sensor's process leaves out of memory: Python's own OpenSSL, beside the one that `cryptography` brings.

`asyncio` and `hashlib` load it where there is one, and do without it as in a Python that was built so. Who speaks no
TLS needs none of it: links are encrypted by devp2p, messages by their session, keys are derived by `cryptography`.
"""

from __future__ import annotations

import sys
from typing import Final

from quietfleet.settings import ChainSection

_OPENSSL: Final = ("ssl", "_hashlib")


def speaks_tls(chain: ChainSection) -> bool:
    """Tell whether a worker needs TLS to see its chain; a bell needs it anyhow, for web3."""
    endpoints = (chain.rpc, chain.second, *chain.fallbacks)
    return bool(chain.ws) or any(one.lower().startswith("https:") for one in endpoints)


def leave_out_openssl() -> None:
    """Run as a Python without OpenSSL from here on; what is loaded already stays as it is."""
    for name in _OPENSSL:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # so that its import fails (importlib)
