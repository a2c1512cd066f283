"""Tables of a privacy audit from a file of `seqmel audit -o`."""

from __future__ import annotations

import json
from pathlib import Path

from seqmel.core.errors import InputError
from seqmel.evaluation.audit_results import Audit, AuditFigure
from seqmel.report.page import AttackRow, AttackTable, PrivacyAudit

__all__ = ["audit_tables", "read_audit"]


def read_audit(path: str | Path) -> Audit:
    """Read a file of `seqmel audit -o`.

    Raises:
        InputError: There is no such file, or it has other content.
    """
    how = "Write one: seqmel audit MODEL EVENTS -o FILE"
    try:
        return Audit.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"No such file: {path}. {how}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(f"{path} is not what `seqmel audit -o` writes. {how}") from None


def audit_tables(audit: Audit) -> PrivacyAudit:
    """Return one table per attack, with a row per variant and set of vectors."""
    tables = [
        AttackTable(title, [_row(figure) for figure in rows])
        for title, rows in audit.attacks().items()
    ]
    return PrivacyAudit(tables, list(audit.remarks))


def _row(row: AuditFigure) -> AttackRow:
    of = row.figure
    return AttackRow(
        row.of, row.vectors, row.metric, of.mean, of.low, of.high, row.chance, row.clients
    )
