"""What can be said about the laboratory itself without starting one: `interop/run --self-test`."""

import contextlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

INTEROP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(INTEROP), str(INTEROP / "scenarios" / "matrix")]

from lab import engine, images, mangle, sabotage, table  # noqa: E402
from lab.cable import DAMAGE, Cable  # noqa: E402
from lab.scenario import load  # noqa: E402
from pairwise import pairs_of, pairwise, rows  # noqa: E402


class Images(unittest.TestCase):
    """Two ways to the same image."""

    def test_the_containerfiles_are_what_the_recipes_say(self):
        for recipe in images.RECIPES.values():
            written = (INTEROP / "images" / f"{recipe.name}.Containerfile").read_text()
            self.assertEqual(written, recipe.containerfile(), f"{recipe.name}: run `interop/run --containerfiles`")
        names = {path.stem for path in (INTEROP / "images").glob("*.Containerfile")}
        self.assertEqual(names, set(images.RECIPES))

    def test_both_install_the_same_packages_of_the_same_release(self):
        for recipe in images.RECIPES.values():
            words = recipe.mmdebstrap(Path("image.tar"), "mirror")
            included = next(word for word in words if word.startswith("--include=")).removeprefix("--include=").split(",")
            text = recipe.containerfile()
            install = text[text.index("apt-get install") :].split("\\\n")[1]
            self.assertEqual(sorted(install.split()), sorted(included))
            self.assertIn(f"FROM docker.io/library/debian:{words[-3]}-slim\n", text)
            self.assertIn("--no-install-recommends", text)
            self.assertIn('--aptopt=APT::Install-Recommends "false"', words)

    def test_a_changed_recipe_is_another_image(self):
        one = images.Recipe("cloud", "trixie", ("frr",))
        self.assertNotEqual(one.reference, images.Recipe("cloud", "trixie", ("frr", "bird2")).reference)
        self.assertNotEqual(one.reference, images.Recipe("cloud", "bookworm", ("frr",)).reference)


class Engines(unittest.TestCase):
    def test_every_option_used_is_known_to_every_engine_that_is_installed(self):
        for name in ("podman", "docker"):
            if shutil.which(name) is None:
                continue
            for command, options in engine.USED.items():
                asked = subprocess.run([name, command, "--help"], capture_output=True, text=True, check=False)
                if asked.returncode != 0:
                    self.skipTest(f"{name} {command} --help: {asked.stderr}")
                told = asked.stdout
                for option in options:
                    self.assertRegex(told, rf"(^|[\s,]){option}\b", f"{name} {command}")

    def test_an_owner_is_told_from_a_process_that_took_its_number(self):
        self.assertTrue(engine.owner_alive(engine.owner_tag()))
        self.assertFalse(engine.owner_alive(f"{os.getpid()}-1"))
        self.assertFalse(engine.owner_alive(""))


class Matrix(unittest.TestCase):
    def test_every_pair_of_values_that_can_be_is_in_a_row(self):
        module = next(s for s in load() if s.name.startswith("matrix/")).module
        for dimensions in (module.DIMENSIONS, module.OTHER_DIMENSIONS):
            every = set().union(*(pairs_of(row) for row in rows(dimensions, module.possible)))
            chosen = pairwise(dimensions, module.possible)
            self.assertEqual(set().union(*(pairs_of(row) for row in chosen)), every)
            self.assertLess(len(chosen), len(rows(dimensions, module.possible)) / 2)

    def test_what_a_fault_is_to_turn_red_exists(self):
        names = {scenario.name for scenario in load(full=True)}
        for fault in sabotage.ALL.values():
            self.assertEqual({*fault.red, *fault.green} - names, set())
            self.assertTrue(not fault.wire or fault.wire in mangle.FAULTS)
            self.assertTrue(fault.wire or fault.config)


def update_frame() -> bytes:
    """An UPDATE of 172.30.1.1/32 via 10.0.1.2 in a TCP segment with a right checksum."""
    attributes = bytes.fromhex("40010100" "400206" "0201" "0000fde7" "400304" "0a000102")
    nlri = bytes([32, 172, 30, 1, 1])
    body = struct.pack("!HH", 0, len(attributes)) + attributes + nlri
    message = mangle.MARKER + struct.pack("!HB", 19 + len(body), 2) + body
    tcp = struct.pack("!HHIIBBHHH", 179, 40000, 1, 1, 5 << 4, 0x18, 512, 0, 0) + message
    addresses = bytes([10, 0, 1, 2, 10, 0, 1, 1])
    total = mangle.checksum(addresses + struct.pack("!HH", 6, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 1, 6, 0) + addresses
    return bytes(12) + b"\x08\x00" + ip + tcp


class Features(unittest.TestCase):
    """docs/features.md: what it names as shown by FRR, by BIRD or by a test is there."""

    def test_every_scenario_named_has_the_peer_it_is_named_for(self):
        scenarios = {scenario.name: scenario for scenario in load()}
        folders = {name.split("/")[0] for name in scenarios}
        code = "".join(path.read_text() for top in ("bgp/src", "bgp/tests", "src", "tests") for path in (INTEROP.parent / top).rglob("*.rs"))
        rows = [line.split(" | ") for line in (INTEROP.parent / "docs" / "features.md").read_text().splitlines() if line.startswith("| ")]
        self.assertGreater(len(rows), 60)
        for _, frr, bird, others in (row for row in rows if row[1] not in ("with FRR", "beside FRR")):
            for peer, column in (("frr", frr), ("bird", frr if bird == "the same" else bird)):
                for name in re.findall(r"`([a-z0-9./-]+)`", column):
                    self.assertTrue(name in scenarios or name in folders, f"there is no scenario {name}")
                    texts = [path.read_text() for path in (INTEROP / "scenarios" / name.split("/")[0]).iterdir() if path.is_file()]
                    self.assertTrue(any(peer in text for text in texts), f"{name} has no {peer}")
            for name in re.findall(r"`([a-z0-9]+_[a-z0-9_]+)`", others):
                self.assertTrue(f"fn {name}(" in code, f"there is no test {name}")


class Mangle(unittest.TestCase):
    def test_a_changed_frame_is_as_long_and_its_checksum_holds(self):
        frame = update_frame()
        for name, where in (("next-hop", bytes([10, 0, 9, 2])), ("nlri", bytes([33, 172, 30, 1, 1])), ("origin", bytes.fromhex("40010109"))):
            seen = mangle.changed(frame, mangle.FAULTS[name])
            self.assertEqual(len(seen), len(frame))
            self.assertNotEqual(seen, frame)
            self.assertIn(where, seen)
            tcp = seen[34:]
            self.assertEqual(mangle.checksum(seen[26:34] + struct.pack("!HH", 6, len(tcp)) + tcp), 0)

    def test_what_is_not_meant_is_not_touched(self):
        frame = update_frame()
        self.assertEqual(mangle.changed(frame, mangle.FAULTS["multiprotocol"]), frame)
        other_port = frame[:34] + struct.pack("!HH", 80, 40000) + frame[38:]
        self.assertEqual(mangle.changed(other_port, mangle.FAULTS["next-hop"]), other_port)

    def test_a_cable_edits_what_it_is_told_to_and_only_while_it_is(self):
        frame = update_frame()
        with tempfile.TemporaryDirectory() as folder:
            cable = Cable(SimpleNamespace(share=Path(folder), log=lambda name: ""))
            fault = mangle.Damage(str(Path(folder) / DAMAGE))

            def seen(prefix, *edits):
                cable.damage(prefix, list(edits))
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    arrived = mangle.changed(frame, fault)
                self.assertEqual(len(arrived), len(frame))
                tcp = arrived[34:]
                self.assertEqual(mangle.checksum(arrived[26:34] + struct.pack("!HH", 6, len(tcp)) + tcp), 0)
                return arrived, said.getvalue()

            self.assertEqual(mangle.changed(frame, fault), frame)
            for edit, where in (
                (("value", 1, 0, "09"), "40010109400206"),
                (("flags", 1, 0xC0), "c0010100400206"),
                (("becomes", 3, 98), "c062040a000102"),
                (("claims", 3, 200), "4003c80a000102"),
                (("instead", 2, "400600"), "40010100" "400600" "c06303000000" "400304"),
                (("instead", 2, "400206020100000001"), "400206020100000001" "400304"),
                (("prefix_length", 33), "21ac1e0101"),
                (("field_length", 3), "0017" "40010100"),
            ):
                arrived, said = seen("172.30.1.1/32", edit)
                self.assertIn(bytes.fromhex(where), arrived, edit)
                self.assertEqual(bytes.fromhex(json.loads(said)["message"]), arrived[54:], edit)
            self.assertEqual(seen("172.30.1.0/24", ("value", 1, 0, "09")), (frame, ""), "another prefix")
            self.assertEqual(seen("f00d::1/128", ("value", 1, 0, "09")), (frame, ""), "another family")
            arrived, said = seen("172.30.1.1/32", ("value", 5, 0, "09"))
            self.assertEqual(arrived, frame)
            self.assertIn("there is no attribute 5", said)
            cable.clean()
            self.assertEqual(mangle.changed(frame, fault), frame)


class Table(unittest.TestCase):
    def test_only_what_is_between_the_marks_is_written(self):
        with tempfile.TemporaryDirectory() as folder:
            readme = Path(folder, "README.md")
            readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
            table.into_readme(["new"], readme)
            self.assertEqual(readme.read_text(), f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n")

    def test_a_feature_is_yes_only_if_everything_that_shows_it_passed(self):
        def result(name, verdict, peer):
            return {"name": name, "verdict": verdict, "versions": {"leaf": peer}, "seconds": 1.0, "summary": "", "detail": ""}

        lines = table.peers(
            [
                result("plain/ebgp-frr-10", "passed", "FRR 10.3"), result("plain/ibgp-frr-10", "passed", "FRR 10.3"),
                result("md5/frr-10", "passed", "FRR 10.3"), result("bfd/frr-10", "failed", "FRR 10.3"),
                result("plain/ebgp-gobgp", "passed", "GoBGP 3.36.0"),
            ],
            {},
        )  # fmt: skip
        cells = [re.split(r" ?\| ?", line)[1:-1] for line in lines[2:]]
        self.assertEqual(cells[0], ["FRR 10.3", "yes", "yes", "yes", "not tried", "not tried", "not tried", "**no**"])
        self.assertEqual(cells[1], ["GoBGP 3.36.0", "yes", "not tried", "not tried", "not tried", "not tried", "not tried", "has none"])
