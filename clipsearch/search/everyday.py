"""Queries such as people ask, for measuring recall when there is no list of one's own."""

from __future__ import annotations

from itertools import product

THINGS = """
a dog, a cat, a horse, a bird in flight, a bicycle, a red car, a truck, a train, an
aeroplane, a boat on a lake, a bridge, a tall building, a church, a kitchen, a bedroom, a
cup of coffee, a plate of food, a birthday cake, fruit on a table, a glass of wine, a bunch
of flowers, a tree in autumn, a forest path, a snowy mountain, a beach at sunset, waves, a
waterfall, a cloudy sky, stars at night, fireworks, a crowd of people, two friends laughing,
a child playing, a baby, an old man, a woman with sunglasses, a bride and groom, a football
match, a runner, a swimmer, someone dancing, a guitar player, a concert stage, a computer on
a desk, a phone, a book, a sign with text, a map, a chart, a toy
"""
SETTINGS = ("{}", "a photo of {}", "{} outdoors", "a close-up of {}")


def everyday_queries() -> list[str]:
    """200 queries: things, and how they are asked for."""
    things = [thing.strip() for thing in THINGS.split(",")]
    return [setting.format(thing) for setting, thing in product(SETTINGS, things)]
