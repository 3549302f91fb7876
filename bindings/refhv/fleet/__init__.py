# SPDX-License-Identifier: MIT
"""Runs on many machines: Ansible's playbooks in ci/fleet, played until every host is done, and what equal machines differ by.

A fleet's folder holds fleet.json (`state`), vars.json (what Ansible is told), and hosts/<host>/ with the host's records.
"""
