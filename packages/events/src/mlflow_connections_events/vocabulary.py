"""The vocabulary: every kind of event, and the data of each kind.

An event is one fact that an MLflow server has accepted, or shall accept. The vocabulary is
lossless: replaying the events of a run into another server produces the same run. It does not need
MLflow, so that a sink can be imported quickly in the process that delivers.

**Streams.** Order is kept within a stream. The stream of an event is the ID of the run it belongs
to; without a run it is the ID of the logged model, the experiment, the trace, or the name of the
registered model. IDs in events are those that the client knew: for a write-behind store they may be
provisional, and the sink that creates the run keeps the map from provisional to server IDs in its
state folder.

**JSON.** Data is JSON. Texts are MLflow's own, after redaction. Times are milliseconds since the
epoch in UTC. Metrics keep NaN and the infinities as floats.

**Creating twice.** Each kind that creates an entity carries the ID or the name under which the
client knows it, so that a sink can search before it creates, and a repeated delivery creates it
once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, get_args

Kind = Literal[
    "experiment_created",
    "experiment_tagged",
    "run_started",
    "run_updated",
    "stage_changed",
    "logged",
    "tag_deleted",
    "inputs_logged",
    "outputs_logged",
    "artifacts_uploaded",
    "model_recorded",
    "model_logged",
    "model_params_logged",
    "model_tagged",
    "model_tag_deleted",
    "model_deleted",
    "registered_model_created",
    "registered_model_updated",
    "registered_model_tagged",
    "registered_model_tag_deleted",
    "registered_model_deleted",
    "version_created",
    "version_updated",
    "version_tagged",
    "version_tag_deleted",
    "version_deleted",
    "stage_transitioned",
    "alias_set",
    "alias_deleted",
    "trace_logged",
    "spans_logged",
    "trace_tagged",
    "trace_tag_deleted",
    "trace_linked",
    "trace_unlinked",
    "trace_deleted",
    "traces_deleted",
    "assessment_logged",
    "assessment_deleted",
]
"""The kinds of events. `DATA` maps each to its type."""

KINDS: frozenset[str] = frozenset(get_args(Kind))
"""All kinds, for checks at run time."""

RUN_KINDS: frozenset[str] = frozenset(
    {
        "run_started",
        "run_updated",
        "stage_changed",
        "logged",
        "tag_deleted",
        "inputs_logged",
        "outputs_logged",
        "artifacts_uploaded",
        "model_recorded",
        "model_logged",
    }
)
"""The kinds that concern a run."""


class RunContext(TypedDict, total=False):
    """The part of a run that its later events repeat under `run`, so that a sink need not remember it.

    Omitted from `logged` events that contain neither params nor an `extra`, which are most events
    of a training.

    Attributes:
        experiment_id: The run's experiment.
        experiment_name: The experiment's name; absent if the store does not return it.
        started: The start time of the run.
        parent: The parent of a nested run.
        root: The outermost ancestor.
        extra: The result of the product's `extra` function at the run's start.
        parent_extra: The parent's `extra`.
        root_extra: The root's `extra`.
    """

    experiment_id: str
    experiment_name: str
    started: int
    parent: str
    root: str
    extra: Mapping[str, str]
    parent_extra: Mapping[str, str]
    root_extra: Mapping[str, str]


class _RunData(TypedDict, total=False):
    run: RunContext


class ExperimentCreated(TypedDict):
    """An experiment. Stream: its ID."""

    name: str
    artifact_location: str | None
    tags: Mapping[str, str]


class Tagged(TypedDict):
    """One tag of an experiment, a logged model, a registered model or a trace."""

    key: str
    value: str


class TagDeleted(_RunData, total=False):
    """A tag that was deleted, of a run, a logged model or a trace."""

    key: str


class RunStarted(_RunData, total=False):
    """A run, announced before all its other events.

    Attributes:
        resumed: Whether the run existed before this process used it. Its params and tags are those
            at that time; its earlier metrics, inputs and artifacts are not part of the stream.
        server_id: Whether the server has issued the ID; false for a provisional one.
        attempted: Whether a request to create it was sent whose response was lost; likewise for
            models and versions. The source's ID was in its tag.
    """

    experiment_id: str
    experiment_name: str | None
    run_name: str | None
    user: str | None
    status: str
    stage: str
    start_time: int | None
    end_time: int | None
    artifact_uri: str
    parent: str | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    resumed: bool
    server_id: bool
    attempted: bool


class RunUpdated(_RunData, total=False):
    """A new status, end time or name. At the end, `params` repeats all params that this process logged."""

    status: str
    end_time: int | None
    run_name: str
    params: Mapping[str, str]


class StageChanged(_RunData, total=False):
    """A run deleted (`deleted`) or restored (`active`)."""

    stage: str


MetricRow = list[Any]
"""Key, value, time, step; then, for additional data of MLflow 3, an object with `model_id`, `dataset_name` and
`dataset_digest`.
"""


class Logged(_RunData, total=False):
    """Metrics, params and tags of a run. Each part is absent rather than empty."""

    metrics: Sequence[MetricRow]
    params: Mapping[str, str]
    tags: Mapping[str, str]


class Dataset(TypedDict):
    """A dataset that a run has read; schema and profile are MLflow's own texts."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None
    profile: str | None
    tags: Mapping[str, str]


class InputsLogged(_RunData, total=False):
    """Datasets, and the IDs of logged models, that a run has read."""

    datasets: Sequence[Dataset]
    models: Sequence[str]


class OutputsLogged(_RunData, total=False):
    """Logged models that a run has written, each with its ID and step."""

    models: Sequence[tuple[str, int]]


class ArtifactsUploaded(_RunData, total=False):
    """Files of a run, of a logged model or of a trace.

    A copy reads the content from `source`, while the source server keeps it. A write-behind store
    has no source: it keeps a copy of each file in its own state folder and adds the name of that
    copy to the file's row. For a small file it adds an empty name and the content itself, in
    base64.

    Attributes:
        model: The logged model that owns the files; absent if the run does.
        trace: The trace that owns the files, likewise.
        folder: The uploaded folder below the owner's root; absent for single files.
        source: The URI of the owner's root.
        files: For each file its path below the owner's root, its size in bytes or None if unknown,
            and for a write-behind store the name of the kept copy, or its content. At most
            `MAX_FILES`.
        count: The number of all files.
        bytes: Their size, as far as known.
    """

    model: str
    trace: str
    folder: str
    source: str
    files: Sequence[Sequence[Any]]
    count: int
    bytes: int


MAX_FILES = 1_000
"""The maximum number of files in one event; a larger folder is described by its name, count and size."""


class ModelRecorded(_RunData, total=False):
    """A model as MLflow 2 records it with a run: the content of its MLmodel file."""

    mlmodel: Mapping[str, Any]


class ModelLogged(_RunData, total=False):
    """A complete logged model of MLflow 3, each time it is created or finalized.

    Attributes:
        experiment_name: The experiment's name, for a model without a run; a run's context has it.
        server_id: Whether the destination's server has issued the ID; a write-behind store sets it.
    """

    model_id: str
    experiment_id: str
    experiment_name: str | None
    source_run: str | None
    name: str
    model_type: str | None
    status: str
    created: int | None
    artifact_location: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    server_id: bool
    attempted: bool


class ModelParamsLogged(_RunData, total=False):
    """Params of a logged model."""

    model_id: str
    params: Mapping[str, str]


class ModelTagged(_RunData, total=False):
    """Tags of a logged model."""

    model_id: str
    tags: Mapping[str, str]


class ModelTagDeleted(_RunData, total=False):
    """A deleted tag of a logged model."""

    model_id: str
    key: str


class ModelDeleted(_RunData, total=False):
    """A deleted logged model."""

    model_id: str


class _RegistryData(TypedDict, total=False):
    """The data of every event of a model registry.

    Attributes:
        registry: The URI of the registry, where the source's server has several, as a workspace of Databricks has.
    """

    registry: str


class RegisteredModelCreated(_RegistryData):
    """A registered model. Stream: its name, as for all events of it and its versions."""

    tags: Mapping[str, str]
    description: str | None


class RegisteredModelUpdated(_RegistryData, total=False):
    """A new description or name."""

    description: str | None
    new_name: str


class VersionCreated(_RegistryData, total=False):
    """A version of a registered model.

    Attributes:
        version: The number as the client knows it.
        source: The URI of the model's files.
        source_run: The run that logged it.
        model_id: The logged model.
    """

    version: str
    source: str
    source_run: str | None
    model_id: str | None
    run_link: str | None
    tags: Mapping[str, str]
    description: str | None
    attempted: bool


class VersionUpdated(_RegistryData):
    """A new description of a version."""

    version: str
    description: str | None


class VersionTagged(_RegistryData):
    """A tag of a version."""

    version: str
    key: str
    value: str


class VersionTagDeleted(_RegistryData):
    """A deleted tag of a version."""

    version: str
    key: str


class VersionDeleted(_RegistryData):
    """A deleted version."""

    version: str


class StageTransitioned(_RegistryData):
    """A version's new stage, one of MLflow's older stages (`Production`)."""

    version: str
    stage: str
    archive_existing: bool


class AliasSet(_RegistryData):
    """An alias of a version."""

    alias: str
    version: str


class AliasDeleted(_RegistryData):
    """A deleted alias."""

    alias: str


class TraceLogged(_RunData, total=False):
    """A complete trace without its spans, each time it is started or ended. Stream: the trace's ID.

    Clients of MLflow 3 create the ID; in MLflow 2 the server does.

    Attributes:
        state: `IN_PROGRESS`, `OK` or `ERROR`.
        start_time: The beginning of the trace.
        duration: Its duration in milliseconds; None while it is in progress.
        metadata: Such as `mlflow.sourceRun`, the run it belongs to.
        tags: Its tags, without those that a server sets.
        artifact_location: The URI of its files on its server.
    """

    experiment_id: str
    experiment_name: str | None
    state: str
    start_time: int
    duration: int | None
    client_request_id: str | None
    request_preview: str | None
    response_preview: str | None
    metadata: Mapping[str, str]
    tags: Mapping[str, str]
    artifact_location: str


class SpansLogged(TypedDict):
    """Spans of one trace, in MLflow 3's JSON form. A repeated span replaces the earlier one.

    MLflow keeps spans in its database, or else in the trace's file `traces.json`, which is an
    artifact. They arrive before the trace itself, or after it.
    """

    experiment_id: str
    experiment_name: str | None
    spans: Sequence[Mapping[str, Any]]


class TraceLinked(_RunData, total=False):
    """A trace that was linked to an additional run, or was unlinked from it."""

    linked_run: str


class TraceDeleted(TypedDict):
    """A deleted trace."""

    experiment_id: str
    experiment_name: str | None


class TracesDeleted(TypedDict):
    """Traces that were deleted by age. Stream: the experiment's ID.

    Attributes:
        until: The latest start of a deleted trace.
        count: The number of deleted traces, oldest first.
    """

    experiment_name: str | None
    until: int
    count: int


class AssessmentLogged(TypedDict):
    """A complete assessment of a trace, each time it is created or changed. Stream: the trace's ID.

    Attributes:
        kind: `feedback` or `expectation`.
        value: JSON.
        error: Code, message and stack trace, instead of a feedback's value.
        source: The type and ID of the assessor.
        overrides: The ID of the assessment that this one replaces.
    """

    assessment_id: str
    name: str
    kind: str
    value: Any
    error: Sequence[str | None] | None
    source: Sequence[str]
    source_run: str | None
    span_id: str | None
    rationale: str | None
    metadata: Mapping[str, str]
    created: int | None
    updated: int | None
    overrides: str | None


class AssessmentDeleted(TypedDict):
    """A deleted assessment."""

    assessment_id: str


DATA: Mapping[str, type] = {
    "experiment_created": ExperimentCreated,
    "experiment_tagged": Tagged,
    "run_started": RunStarted,
    "run_updated": RunUpdated,
    "stage_changed": StageChanged,
    "logged": Logged,
    "tag_deleted": TagDeleted,
    "inputs_logged": InputsLogged,
    "outputs_logged": OutputsLogged,
    "artifacts_uploaded": ArtifactsUploaded,
    "model_recorded": ModelRecorded,
    "model_logged": ModelLogged,
    "model_params_logged": ModelParamsLogged,
    "model_tagged": ModelTagged,
    "model_tag_deleted": ModelTagDeleted,
    "model_deleted": ModelDeleted,
    "registered_model_created": RegisteredModelCreated,
    "registered_model_updated": RegisteredModelUpdated,
    "registered_model_tagged": Tagged,
    "registered_model_tag_deleted": TagDeleted,
    "registered_model_deleted": _RunData,
    "version_created": VersionCreated,
    "version_updated": VersionUpdated,
    "version_tagged": VersionTagged,
    "version_tag_deleted": VersionTagDeleted,
    "version_deleted": VersionDeleted,
    "stage_transitioned": StageTransitioned,
    "alias_set": AliasSet,
    "alias_deleted": AliasDeleted,
    "trace_logged": TraceLogged,
    "spans_logged": SpansLogged,
    "trace_tagged": Tagged,
    "trace_tag_deleted": TagDeleted,
    "trace_linked": TraceLinked,
    "trace_unlinked": TraceLinked,
    "trace_deleted": TraceDeleted,
    "traces_deleted": TracesDeleted,
    "assessment_logged": AssessmentLogged,
    "assessment_deleted": AssessmentDeleted,
}
"""The type of each kind's data."""
