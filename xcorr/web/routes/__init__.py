"""The web API, a module for each kind of question. Every route answers GET, and HEAD through the guard."""

from typing import Annotated

from fastapi import Depends, Request

from xcorr.web.campaigns import Campaign

API = "/api/v1/campaigns"


def served(c: str, request: Request) -> Campaign:
    """Return the campaign that an address names. Raises Problem 404 if there is none."""
    found: Campaign = request.app.state.campaigns[c]
    return found


Served = Annotated[Campaign, Depends(served)]
