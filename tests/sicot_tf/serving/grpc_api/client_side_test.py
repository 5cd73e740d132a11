import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import predict_pb2

from sicot_tf.serving.grpc_api import client_side


class MessagesTest(tf.test.TestCase):
    def test_fields_are_those_of_tensorflow_serving(self):
        """Breaks if a field has another name, number or type than theirs."""
        request = predict_pb2.PredictRequest.DESCRIPTOR.fields_by_name
        response = predict_pb2.PredictResponse.DESCRIPTOR.fields_by_name
        spec = request["model_spec"].message_type
        tensor_map = request["inputs"].message_type
        tensor = tensor_map.fields_by_name["value"].message_type
        shape = tensor.fields_by_name["tensor_shape"].message_type
        status = get_model_status_pb2.GetModelStatusRequest.DESCRIPTOR
        statuses = get_model_status_pb2.GetModelStatusResponse.DESCRIPTOR
        metadata = get_model_metadata_pb2.GetModelMetadataResponse.DESCRIPTOR
        entry = metadata.fields_by_name["metadata"].message_type
        signatures = get_model_metadata_pb2.SignatureDefMap.DESCRIPTOR
        published = {
            "Int64Value": spec.fields_by_name["version"].message_type,
            "ModelSpec": spec,
            "Dim": shape.fields_by_name["dim"].message_type,
            "TensorShapeProto": shape,
            "TensorProto": tensor,
            "Tensor": tensor_map,
            "PredictRequest": request["inputs"].containing_type,
            "PredictResponse": response["outputs"].containing_type,
            "GetModelStatusRequest": status,
            "GetModelStatusResponse": statuses,
            "ModelVersionStatus": statuses.fields_by_name[
                "model_version_status"
            ].message_type,
            "GetModelMetadataRequest": (
                get_model_metadata_pb2.GetModelMetadataRequest.DESCRIPTOR
            ),
            "GetModelMetadataResponse": metadata,
            "Metadata": entry,
            "Any": entry.fields_by_name["value"].message_type,
            "SignatureDefMap": signatures,
            "Signature": signatures.fields_by_name[
                "signature_def"
            ].message_type,
        }
        self.assertCountEqual(published, client_side.MESSAGES)
        for message_name, descriptor in published.items():
            ours = client_side.messages()[message_name].DESCRIPTOR
            for field in ours.fields:
                theirs = descriptor.fields_by_name[field.name]
                # A number stands for the enumeration of data types.
                same_type = theirs.enum_type is not None or (
                    field.type == theirs.type
                )
                self.assertTrue(same_type, field.full_name)
                self.assertEqual(
                    (field.number, field.is_repeated),
                    (theirs.number, theirs.is_repeated),
                    field.full_name,
                )


if __name__ == "__main__":
    tf.test.main()
