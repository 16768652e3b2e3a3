"""A plain MQTT 5 client, bare `paho`: says what it is told to say, keeps what comes, and what the broker answered."""

import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

WAIT_S = 15.0
NOT_AUTHORIZED = 0x87


class Refused(Exception):
    """The broker let us not in."""


class PlainClient:
    """Connected inside `with`. Topics are written whole: nothing here knows what they mean."""

    def __init__(
        self,
        port: int,
        user: str | None = None,
        password: str | None = None,
        *,
        host: str = "127.0.0.1",
        ca: Path | None = None,
        tls: bool = False,
        will: tuple[str, bytes, int, bool] | None = None,
    ) -> None:
        self.got: list[MQTTMessage] = []
        self._address = host, port
        self._answers: dict[int, Any] = {}
        self._connected: Any = None
        self.ended = False
        self._changed = threading.Condition()
        client = self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        if user is not None:
            client.username_pw_set(user, password)
        if tls or ca:
            client.tls_set_context(ssl.create_default_context(cafile=ca))
        if will:
            client.will_set(*will)
        client.on_connect = lambda _1, _2, _3, reason, _4: self._note("_connected", reason)
        client.on_disconnect = lambda *_: self._note("ended", True)
        client.on_message = lambda _1, _2, message: self._change(lambda: self.got.append(message))
        client.on_publish = lambda _1, _2, mid, reason, _3: self._change(
            lambda: self._answers.update({mid: reason.value})
        )
        client.on_subscribe = lambda _1, _2, mid, reasons, _3: self._change(
            lambda: self._answers.update({mid: [reason.value for reason in reasons]})
        )

    def __enter__(self) -> Self:
        self._client.connect(*self._address)  # raises `ssl.SSLError` for an unknown CA
        self._client.loop_start()
        self.wait(lambda: self._connected is not None)
        if self._connected.is_failure:
            self._client.loop_stop()
            raise Refused(str(self._connected))
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def vanish(self) -> None:
        """Be gone without a word, so that the broker says our will."""
        self._client.socket().shutdown(2)

    def subscribe(self, pattern: str) -> list[int]:
        """Return the broker's reason codes."""
        _, mid = self._client.subscribe(pattern, 1)
        return self._answer(mid)

    def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> int:
        """Return the reason code of the broker's PUBACK."""
        return self._answer(self._client.publish(topic, payload, 1, retain).mid)

    def send(self, topic: str, payload: bytes) -> None:
        """Publish without waiting for an answer."""
        self._client.publish(topic, payload, 1)

    def wait(self, true: Callable[[], object]) -> None:
        """Wait until it is true."""
        with self._changed:
            assert self._changed.wait_for(true, WAIT_S), "nothing came"

    def topics_until(self, last: str) -> list[str]:
        """Wait for a message on the topic `last`, and return the topics of all that came before it."""
        self.wait(lambda: any(message.topic == last for message in self.got))
        topics = [message.topic for message in self.got]
        return topics[: topics.index(last)]

    def _answer(self, mid: int) -> Any:
        self.wait(lambda: mid in self._answers)
        return self._answers[mid]

    def _note(self, name: str, value: object) -> None:
        self._change(lambda: setattr(self, name, value))

    def _change(self, change: Callable[[], object]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()
