"""What OpenAI says of the project to an admin key, where one is set: read, and kept as a hint for the limit."""

import os
from contextlib import closing
from typing import TYPE_CHECKING

from batcher.config.sections import Config
from batcher.errors import SetupError
from batcher.state import facts
from batcher.state.db.store import Store

if TYPE_CHECKING:
    from batcher.service.admin_service import ProjectSettings


def read_project(config: Config) -> "ProjectSettings | None":
    """Return what is said of the project; None where no admin key is set, or the service is not OpenAI's.

    What fails is among its problems.
    """
    if not os.environ.get("OPENAI_ADMIN_KEY") or config.service.profile not in {None, "openai"}:
        return None
    from batcher.service.admin_service import ProjectSettings, connect_admin

    try:
        service = connect_admin(config.api.timeout_s)
    except SetupError as error:
        return ProjectSettings("", problems=[str(error)])
    if service is None:
        return None
    with closing(service):
        return service.read_project(config.model.name)


def set_limit_hint(config: Config, project: "ProjectSettings | None") -> Config:
    """Return the settings with the project's batch tokens as the limit, where the user has set none."""
    hint = project.limits.batch_tokens_a_day if project is not None and project.limits is not None else None
    if not hint or config.limits.enqueued_tokens is not None:
        return config
    return config.model_copy(update={"limits": config.limits.model_copy(update={"enqueued_tokens": hint})})


def record_limit_hint(store: Store, model: str, project: "ProjectSettings | None") -> None:
    """Record the project's batch tokens in the state, where they were read."""
    if project is None or project.limits is None:
        return
    with store.transaction("limit_hint") as tx:
        facts.record_limit_hint(tx, model, project.limits.batch_tokens_a_day or 0)
