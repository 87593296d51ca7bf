"""The FineTuneJob object as a whole."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_api.base import ApiModel, Time
from finetune_api.names import API_VERSION, KIND, MAX_NAME_LENGTH
from finetune_api.rules import rule, validations
from finetune_api.spec import FineTuneJobSpec
from finetune_api.status import FineTuneJobStatus

# A DNS label short enough that the names of children fit one, too.
NAME_PATTERN = f"^[a-z0-9]([-a-z0-9]{{0,{MAX_NAME_LENGTH - 2}}}[a-z0-9])?$"
NAME_RULE = f"metadata.name must be at most {MAX_NAME_LENGTH} lower-case letters, digits and '-'"


class ObjectMeta(ApiModel):
    """The part of metav1.ObjectMeta that we read."""

    name: Annotated[str, Field(min_length=1, max_length=253)]
    namespace: Annotated[str, Field(max_length=63)] = "default"
    uid: str = ""
    generation: int = 1
    resource_version: str = ""
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: dict[str, str] = {}


class FineTuneJob(ApiModel):
    """FineTuneJob runs one fine-tune: train, then evaluate base against tuned."""

    model_config = {"json_schema_extra": validations(rule(f"self.metadata.name.matches('{NAME_PATTERN}')", NAME_RULE))}

    api_version: Literal["finetune.dev/v1alpha1"] = API_VERSION
    kind: Literal["FineTuneJob"] = KIND
    metadata: ObjectMeta
    spec: FineTuneJobSpec = Field(description="What is asked for.")
    status: FineTuneJobStatus = Field(default=FineTuneJobStatus(), description="What has become of it.")
