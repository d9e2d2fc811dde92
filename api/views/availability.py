"""What buyers see. Public: no token needed."""

from __future__ import annotations

from flask import Blueprint

from api.route import Answer, Request, route
from api.schemas import MAX_AVAILABILITIES, AvailabilitiesSchema, AvailabilityQuery, AvailabilitySchema
from engine.errors import NotFound
from engine.states import Availability

blueprint = Blueprint("availability", __name__, url_prefix="/v1")


@route(
    blueprint,
    "GET",
    "/availability/<sku>",
    "What can be had of a SKU now",
    answers={200: AvailabilitySchema},
    refusals=["not_found"],
    cached=True,
)
def get_availability(request: Request, sku: str) -> Answer:
    (found,) = request.engine.stock.availability([sku], request.call.origin)
    if found.status is Availability.UNKNOWN_SKU:
        raise NotFound(f"No SKU is called {sku}.")
    return Answer(found)


@route(
    blueprint,
    "GET",
    "/availability",
    f"What can be had of up to {MAX_AVAILABILITIES} SKUs now",
    query=AvailabilityQuery,
    answers={200: AvailabilitiesSchema},
    cached=True,
)
def list_availability(request: Request) -> Answer:
    return Answer({"items": request.engine.stock.availability(request.query["sku"], request.call.origin)})
