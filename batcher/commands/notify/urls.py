"""The process that sends a notice to the urls of `[notify]`, with apprise (the extra `batcher[notify]`)."""

import importlib
import json
import sys

FAILED = 1
"""The exit code where a url did not take the notice."""


def main() -> None:
    """Send the notice on stdin to each of its urls."""
    data = json.load(sys.stdin)
    notifier = importlib.import_module("apprise").Apprise()
    added = [notifier.add(url) for url in data["urls"]]  # the others are sent to where one is of no known kind
    notice = data["notice"]
    is_sent = notifier.notify(title=f"Batcher, {notice['job']}: {notice['kind']}", body=notice["sentence"])
    sys.exit(0 if all(added) and is_sent else FAILED)


if __name__ == "__main__":
    main()
