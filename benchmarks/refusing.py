"""Make every bio of a finished job an answer that was refused: `python -m benchmarks.refusing STATE_FOLDER`.

It is the most that `batcher judge` can have to change: each line takes its bio from a kept answer.
"""

import sys
import time
from pathlib import Path

from batcher.state.db.store import Store

STATEMENTS = (
    "DELETE FROM bios",
    "UPDATE attempts SET outcome = 'unusable', code = 'not_accepted', message = 'refused' WHERE outcome = 'bio'",
    "UPDATE artists SET state = 'dead', failure = 'unusable', code = 'not_accepted' WHERE state = 'done'",
)


def main(folder: Path) -> None:
    """Change the state."""
    with Store(folder, time.time, time.sleep).transaction("refuse") as tx:
        for statement in STATEMENTS:
            tx.con.execute(statement)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
