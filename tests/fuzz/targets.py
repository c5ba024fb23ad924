"""All fuzz targets, by name."""

import fuzz_answers
import fuzz_chain
import fuzz_devp2p
import fuzz_messenger
import fuzz_mixnet
import fuzz_network
import fuzz_papers
import fuzz_rlp
import fuzz_session
import fuzz_storage
import fuzz_whisper
from harness import CORPUS, TARGETS, Target

MODULES = (
    fuzz_answers,
    fuzz_chain,
    fuzz_devp2p,
    fuzz_messenger,
    fuzz_mixnet,
    fuzz_network,
    fuzz_papers,
    fuzz_rlp,
    fuzz_session,
    fuzz_storage,
    fuzz_whisper,
)

__all__ = ["CORPUS", "MODULES", "TARGETS", "Target"]
