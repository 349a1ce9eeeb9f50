"""The kinds of values that stand in params.yaml, and what holds for every section of it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Separator = Annotated[str, Field(pattern=r"^[^\"\r\n]$")]
Labels = Annotated[dict[str, str | None], Field(min_length=2)]  # None: rows with this label are left out on purpose
Words = Annotated[list[Annotated[str, Field(pattern=r"^[a-z']+$")]], Field(min_length=1)]


class Section(BaseModel):
    """Unknown keys are refused, values are never coerced into another type, and nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
