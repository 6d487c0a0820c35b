"""A user's own runs as points of the scaling law: what each one kept, saw and reached."""

from __future__ import annotations

from math import prod
from typing import Any

import pandas as pd

from hwmodel.errors import UserError
from hwmodel.networks import weights

from .pricing import Job
from .store import Store
from .work import job_of

LOSS = "loss_nats"


def points_of(store: Store) -> pd.DataFrame:
    """One row a finished run: sparsity and non-zeros of its linear weights, tokens seen, test loss.

    Raises:
        UserError: where no run has finished.
    """
    done = [record for record in store.records() if record.state == "done"]
    if not done:
        raise UserError(f"{store.root}: no finished run to fit the law to")
    return pd.DataFrame([_point(job_of(store.run(r.name))) | {"loss": r.result[LOSS]} for r in done])


def _point(job: Job) -> dict[str, Any]:
    sizes = {site: prod(shape) for site, shape in weights(job.network).items()}
    kept = sum(size * job.final[site].fprop.density for site, size in sizes.items())
    tokens = sum(phase.steps for phase in job.phases) * job.batch * job.network.tokens
    return {"sparsity": 1 - kept / sum(sizes.values()), "parameters": kept, "data": tokens}
