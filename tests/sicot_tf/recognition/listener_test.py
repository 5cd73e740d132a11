import socket
import unittest

from sicot_tf.recognition import serving


class ListenerTest(unittest.TestCase):
    def test_answers_do_not_wait_for_each_other(self):
        """Breaks if a body waits for the ACK of its headers, up to 40 ms on a
        connection that is kept (Nagle's algorithm)."""
        with (
            serving._listen("127.0.0.1", 0) as listener,
            socket.create_connection(listener.getsockname()),
            listener.accept()[0] as accepted,
        ):
            self.assertTrue(
                accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            )


if __name__ == "__main__":
    unittest.main()
