# SPDX-License-Identifier: MIT
"""The rows of family `tlb` as curves, and what follows from them: knees, the cost of a miss, what the pages below are."""

from dataclasses import dataclass

import numpy

from refhv import knees, walkmodel
from refhv.record import Record

PAGES = ("4k", "2m", "1g")
GUEST_LEVELS = {"4k": 4, "2m": 3, "1g": 2}  # of a walk under four-level paging (SDM 3A 5.5.4, APM 2 5.3)
NESTED_LEVELS = 4
ALIKE = 64  # lines: up to here both layouts are inside every TLB and every first-level cache


@dataclass(frozen=True)
class Curve:
    """Cycles per access at the median, and the 95 % interval of that, for each number of lines, rising."""

    lines: numpy.ndarray
    p50: numpy.ndarray
    low: numpy.ndarray
    high: numpy.ndarray

    def at(self, lines: numpy.ndarray) -> "Curve":
        keep = numpy.isin(self.lines, lines)
        return Curve(self.lines[keep], self.p50[keep], self.low[keep], self.high[keep])


def curve(rec: Record, page: str, layout: str = "spread", mode: str = "user") -> Curve:
    """The rows of a page size ("4k", "2m", "1g"; in guests also "4k_on_2m") and layout ("spread", "inside") that have a number;
    may be empty."""
    prefix = f"tlb.{page}." if layout == "spread" else f"tlb.{page}_{layout}."
    points = sorted((row["chase"]["lines"], row["summary"]["p50"], *row["p50_interval"]) for row in rec["benchmarks"]
                    if row["name"].startswith(prefix) and row["mode"] == mode and row["verdict"] == "PASS")
    return Curve(*numpy.array(points, float).reshape(-1, 4).T)


def excess(rec: Record, page: str, mode: str = "user") -> Curve:
    """What translation adds: spread less inside, where both have a number. Intervals add up."""
    spread, inside = curve(rec, page, mode=mode), curve(rec, page, "inside", mode)
    common = numpy.intersect1d(spread.lines, inside.lines)
    a, b = spread.at(common), inside.at(common)
    return Curve(common, a.p50 - b.p50, a.low - b.high, a.high - b.low)


def floor(rec: Record, page: str) -> float | None:
    """The A/A control of the sweep: largest difference, in cycles, between the layouts where they must cost the same."""
    difference = excess(rec, page)
    same = difference.p50[difference.lines <= ALIKE]
    return float(numpy.abs(same).max()) if len(same) else None


def find(rec: Record, page: str) -> list[knees.Knee]:
    """Knees of the excess. The inside curve carries the data caches' own knees away. Errors are those of both curves."""
    difference = excess(rec, page)
    if len(difference.lines) < 4:
        return []
    inside = curve(rec, page, "inside").at(difference.lines)
    # On the inside curve's level, so that what is a share of the whole access counts as such.
    return knees.find_knees(difference.lines, difference.p50 + inside.p50.min(), noise=0.06)


@dataclass(frozen=True)
class MissCost:
    """Cycles per access: `inside` and `beyond` the TLB at equal cache footprint; `cost`, their difference at the median of the
    sizes used, with the range over them; None for `slope` where there are too few."""

    page: str
    lines: tuple[int, ...]
    inside: float
    beyond: float
    cost: float
    low: float
    high: float
    slope: knees.Slope | None


def miss_cost(rec: Record, page: str, mode: str = "user") -> MissCost | None:
    """Cost of a miss (docs/method.md, "The sweep") over the sweep's last octave; None without three sizes there."""
    difference = excess(rec, page, mode)
    if not len(difference.lines):
        return None
    last = difference.lines[difference.lines >= difference.lines.max() / 2]
    if len(last) < 3:
        return None
    used = difference.at(last)
    middle = numpy.median
    return MissCost(page, tuple(int(n) for n in last), float(middle(curve(rec, page, "inside", mode).at(last).p50)),
                    float(middle(curve(rec, page, mode=mode).at(last).p50)), float(middle(used.p50)), float(used.p50.min()),
                    float(used.p50.max()), knees.slope(used.lines, used.p50, 0, 1 << 62))


def in_vm(rec: Record) -> bool:
    return bool(rec["machine"] and rec["machine"]["hypervisor"])


def references(rec: Record, page: str) -> int:
    """Entries that a walk reads with nothing cached: two-dimensional inside a VM, by four levels of nested 4K pages."""
    return walkmodel.references(GUEST_LEVELS[page], NESTED_LEVELS if in_vm(rec) else 0)


def splintered(rec: Record) -> bool:
    """Whether 2M pages leave the first-level TLB as early as 4K pages do: then they are held there in pieces, because the pages
    that the hypervisor backs them with are small."""
    small, large = find(rec, "4k"), find(rec, "2m")
    return bool(small and large) and large[0].inside <= 2 * small[0].inside


def model(rec: Record, page: str) -> Curve | None:
    """Orientation for the eye: the inside curve plus one cache a knee found, as walkmodel has it; not a second measurement.

    The cost is the knee's rise; where in the knee the cache's size lies, and which of the two policies it looks like, is what
    fits the measured curve best. None without a knee.
    """
    found, inside = find(rec, page), curve(rec, page, "inside")
    spread = curve(rec, page)
    common = numpy.intersect1d(spread.lines, inside.lines)
    if not found:
        return None
    base, measured = inside.at(common), spread.at(common)
    lines = common.astype(int).tolist()

    def values(caches: list[walkmodel.Cache]) -> numpy.ndarray:
        return walkmodel.expected(lines, caches, base.p50)

    caches = [walkmodel.Cache(knee.inside, knee.rise) for knee in found]
    for k, knee in enumerate(found):
        choices = [walkmodel.Cache(size, knee.rise, policy=policy) for policy in ("lru", "random")
                   for size in lines if knee.inside <= size < knee.full]
        caches[k] = min(choices, key=lambda cache: float(
            (numpy.log(values(caches[:k] + [cache] + caches[k + 1:]) / measured.p50) ** 2).sum()))
    return Curve(common, values(caches), values(caches), values(caches))


def cpuid_tlbs(rec: Record) -> dict[str, list[tuple[str, int]]]:
    """Data TLBs as CPUID tells them, by page size: (level, entries). AMD: 8000'0005H and 8000'0006H (APM 3, E.4.4 and E.4.5;
    12 bits hold a size, so 4096 does not fit); Intel: 18H (SDM 2A, CPUID). Hypervisors may have changed either."""
    if not rec["machine"]:
        return {}
    leaves = {(leaf["leaf"], leaf["subleaf"]): leaf for leaf in rec["machine"]["cpuid"]}
    found: dict[str, list[tuple[str, int]]] = {page: [] for page in PAGES}
    first, second = leaves.get((0x80000005, 0)), leaves.get((0x80000006, 0))
    if first and rec["machine"]["vendor"] == "AuthenticAMD":
        found["4k"].append(("L1", first["ebx"] >> 16 & 0xFF))
        found["2m"].append(("L1", first["eax"] >> 16 & 0xFF))
    if second and rec["machine"]["vendor"] == "AuthenticAMD":
        found["4k"].append(("L2", second["ebx"] >> 16 & 0xFFF))
        found["2m"].append(("L2", second["eax"] >> 16 & 0xFFF))
    for (number, _), leaf in sorted(leaves.items()):
        if number == 0x18 and leaf["edx"] & 0x1F in (1, 3, 4):  # data, unified, load only
            entries = (leaf["ebx"] >> 16) * leaf["ecx"]
            for bit, page in ((0, "4k"), (1, "2m"), (3, "1g")):
                if leaf["ebx"] >> bit & 1:
                    found[page].append((f"L{leaf['edx'] >> 5 & 7}", entries))
    return {page: [(level, entries) for level, entries in levels if entries] for page, levels in found.items()}
