"""Types of the part of toktok-rs that Batcher uses; the package ships none."""

from collections.abc import Iterable

__version__: str

def batch_count(
    texts: Iterable[str], encoding: str = "cl100k_base", threads: int = 0, with_special: bool = False
) -> list[int]: ...
def _encoding(name: str, data_dir: str = "") -> object: ...
