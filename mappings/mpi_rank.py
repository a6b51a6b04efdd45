"""The program that ``mpiexec`` starts on every rank: ``python -P -m xcorr.mappings.mpi_rank ADDRESS``."""

import sys

from xcorr.mappings.mpi import rank_main

if __name__ == "__main__":
    rank_main(sys.argv[1])
