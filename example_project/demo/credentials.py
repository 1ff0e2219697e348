"""What the demo has to remember from run to run: secrets, which the database holds only as hashes."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(slots=True)
class Credentials:
    """The secrets of one database, in a file that only its owner can read."""

    path: Path
    admin_password: str
    api_key: str

    @classmethod
    def load(cls, path: Path) -> Credentials:
        """What the file holds; where it holds nothing yet, a new password and no key."""
        try:
            kept = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            kept = {}
        return cls(path, kept.get("admin_password") or secrets.token_urlsafe(9), kept.get("api_key", ""))

    def save(self) -> None:
        kept = {name: value for name, value in asdict(self).items() if name != "path"}
        unfinished = self.path.with_name(self.path.name + ".new")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(kept, file, indent=2)
        unfinished.replace(self.path)
