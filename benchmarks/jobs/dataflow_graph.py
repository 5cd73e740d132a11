"""The graphs that `beam_jobs.build_dataset` would send to Dataflow.

Builds the three pipelines of a build from and to Cloud Storage with the flags
of docs/runners.md, packs what workers install, and prints transforms and
environment. Dataflow itself is not run: nothing is sent, no project is needed.

examples:
  python -m benchmarks.jobs.dataflow_graph
  python -m benchmarks.jobs.dataflow_graph --setup_file ./setup.py
"""

from collections.abc import Iterator
from typing import Any

from benchmarks import flags

_WORK = "gs://my-bucket/dataset/.work-0123456789ab-1000"


def pipelines() -> Iterator[tuple[str, list[Any], Any]]:
    """Name, inputs and transform of each pipeline of a build."""
    from beam_jobs.dataset.steps import parts
    from beam_jobs.dataset.steps import store_records
    from beam_jobs.dataset.steps import survey_records
    from beam_jobs.dataset.steps import write_shards
    from beam_jobs.pipelines import sums
    from beam_jobs.records import file_ranges
    from beam_jobs.records import record_files
    from sicot_tf import config

    dataset_config = config.with_preset(config.DatasetConfig, "demo")
    file = record_files.RecordFile("gs://my-bucket/records.jsonl", "records")
    rows, pictures = f"{_WORK}/rows", f"{_WORK}/parts"
    write_shard = write_shards.WriteShardFn(
        pictures,
        "gs://my-bucket/dataset/0123456789ab",
        f"{_WORK}/summaries",
        "vocabulary.txt",
    )
    for name, inputs, transform in (
        (
            "survey",
            [file_ranges.FileRange(number, file) for number in range(2)],
            survey_records.SurveyRecords(rows, "title", "utf-8", 1000),
        ),
        (
            "check, decode, tokenise",
            [parts.Part(number, ()) for number in range(2)],
            store_records.StoreRecords(rows, pictures, dataset_config),
        ),
        (
            "write shards",
            ["train-00000-of-00002", "train-00001-of-00002"],
            write_shards.WriteShards(f"{_WORK}/shards", write_shard),
        ),
    ):
        yield name, inputs, sums.Summed(transform, _WORK, "sums-0.json")


def graph(beam_flags: list[str], inputs: list[Any], transform: Any) -> Any:
    """The pipeline as Dataflow would get it, a message of Beam's model."""
    import apache_beam as beam
    from apache_beam.options import pipeline_options as beam_options
    from apache_beam.transforms import environments

    from beam_jobs.pipelines import runners

    options = runners.make_pipeline_options(
        "DataflowRunner", beam_flags=beam_flags
    )
    image = options.view_as(beam_options.WorkerOptions).sdk_container_image
    pipeline = beam.Pipeline(
        options=runners.make_pipeline_options("FnApiRunner")
    )
    _ = pipeline | "Inputs" >> beam.Create(inputs) | transform
    return pipeline.to_runner_api(
        # What DataflowRunner makes of the options (Beam 2.77).
        default_environment=environments.DockerEnvironment.from_container_image(
            image,
            artifacts=environments.python_sdk_dependencies(options),
            resource_hints=environments.resource_hints_from_options(options),
        )
    )


def _print_transforms(proto: Any) -> None:
    """Composites that this package names, and their steps."""
    transforms = proto.components.transforms
    (root,) = proto.root_transform_ids
    stack = [(root, 0)]
    while stack:
        key, depth = stack.pop()
        each = transforms[key]
        name = each.unique_name.rpartition("/")[2] or "(pipeline)"
        is_step = not each.subtransforms or depth > 3
        print(
            f"  {'  ' * depth}{name:{40 - 2 * depth}}"
            f"{each.spec.urn if is_step else ''}"
        )
        if not is_step:
            stack += [(k, depth + 1) for k in reversed(each.subtransforms)]


def _print_environment(proto: Any) -> None:
    from apache_beam.portability.api import beam_runner_api_pb2

    print("environment")
    for each in proto.components.environments.values():
        payload = beam_runner_api_pb2.DockerPayload.FromString(each.payload)
        print(f"  {each.urn}, image {payload.container_image}")
        for artifact in each.dependencies:
            role = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(
                artifact.role_payload
            )
            print(f"  sent along: {role.staged_name}")


def main(argv: list[str] | None = None) -> None:
    """Prints the graphs."""
    parser = flags.make_parser(__doc__)
    parser.add_argument("--setup_file")
    parser.add_argument(
        "--sdk_container_image", default="registry/sicot-beam:1"
    )
    arguments = parser.parse_args(argv)
    beam_flags = [
        "--project=my-project",
        "--region=europe-west1",
        "--temp_location=gs://my-bucket/temporary",
        f"--sdk_container_image={arguments.sdk_container_image}",
    ]
    if arguments.setup_file:
        beam_flags.append(f"--setup_file={arguments.setup_file}")
    for name, inputs, transform in pipelines():
        proto = graph(beam_flags, inputs, transform)
        print(f"\n{name}: {len(proto.SerializeToString()):,} bytes")
        _print_transforms(proto)
    _print_environment(proto)
    print("\nDataflow was NOT run: there was no project to run it in.")


if __name__ == "__main__":
    main()
