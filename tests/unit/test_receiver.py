"""The OTLP receiver, fed by the real exporters over a real socket."""

import threading
import urllib.error
import urllib.request

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from otlp_receiver import OtlpReceiver

from otel_llm_sessions.view.spans import ReceivedEvent, ReceivedLink


def provider_for(receiver, compression=Compression.NoCompression):
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{receiver.endpoint}/v1/traces", compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider


@pytest.fixture
def tracer(receiver):
    provider = provider_for(receiver)
    yield provider.get_tracer("a.scope")
    provider.shutdown()


def post(receiver, path, body=b"", content_type="application/x-protobuf"):
    request = urllib.request.Request(receiver.endpoint + path, body, {"Content-Type": content_type})
    return urllib.request.urlopen(request, timeout=5)


def refusal(receiver, path, **kwargs):
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(receiver, path, **kwargs)
    with refused.value as error:
        return error.code


def test_a_span_arrives_with_everything_it_carried(receiver, tracer):
    first = tracer.start_span("first")
    first.end()
    link = Link(first.get_span_context(), {"llm_session.link": "previous_turn"})
    with tracer.start_as_current_span("outer") as outer:
        span = tracer.start_span(
            "chat gpt", kind=SpanKind.CLIENT, links=[link], start_time=1_000, attributes={"n": 7, "f": 0.5}
        )
        span.set_attribute("gen_ai.response.finish_reasons", ["stop", "length"])
        span.set_attribute("yes", True)
        span.add_event("chunk", {"index": 1}, timestamp=1_500)
        span.set_status(Status(StatusCode.ERROR, "too bad"))
        span.end(2_000)

    receiver.wait_for(lambda received: len(received.spans) == 3)
    arrived = {span.name: span for span in receiver.spans}
    chat = arrived["chat gpt"]
    assert chat.trace_id == f"{outer.get_span_context().trace_id:032x}"
    assert chat.parent_id == arrived["outer"].span_id == f"{outer.get_span_context().span_id:016x}"
    assert (chat.kind, chat.start, chat.end) == ("CLIENT", 1_000, 2_000)
    assert chat.attributes == {
        "n": 7,
        "f": 0.5,
        "yes": True,
        "gen_ai.response.finish_reasons": ("stop", "length"),
    }
    linked = arrived["first"]
    assert chat.links == (ReceivedLink(linked.trace_id, linked.span_id, {"llm_session.link": "previous_turn"}),)
    assert chat.events == (ReceivedEvent("chunk", 1_500, {"index": 1}),)
    assert (chat.status, chat.status_message) == ("ERROR", "too bad")
    assert chat.resource["service.name"] == "shop"
    assert chat.scope == "a.scope"
    assert chat.flags == 0x100
    assert arrived["first"].parent_id == ""
    assert arrived["first"].status == "UNSET"


def test_gzip_is_understood(receiver):
    provider = provider_for(receiver, Compression.Gzip)
    provider.get_tracer("t").start_span("squeezed").end()
    provider.shutdown()
    assert [span.name for span in receiver.spans] == ["squeezed"]


def test_histograms_and_sums_arrive_as_points(receiver):
    exporter = OTLPMetricExporter(endpoint=f"{receiver.endpoint}/v1/metrics")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
    provider = MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter("m")
    duration = meter.create_histogram("duration", "s", explicit_bucket_boundaries_advisory=[1.0, 2.0])
    duration.record(1.5, {"model": "a"})
    meter.create_counter("calls").add(3)
    provider.force_flush()
    receiver.wait_for(lambda received: len(received.metrics) == 2)
    provider.shutdown()
    metrics = {metric.name: metric for metric in receiver.metrics[:2]}
    assert (metrics["duration"].unit, metrics["duration"].type) == ("s", "histogram")
    assert metrics["duration"].points == [
        {
            "attributes": {"model": "a"},
            "count": 1,
            "sum": 1.5,
            "bounds": [1.0, 2.0],
            "bucket_counts": [0, 1, 0],
            "value": None,
        }
    ]
    assert metrics["calls"].type == "sum"
    assert metrics["calls"].points[0]["value"] == 3


def test_it_answers_the_response_message_of_the_protocol(receiver):
    with post(receiver, "/v1/traces") as response:
        assert response.headers["Content-Type"] == "application/x-protobuf"
        assert ExportTraceServiceResponse.FromString(response.read()) == ExportTraceServiceResponse()


def test_what_is_not_otlp_is_refused(receiver):
    assert refusal(receiver, "/v1/spans") == 404
    assert refusal(receiver, "/v1/traces", content_type="application/json") == 415
    assert refusal(receiver, "/v1/traces", body=b"\xff not protobuf") == 400
    assert receiver.spans == []


def test_wait_for_returns_when_the_span_arrives_from_another_thread(receiver, tracer):
    waiting = threading.Event()
    sender = threading.Thread(target=lambda: (waiting.wait(5), tracer.start_span("late").end()))
    sender.start()

    def there(received):
        waiting.set()
        return any(span.name == "late" for span in received.spans)

    receiver.wait_for(there, timeout=5)
    sender.join()


def test_wait_for_says_what_had_arrived_when_it_gives_up(receiver, tracer):
    tracer.start_span("lonely", attributes={"session.id": "s-1"}).end()
    with pytest.raises(TimeoutError, match=r"not within 0.01 s(.|\n)*'lonely'.*s-1"):
        receiver.wait_for(lambda received: False, timeout=0.01)
    receiver.clear()
    with pytest.raises(TimeoutError, match="nothing"):
        receiver.wait_for(lambda received: False, timeout=0.01)


def test_clear_forgets(receiver, tracer):
    tracer.start_span("one").end()
    receiver.clear()
    tracer.start_span("two").end()
    assert [span.name for span in receiver.spans] == ["two"]


def test_a_closed_receiver_serves_no_more_and_keeps_what_it_has(tracer, receiver):
    tracer.start_span("kept").end()
    receiver.close()
    receiver.close()
    with pytest.raises(urllib.error.URLError):
        post(receiver, "/v1/traces")
    assert [span.name for span in receiver.spans] == ["kept"]


def test_a_receiver_that_never_started_can_be_closed():
    OtlpReceiver().close()
