"""What the recognition service adds to its model server, under load.

One model server (`sicot_tf.serve`), asked for the same photos in three ways,
in turns: directly over gRPC (signature `recognition`), through the recognition
service over HTTP without localisation, and with it. Both services stand on the
same machine as the clients, which are processes of their own.

Two loads are measured. With one client nothing waits: the difference of the
medians is what the service adds. With many clients every core is busy and
requests wait for each other: there the ratio of the throughputs counts, and
latencies are those of a queue.

examples:
  python -m benchmarks.recognition.service_load
  python -m benchmarks.recognition.service_load --clients 16 --rounds 7 \\
      --model saved_models/sicot --product_index demo/index \\
      --records 'demo/shop/records-*.jsonl'
"""

import argparse
import contextlib
import pathlib
import statistics
import tempfile
from collections.abc import Iterator
from collections.abc import Sequence

from benchmarks import flags
from benchmarks.recognition import load
from benchmarks.recognition import shop
from sicot_tf.recognition.releases import release_check

_MODEL_SERVER = "model server, gRPC"
_PLAIN = "service, localize=false"
_WHOLE = "service, all stages"


def main(argv: list[str] | None = None) -> None:
    """Prints latencies, throughputs, what is added, and the stages."""
    arguments = _parse_arguments(argv)
    photos = [
        path for path, _ in shop.pictures(arguments.records, arguments.split)
    ][: arguments.photos]
    with _serve(arguments) as (targets, servers):
        for clients in (1, arguments.clients):
            found = {name: [] for name in targets}
            for each in range(arguments.rounds):
                names = list(targets)
                # Another one is first each time.
                for name in names[each % 3 :] + names[: each % 3]:
                    found[name].append(
                        load.run(
                            targets[name],
                            photos,
                            clients=clients,
                            processes=min(clients, arguments.processes),
                            seconds=arguments.seconds,
                            servers=servers,
                        )
                    )
            _print(clients, found)


@contextlib.contextmanager
def _serve(
    arguments: argparse.Namespace,
) -> Iterator[tuple[dict[str, load.Target], dict[str, int]]]:
    """Both services: the three ways to ask, and the process ids."""
    if arguments.url:
        name = arguments.model.name
        yield _targets(arguments.model_server, name, arguments.url), {}
        return
    # Both load TensorFlow, which asking does not need.
    from tests.helpers import tiny_recognizer
    from tests.helpers import tiny_server

    model = release_check.newest_version(arguments.model)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as end:
        root = pathlib.Path(folder)
        address = f"127.0.0.1:{tiny_server.free_port()}"
        name = model.resolve().parent.name
        server = tiny_server.ServerProcess(
            root / "log",
            *("--port", address.partition(":")[2], "--model_name", name),
            *("--model_base_path", str(model.resolve().parent)),
            *arguments.server_flag,
        )
        end.callback(server.kill)
        server.connect(address).close()
        recognizer = tiny_recognizer.RecognizerProcess(
            root,
            *("--model", f"{name}/{model.name}", "--model_server", address),
            *("--product_index", arguments.product_index),
            *("--catalogue_root", arguments.catalogue_root),
        )
        end.callback(recognizer.kill)
        yield (
            _targets(address, name, recognizer.url),
            {
                "service": recognizer.process.pid,
                "model server": server.process_ids()[0],
            },
        )


def _targets(address: str, model: str, url: str) -> dict[str, load.Target]:
    http = url.removeprefix("http://").rstrip("/")
    return {
        _MODEL_SERVER: load.Target("grpc", address, model),
        _PLAIN: load.Target("http", http, "/v1/recognize?localize=false"),
        _WHOLE: load.Target("http", http, "/v1/recognize"),
    }


def _print(clients: int, found: dict[str, list[load.Met]]) -> None:
    num_rounds = len(found[_MODEL_SERVER])
    print(
        f"\n{clients} client(s), median [least, most] of {num_rounds} rounds\n"
        f"{'':26}{'p50 ms':>24}{'p95 ms':>24}{'answers/s':>24}"
    )
    for name, rounds in found.items():
        print(
            f"{name:26}{_spread([each.p50 for each in rounds]):>24}"
            f"{_spread([each.p95 for each in rounds]):>24}"
            f"{_spread([each.per_second for each in rounds]):>24}"
        )
        cpu = {
            who: statistics.median(each.cpu[who] for each in rounds)
            for who in rounds[0].cpu
        }
        shown = ", ".join(f"{who} {value:.2f}" for who, value in cpu.items())
        print(f"    CPU ms an answer: {shown}")
    alone = found[_MODEL_SERVER]
    for name in (_PLAIN, _WHOLE):
        pairs = list(zip(found[name], alone, strict=True))
        added = [one.p50 - other.p50 for one, other in pairs]
        ratios = [one.per_second / other.per_second for one, other in pairs]
        print(
            f"{name}: p50 + {_spread(added)} ms, throughput x "
            f"{_spread(ratios)} of the model server's"
        )
        stages = {
            stage: statistics.median(each.stages[stage] for each in found[name])
            for stage in found[name][0].stages
        }
        total = stages["total"]
        print(
            "  "
            + ", ".join(
                f"{stage} {value:.2f} ms ({value / total:.0%})"
                for stage, value in stages.items()
            )
        )


def _spread(values: Sequence[float]) -> str:
    return (
        f"{statistics.median(values):.2f} "
        f"[{min(values):.2f}, {max(values):.2f}]"
    )


def _parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = flags.make_parser(__doc__)
    shop.add_flags(parser)
    parser.add_argument("--photos", type=int, default=64)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument(
        "--processes", type=int, default=2, help="of clients (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument(
        "--server_flag",
        action="append",
        default=[],
        help="one more flag of sicot_tf.serve, as --enable_batching",
    )
    parser.add_argument(
        "--url", help="of a service that runs already; CPU is not measured"
    )
    parser.add_argument(
        "--model_server", help="that it asks: HOST:PORT of its gRPC"
    )
    arguments = parser.parse_args(argv)
    if bool(arguments.url) != bool(arguments.model_server):
        parser.error("--url and --model_server: expected both or none")
    return arguments


if __name__ == "__main__":
    main()
