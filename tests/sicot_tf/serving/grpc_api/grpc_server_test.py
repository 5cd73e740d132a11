import collections
import datetime
import pathlib
import socket
import tempfile
import threading
import time

import grpc
import numpy as np
import tensorflow as tf
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import oid
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha import reflection_pb2_grpc
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis import prediction_service_pb2_grpc

from sicot_tf.serving import server_core
from sicot_tf.serving import serving_config
from sicot_tf.serving.grpc_api import grpc_server
from sicot_tf.serving.grpc_api import tls
from sicot_tf.serving.inference import servable
from sicot_tf.serving.versions import model_manager
from tests.helpers import serving_models

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def make_certificate(name, signer=None):
    """Key and certificate, PEM; signed by `signer`, or by itself as a CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, name)])
    issuer, issuer_key = signer or (subject, key)
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * day)
        .not_valid_after(now + day)
        .add_extension(
            x509.BasicConstraints(ca=signer is None, path_length=None), True
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost")]), False
        )
        .sign(issuer_key, hashes.SHA256())
    )
    key_text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    text = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return key_text, text, (subject, key)


class GrpcServerTest(tf.test.TestCase):
    """Servers in this process, over one model."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.root = pathlib.Path(folder)
        cls.manager = model_manager.ModelManager(servable.Servable)
        cls.addClassCleanup(cls.manager.close)
        base_path = serving_models.saved_model("half_plus_two").parent
        cls.manager.set_config(
            serving_config.make_model_config("half_plus_two", base_path)
        )
        cls.manager.wait_until_available()
        cls.core = server_core.ServerCore(cls.manager)

    def start(self, address="localhost:0", credentials=None, **arguments):
        """A server and the port it got."""
        server = grpc_server.GrpcServer(
            self.core, num_threads=4, channel_arguments=arguments
        )
        port = server.listen(address, credentials)
        server.start()
        self.addCleanup(lambda: server.stop(0)(10))
        return server, port

    def connect(self, address, credentials=None):
        if credentials is None:
            channel = grpc.insecure_channel(address)
        else:
            channel = grpc.secure_channel(address, credentials)
        self.addCleanup(channel.close)
        return channel

    def assert_refused(self, address, credentials):
        with self.assertRaises(grpc.RpcError) as raised:
            self.assert_predicts(self.connect(address, credentials))
        self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)

    def assert_predicts(self, channel, num_rows=3):
        """One request; y is x / 2 + 2."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "half_plus_two"
        x = np.arange(num_rows, dtype=np.float32)
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=30)
        self.assertAllClose(tf.make_ndarray(response.outputs["y"]), x / 2 + 2)

    def write_ssl_config(self, **fields):
        config = serving_config.SSLConfig(**fields)
        path = self.root / "ssl.config"
        # The text form of a message.
        path.write_text(str(config))
        return str(path)

    def test_tls(self):
        """Breaks if a client gets in that does not trust the certificate."""
        key, certificate, _ = make_certificate("server")
        path = self.write_ssl_config(
            server_key=key, server_cert=f"Subject: 可乐\n{certificate}"
        )
        _, port = self.start(credentials=tls.read_credentials(path))
        address = f"localhost:{port}"
        trusting = grpc.ssl_channel_credentials(certificate.encode())
        self.assert_predicts(self.connect(address, trusting))
        _, other, _ = make_certificate("other")
        distrusting = grpc.ssl_channel_credentials(other.encode())
        for credentials in (distrusting, None):
            self.assert_refused(address, credentials)

    def test_mutual_tls(self):
        """Breaks if a client gets in whose certificate the CA did not sign."""
        _, ca, signer = make_certificate("ca")
        key, certificate, _ = make_certificate("server", signer)
        path = self.write_ssl_config(
            server_key=key,
            server_cert=certificate,
            custom_ca=ca,
            client_verify=True,
        )
        _, port = self.start(credentials=tls.read_credentials(path))
        address = f"localhost:{port}"
        client_key, client_certificate, _ = make_certificate("client", signer)
        self.assert_predicts(
            self.connect(
                address,
                grpc.ssl_channel_credentials(
                    ca.encode(),
                    client_key.encode(),
                    client_certificate.encode(),
                ),
            )
        )
        other_key, other_certificate, _ = make_certificate("client")
        for credentials in (
            grpc.ssl_channel_credentials(ca.encode()),
            grpc.ssl_channel_credentials(
                ca.encode(), other_key.encode(), other_certificate.encode()
            ),
        ):
            self.assert_refused(address, credentials)

    def test_wrong_tls_files_are_refused(self):
        """Breaks if a server is open because its TLS is broken."""
        key, certificate, _ = make_certificate("server")
        other_key, _, _ = make_certificate("server")
        encrypted = (
            serialization.load_pem_private_key(key.encode(), None)
            .private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
            .decode()
        )
        middle = len(key) // 2
        good = {"server_key": key, "server_cert": certificate}
        for change, field, reason in (
            ({"server_key": ""}, "server_key", "text of a PEM private key"),
            ({"server_key": "/etc/key.pem"}, "server_key", "file name"),
            ({"server_key": key[:middle]}, "server_key", "PEM private key"),
            ({"server_key": other_key}, "server_key", "of server_cert"),
            ({"server_key": encrypted}, "server_key", "openssl pkey"),
            ({"server_cert": ""}, "server_cert", "PEM certificate"),
            ({"server_cert": "cert.pem"}, "server_cert", "no file name"),
            ({"server_cert": key}, "server_cert", "PEM certificate"),
            ({"client_verify": True}, "custom_ca", "client_verify needs the"),
            ({"custom_ca": "ca.pem"}, "custom_ca", "no file name"),
        ):
            path = self.write_ssl_config(**(good | change))
            with self.subTest(change=change):
                with self.assertRaisesRegex(
                    tf.errors.InvalidArgumentError,
                    f"Wrong {field} in {path}: .*{reason}",
                ):
                    tls.read_credentials(path)
        with self.assertRaises(tf.errors.NotFoundError):
            tls.read_credentials(str(self.root / "absent"))
        self.assertIsNone(tls.read_credentials(""))

    def test_unix_socket(self):
        """Breaks if a socket that a crash left keeps a server from starting."""
        path = self.root / "socket"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        self.start(f"unix:{path}")
        self.assert_predicts(self.connect(f"unix:{path}"))

    def test_port_in_use(self):
        """Breaks if half of the requests go to another server."""
        _, port = self.start("0.0.0.0:0")
        with self.assertRaisesRegex(RuntimeError, str(port)):
            self.start(f"0.0.0.0:{port}")

    def test_reflection(self):
        """Breaks if grpcurl can't list the services, or describe a symbol."""
        _, port = self.start()
        stub = reflection_pb2_grpc.ServerReflectionStub(
            self.connect(f"localhost:{port}")
        )
        apis = "tensorflow_serving/apis"
        files = {
            "tensorflow.serving.PredictionService.Predict": (
                f"{apis}/prediction_service.proto"
            ),
            "tensorflow.serving.ModelService.GetModelStatus": (
                f"{apis}/model_service.proto"
            ),
            "tensorflow.serving.PredictRequest": f"{apis}/predict.proto",
            "tensorflow.serving.PredictRequest.inputs": f"{apis}/predict.proto",
            "tensorflow.serving.ModelVersionStatus.AVAILABLE": (
                f"{apis}/get_model_status.proto"
            ),
            "grpc.health.v1.Health.Check": "grpc_health/v1/health.proto",
            "tensorflow.serving.PredictionService.None": None,
            "Predict": None,
        }
        request = reflection_pb2.ServerReflectionRequest
        answers = stub.ServerReflectionInfo(
            iter([request(file_containing_symbol=name) for name in files])
        )
        for (name, file), answer in zip(files.items(), answers, strict=True):
            if file is None:
                code = answer.error_response.error_code
                self.assertEqual(code, grpc.StatusCode.NOT_FOUND.value[0])
                continue
            proto = answer.file_descriptor_response.file_descriptor_proto[0]
            found = descriptor_pb2.FileDescriptorProto.FromString(proto)
            self.assertEqual(found.name, file, name)
        [answer] = stub.ServerReflectionInfo(iter([request(list_services="")]))
        names = [each.name for each in answer.list_services_response.service]
        self.assertContainsSubset(
            [
                "tensorflow.serving.ModelService",
                "tensorflow.serving.PredictionService",
                "grpc.health.v1.Health",
            ],
            names,
        )

    def test_health(self):
        """Breaks if load balancers don't hear that a server is about to end.

        Whoever watches takes no thread and does not hold the end up.
        """
        server, port = self.start()
        stub = health_pb2_grpc.HealthStub(self.connect(f"localhost:{port}"))
        request = health_pb2.HealthCheckRequest
        for name in ("", "PredictionService", "ModelService"):
            response = stub.Check(request(service=name), timeout=30)
            self.assertEqual(response.status, _SERVING)
        # More than there are threads.
        watches = [stub.Watch(request(), timeout=60) for _ in range(6)]
        for watch in watches:
            self.assertEqual(next(watch).status, _SERVING)
        server.drain()
        for watch in watches:
            self.assertEqual(next(watch).status, _NOT_SERVING)
        # Requests that still come are answered.
        self.assert_predicts(self.connect(f"localhost:{port}"))
        start = time.monotonic()
        self.assertTrue(server.stop(25)(30))
        self.assertLess(time.monotonic() - start, 20)

    def test_no_call_is_cancelled_when_a_server_stops(self):
        """Breaks if a rolling restart fails a client that watches no health.

        gRPC cancels what comes between the stop and the client's notice of
        it; 16 callers that never pause hit that moment in most stops.
        """
        _, other_port = self.start()
        service_config = '{"loadBalancingConfig": [{"round_robin": {}}]}'
        codes = collections.Counter()
        for _ in range(5):
            server, port = self.start()
            channels = [
                grpc.insecure_channel(
                    f"ipv4:127.0.0.1:{port},127.0.0.1:{other_port}",
                    options=[
                        ("grpc.service_config", service_config),
                        ("grpc.use_local_subchannel_pool", 1),
                        ("grpc.enable_retries", 0),
                    ],
                )
                for _ in range(16)
            ]
            stop = threading.Event()

            def ask(channel, stop=stop):
                while not stop.is_set():
                    try:
                        self.assert_predicts(channel)
                        codes["OK"] += 1
                    except grpc.RpcError as error:
                        codes[error.code().name] += 1

            threads = [
                threading.Thread(target=ask, args=[channel])
                for channel in channels
            ]
            for thread in threads:
                thread.start()
            for channel in channels:
                grpc.channel_ready_future(channel).result(30)
            time.sleep(0.2)
            self.assertTrue(server.stop(20)(30))
            stop.set()
            for thread in threads:
                thread.join()
            for channel in channels:
                channel.close()
        self.assertEqual(list(codes), ["OK"], msg=codes)

    def test_channel_arguments(self):
        """Breaks if they don't reach gRPC, before what the server sets; or if
        three photos of a phone are too large: gRPC's own limit is 4 MB."""
        _, port = self.start()
        channel = grpc.insecure_channel(
            f"localhost:{port}",
            options=[("grpc.max_receive_message_length", -1)],
        )
        with channel:
            self.assert_predicts(channel, num_rows=2_000_000)
        parsed = grpc_server.parse_channel_arguments(
            "grpc.max_receive_message_length=1000,grpc.primary_user_agent=me"
        )
        self.assertEqual(list(parsed.values()), [1000, "me"])
        self.assertEqual(grpc_server.parse_channel_arguments(""), {})
        _, port = self.start(**parsed)
        channel = self.connect(f"localhost:{port}")
        self.assert_predicts(channel, num_rows=100)
        with self.assertRaises(grpc.RpcError) as raised:
            self.assert_predicts(channel, num_rows=1000)
        self.assertEqual(
            raised.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED
        )
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError, "key=value,key=value"
        ):
            grpc_server.parse_channel_arguments("grpc.keepalive_time_ms")


if __name__ == "__main__":
    tf.test.main()
