"""Seeds of random numbers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
