# SPDX-License-Identifier: MIT
"""Hardware's exits to a hypervisor beside numbers that others published (anchors.py)."""

import numpy
from matplotlib import pyplot

from refhv import anchors, identity, plots
from refhv.page import HTML, figure
from refhv.progress import number
from refhv.tables import Run


def _told(name: str, curves: list[tuple[dict, dict]]) -> str:
    """The figure in words."""
    here = [f"{identity.title(rec)} {number(row['summary']['p50'])}" for rec, row in curves]
    there = [f"{anchor.what} {number(anchor.low)} to {number(anchor.high)}" for anchor in anchors.of(name)]
    return f"{name} on hardware, p50 in cycles: {', '.join(here)}. Published: {'; '.join(there)}."


def against_published(run: Run) -> HTML:
    """Distribution of hardware rows that measure an exit to a hypervisor, with published numbers for the same exit."""
    pieces = []
    for name in dict.fromkeys(anchor.exit for anchor in anchors.ANCHORS):
        curves = [(rec, row) for rec in run.records if not rec["target"]["emulated"]
                  for row in rec["benchmarks"]
                  if row["verdict"] == "PASS" and row["name"].startswith(f"{name}/")
                  and (row["hypervisor_exit"] or row["mode"] == "nested")]
        if not curves:
            continue
        drawing, axes = pyplot.subplots(figsize=(plots.WIDTH, 3.4))
        drawing.subplots_adjust(left=0.07, right=0.60, bottom=0.17, top=0.86)
        axes.grid(axis="both")
        for index, (rec, row) in enumerate(curves):
            values = numpy.sort(numpy.asarray(row["samples"], float) - row["stamp_cost"])
            axes.step(values, numpy.arange(1, len(values) + 1) / len(values) * 100, where="post",
                      color=("#1d8ba0", "#7b4fa3", "#31688e")[index % 3], lw=2, label=f"{row['name']} on {identity.title(rec)}, measured here")
        for index, anchor in enumerate(anchors.of(name)):
            color = ("#b3261e", "#b25e09", "#8a6d1a")[index % 3]
            axes.axvspan(anchor.low, anchor.high, color=color, alpha=0.15, lw=0)
            axes.axvline((anchor.low + anchor.high) / 2, color=color, ls="--", lw=1.4,
                         label=f"{anchor.what}:\n{number(anchor.low)}{'' if anchor.low == anchor.high else '–' + number(anchor.high)}"
                               f" cycles\n({anchor.source})")
        low = min(numpy.min(numpy.asarray(r["samples"]) - r["stamp_cost"]) for _, r in curves)
        high = max(r["summary"]["p99"] for _, r in curves)
        points = [a.low for a in anchors.of(name)] + [a.high for a in anchors.of(name)]
        axes.set_xscale("log")
        axes.set_xlim(max(min([low, *points]) * 0.7, 1), max([high, *points]) * 1.4)
        plots.plain_numbers(axes)
        axes.set_xlabel("cycles of the TSC")
        axes.set_ylabel("share of samples, %")
        axes.set_ylim(0, 102)
        axes.set_title(f"{name} on hardware, and what others published", loc="left", fontsize=11.5, fontweight="bold")
        axes.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), frameon=False, fontsize=8.5, labelspacing=1.1)
        pieces.append(figure(drawing, _told(name, curves),
                             "Other machines, other hypervisors: for orientation, not a comparison.").data)
    return HTML("".join(pieces))
