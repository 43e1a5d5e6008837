"""The demonstration, statement by statement: a port in OVN becomes a route on FRR and BIRD, and the ping comes back."""

from lab import topology
from lab.demo import Demo
from lab.screen import Screen

TOPOLOGY = topology.first_light()
TIME_LIMIT = 180


def run(s):
    screen = Screen()
    Demo(s.lab, screen).tell()
    failed = [f"{outcome.statement}: {outcome.detail}" for outcome in screen.outcomes if not outcome.passed]
    s.expect(not failed, "\n".join(failed))
