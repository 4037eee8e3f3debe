"""Fails in the way that a message's subject names, to see what the relay says of it."""

import json
import os
import sys

import wit_world
from componentize_py_types import Err
from wit_world.imports.types import Message, Publication


class WitWorld(wit_world.WitWorld):
    def init(self, settings: str) -> None:
        if "fail" in settings:
            raise ValueError(f"bad settings: {settings}")

    def transform(self, message: Message) -> list[Publication]:
        payload = message.payload.decode(errors="replace")
        return getattr(Failures, message.subject)(payload) or []


class Order:
    def total(self, lines):
        return sum(line["price"] for line in lines)


class Failures:
    def name(payload):
        return ordr["status"]

    def key(payload):
        return json.loads(payload)["status"]

    def none(payload):
        return None.status

    def divide(payload):
        return 1 / 0

    def check(payload):
        assert payload == "x", "the payload is not x"

    def bare(payload):
        assert not payload

    def library(payload):
        return json.loads("{")

    def nested(payload):
        return Order().total([{"cost": 1}])

    def lines(payload):
        raise ValueError("one\n\n  two\n" + payload)

    def chained(payload):
        try:
            return json.loads("{")
        except ValueError as error:
            raise RuntimeError("cannot read the order") from error

    def during(payload):
        try:
            return {}["a"]
        except KeyError:
            return ordr

    def noted(payload):
        error = ValueError("no such order")
        error.add_note("see the manual")
        raise error

    def group(payload):
        raise ExceptionGroup("two things", [ValueError("one"), TypeError("two")])

    def syntax(payload):
        return eval("1 +")

    def bad_import(payload):
        import nowhere

    def compiled(payload):
        exec(compile("x = = 1", "rules.py", "exec"))

    def custom(payload):
        class Trouble(Exception):
            pass

        raise Trouble(payload)

    def silent(payload):
        raise ValueError

    def exit(payload):
        sys.exit(3)

    def exits(payload):
        sys.exit("no more orders")

    def interrupt(payload):
        raise KeyboardInterrupt

    def abort(payload):
        os.abort()

    def hard_exit(payload):
        os._exit(3)

    def recursion(payload):
        return Failures.recursion(payload)

    def mutual(payload):
        return Failures.other(payload + "x")

    def other(payload):
        return Failures.mutual(payload)

    def memory(payload):
        return [bytearray(1 << 20) for _ in range(1000)]

    def result(payload):
        return 7

    def results(payload):
        return [7]

    def printed(payload):
        print("Traceback (most recent call last):\n  none\nKeyError: an old one", file=sys.stderr)
        return ordr

    def rejected(payload):
        raise Err("no such order")
