"""What ``otel-llm-sessions list``, ``show`` and ``export`` do."""
