"""Publishes each order to its own channel, as examples/orders does in Rust."""

import json

import wit_world
from componentize_py_types import Err
from wit_world.imports.types import Body_Json, Message, Publication

STATUSES = ("draft", "paid", "shipped", "delivered")


class WitWorld(wit_world.WitWorld):
    def init(self, settings: str) -> None:
        """`settings` is the [settings] of orders.toml as a JSON text. This module has none."""

    def transform(self, message: Message) -> list[Publication]:
        """Returns the publications. An empty list drops the message. An Err rejects it, with its text as the reason. Any other
        exception is a failure of the module: it costs the instance, and a new instance tries the message once more."""
        try:
            return orders(json.loads(message.payload))
        except (ValueError, TypeError, KeyError) as error:
            raise Err(f"{type(error).__name__}: {error}") from error


def orders(order: dict) -> list[Publication]:
    status = order["status"]
    if status not in STATUSES:
        raise ValueError(f"status: `{status}` is none of {', '.join(STATUSES)}")
    channel, revision = f"orders:{whole(order, 'id')}", whole(order, "revision")
    lines = [(whole(line, "quantity"), whole(line, "price_cents")) for line in order["lines"]]
    if status == "draft":
        return []
    view = {
        "status": status,
        "items": sum(quantity for quantity, _ in lines),
        "total_cents": sum(quantity * price_cents for quantity, price_cents in lines),
    }
    return [
        Publication(
            channels=[channel],
            body=Body_Json(json.dumps(view, separators=(",", ":"))),
            version=revision,
            version_epoch=None,
            tags=[],
            idempotency_key=None,
            delta=False,
            skip_history=False,
        )
    ]


def whole(record: dict, name: str) -> int:
    value = record[name]
    # In Python, True is an int too.
    if type(value) is not int or value < 0:
        raise ValueError(f"{name}: {value!r} is not a whole number")
    return value
