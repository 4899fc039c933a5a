"""The state of a job, in DuckDB: short transactions, guarded transitions, SQL by name."""

from batcher.store.connection import Store
from batcher.store.transaction import Transaction

__all__ = ["Store", "Transaction"]
