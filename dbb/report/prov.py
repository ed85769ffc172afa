"""Lineage as W3C PROV-JSON, for programs that know nothing of dbb; needs the extra ``prov``."""

from __future__ import annotations

import datetime as dt
from typing import Any

from dbb.errors import DbbError
from dbb.registry.provenance import GENERATED, USED
from dbb.report.lineage import Lineage

_NAMESPACE = "urn:mini-dbb:"


def prov_json(lineage: Lineage) -> str:
    """Return a lineage as PROV-JSON: files are entities, tasks activities.

    Raises
    ------
    DbbError
        If the package ``prov`` is not installed.
    """
    try:
        from prov.model import ProvDocument
    except ImportError as error:
        raise DbbError("PROV export needs the package prov: pip install 'mini-dbb[prov]'") from error
    document = ProvDocument()
    document.add_namespace("dbb", _NAMESPACE)
    for node in lineage.nodes.values():
        facts = {f"dbb:{name}": value for name, value in node.facts.items() if value is not None}
        label = {"prov:label": node.name}
        if node.is_task:
            start, end = (_time(node.facts.get(key)) for key in ("start", "end"))
            rest = {name: value for name, value in facts.items() if name not in {"dbb:start", "dbb:end"}}
            document.activity(f"dbb:{node.id}", start, end, label | rest)
        else:
            document.entity(f"dbb:{node.id}", label | facts)
    relate: dict[str, Any] = {USED: document.used, GENERATED: document.wasGeneratedBy}
    for relation, source, target in lineage.edges:
        relate.get(relation, document.wasDerivedFrom)(f"dbb:{source}", f"dbb:{target}")
    return str(document.serialize(format="json", indent=1))


def _time(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)
