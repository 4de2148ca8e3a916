"""Options that many commands share."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer


class Output(str, Enum):
    table = "table"
    json = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How the answer is printed.")]
ClusterOption = Annotated[
    str | None,
    typer.Option("--cluster", "-c", metavar="NAME|DIR|HOST:PORT", help="Which cluster; default: the only one that is up here."),
]
CertificatesOption = Annotated[
    str | None,
    typer.Option("--certificates", metavar="DIR", help="ca.crt, client.crt and client.key; needed with --cluster HOST:PORT."),
]
DeadlineOption = Annotated[float, typer.Option("--deadline", metavar="SECONDS", min=0.001, max=86400, help="How long to wait for the answer.")]
