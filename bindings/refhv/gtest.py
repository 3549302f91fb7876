# SPDX-License-Identifier: MIT
"""GoogleTest's XML, as far as refhv writes into it."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from refhv import paths
from refhv.departures import Claim
from refhv.versions import Emulator


def _root(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise ValueError(f"{path}: the test program wrote no XML") from None
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: not XML, or cut short ({error})") from None


def read_emulator(path: Path) -> Emulator | None:
    """The emulator that the claims ran on; None where there is none, or the version was not asked. Raises ValueError."""
    root = _root(path)
    properties = root.attrib | {p.get("name"): p.get("value") for p in root.findall("properties/property")}
    name = properties.get("emulator")
    return Emulator(name, properties.get("emulator_version") or None) if name else None


def read_claims(path: Path) -> list[Claim]:
    """Claims of one run. A test without a verdict property is an ERROR: the test is broken. Raises ValueError."""
    root = _root(path)
    claims = []
    for case in root.iter("testcase"):
        if case.get("status") == "notrun":
            continue
        properties = {p.get("name"): p.get("value") for p in case.iter("property")}
        texts = [node.get("message") or "" for kind in ("failure", "skipped") for node in case.iter(kind)]
        told = properties.get("detail") or " ".join(" ".join(texts).split())
        detail = told.replace(f"{paths.TOP}/", "") or None
        verdict = properties.get("verdict")
        if verdict is None:
            skipped = case.get("result") == "skipped"
            verdict, detail = ("SKIP", detail) if skipped else ("ERROR", detail or "the test states no verdict")
        claims.append(Claim(f"{case.get('classname')}.{case.get('name')}", verdict, properties.get("section"), detail))
    return claims
