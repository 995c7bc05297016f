"""Run the server: ``python -m otel_llm_sessions.demo.provider``."""

from otel_llm_sessions.demo.provider.server import main

if __name__ == "__main__":
    raise SystemExit(main())
