"""OTLP over gRPC in this process: who is answered what, before and after a body is read."""

from __future__ import annotations

from contextlib import contextmanager

import grpc
import pytest
from database_kit import has_room, session
from waiting import until

from otel_llm_sessions.view.database import Database
from otel_llm_sessions.view.otlp_writing import spans_request
from otel_llm_sessions.view.server.intake import MOST_BYTES as MOST_WAITING
from otel_llm_sessions.view.server.intake import Intake
from otel_llm_sessions.view.server.otlp_grpc import MOST_BYTES, GrpcReceiver
from otel_llm_sessions.view.server.security import security_for

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@contextmanager
def receiving(token: str = ""):
    """An intake that is not started, and what sends to it."""
    database = Database()
    intake = Intake(database)
    receiver = GrpcReceiver("127.0.0.1:0", intake, security_for("127.0.0.1", token=token))
    receiver.start()
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{receiver.port}", options=options) as channel:
        yield intake, channel.unary_unary(EXPORT)
    receiver.close()
    intake.close()
    database.close()


def test_of_who_brings_no_token_nothing_is_read():
    with receiving("secret") as (_, send):
        for metadata, code in (
            ((), grpc.StatusCode.UNAUTHENTICATED),
            ((("authorization", "Bearer wrong"),), grpc.StatusCode.UNAUTHENTICATED),
            ((("authorization", "Bearer secret"),), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                send(bytes(MOST_BYTES + 1), metadata=metadata, timeout=60)
            assert refused.value.code() == code, "too large: said to who may send, once it is read"


def test_many_at_once_wait_for_their_turn():
    body = spans_request(session("a")).SerializeToString()
    with receiving() as (intake, send):
        sent = [send.future(body, timeout=60) for _ in range(200)]
        until(lambda: not has_room(intake.room, MOST_WAITING))
        intake.start()
        assert [one.result() for one in sent] == [b""] * 200
