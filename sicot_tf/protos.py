"""Protobuf classes from tables of their fields.

For messages of TensorFlow Serving that no Python package brings, or only
together with TensorFlow. Each table has a pool of its own: another library in
the process may bring the same names, and one pool takes a name once.
"""

from collections.abc import Mapping
from collections.abc import Sequence

# Name, number and type of a field: a scalar type of protobuf or a message of
# the same table, with "*" at the end for a repeated field.
Field = tuple[str, int, str]


def make_classes(
    package: str, messages: Mapping[str, Sequence[Field]]
) -> dict[str, type]:
    """The class of each message, by its name in `messages`."""
    from google.protobuf import descriptor_pb2
    from google.protobuf import descriptor_pool
    from google.protobuf import message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    for message_name, fields in messages.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind in fields:
            field = message.field.add(name=name, number=number)
            field.label = (
                field_type.LABEL_REPEATED
                if kind.endswith("*")
                else field_type.LABEL_OPTIONAL
            )
            kind = kind.rstrip("*")
            if kind in messages:
                field.type = field_type.TYPE_MESSAGE
                field.type_name = f".{package}.{kind}"
            else:
                field.type = field_type.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{package}.{name}")
        )
        for name in messages
    }
