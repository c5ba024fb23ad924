"""All fuzz targets, by name."""

import fuzz_chain
import fuzz_devp2p
import fuzz_mixnet
import fuzz_network
import fuzz_rlp
import fuzz_session
import fuzz_storage
import fuzz_whisper
from harness import CORPUS, TARGETS, Target

MODULES = (fuzz_rlp, fuzz_devp2p, fuzz_network, fuzz_whisper, fuzz_mixnet, fuzz_session, fuzz_chain, fuzz_storage)

__all__ = ["CORPUS", "MODULES", "TARGETS", "Target"]
