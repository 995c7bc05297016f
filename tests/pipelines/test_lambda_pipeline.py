"""AWS Lambda, with AWS's own runtime client: what docs/existing-pipelines.md has one write, and what arrives."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipelines.lambda_service import LambdaService
from pipelines.pipelines_kit import SENDS_NOTHING, Pipeline, arrived, check_whole, pipeline
from store_kit import RedisServer

LAMBDA = "AWS Lambda"

pytestmark = pytest.mark.frameworks


def settings_of(at: Pipeline, service: LambdaService, **more: str) -> dict[str, str]:
    of_aws = {
        "AWS_LAMBDA_RUNTIME_API": service.address,
        "AWS_LAMBDA_FUNCTION_NAME": "shop",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_LOG_GROUP_NAME": "shop",
        "AWS_LAMBDA_LOG_STREAM_NAME": "shop",
        "LAMBDA_TASK_ROOT": str(at.directory),
        "_HANDLER": "handler.handle",
    }
    return at.settings(**SENDS_NOTHING, **of_aws, **more)


@pytest.mark.parametrize("instrumented", [True, False])
def test_what_an_invocation_made_has_arrived_when_it_is_frozen(instrumented, tmp_path: Path, redis: RedisServer):
    more = {} if instrumented else {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "aws-lambda"}
    with pipeline("lambda", LAMBDA, tmp_path, redis) as at, LambdaService() as one, LambdaService() as other:
        command = at.section.command("awslambdaric")
        with (
            at.start(command, settings_of(at, one, **more), "log.1") as one_group,
            at.start(command, settings_of(at, other, **more), "log.2") as other_group,
        ):
            one.pid, other.pid = one_group.id, other_group.id
            chain: list[str] = []
            for service in (one, other, one):
                reply = service.invoke({"text": "Hello", **({"after": chain[-1]} if chain else {})})
                chain.append(reply["id"])
                assert arrived(at.receiver, [chain]), one_group.printed + other_group.printed
        check_whole(at.receiver.spans, [chain], below="SERVER" if instrumented else None)


def test_without_a_flush_nothing_has_arrived_when_it_is_frozen(tmp_path: Path, redis: RedisServer):
    """The SDK's loss, where the process is not used again: its thread does not run in a process that is frozen."""
    with pipeline("lambda", LAMBDA, tmp_path, redis) as at, LambdaService() as service:
        at.write_without_flush("handler.py")
        more = {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "aws-lambda"}
        with at.start(at.section.command("awslambdaric"), settings_of(at, service, **more)) as group:
            service.pid = group.id
            service.invoke({"text": "Hello"})
        assert at.receiver.spans == []
