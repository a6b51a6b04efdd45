"""What ``mpiexec`` starts on every rank: ``python -m xcorr.mappings.mpi_rank WORK ADDRESS``."""

import sys
from pathlib import Path

from xcorr.mappings.mpi import rank_main

if __name__ == "__main__":
    rank_main(Path(sys.argv[1]), sys.argv[2])
