"""The pages, rendered here: they work without JavaScript, and their addresses hold all of their state."""

from fastapi import APIRouter

from xcorr.web.pages.network import router as network
from xcorr.web.pages.pairs import router as pairs
from xcorr.web.pages.provenance import router as provenance
from xcorr.web.pages.start import router as start

router = APIRouter()
for one in (start, pairs, network, provenance):
    router.include_router(one)
