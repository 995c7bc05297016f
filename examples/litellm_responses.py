"""Two Responses calls, the second continuing the first: the session is found from `previous_response_id` alone.

To run it, in a checkout of this repository:

    pip install ".[instruments,otlp]"
    export OPENAI_API_KEY=...            # and OPENAI_BASE_URL for LiteLLM or any other OpenAI-compatible server
    opentelemetry-instrument --service_name litellm-responses python examples/litellm_responses.py
"""

import os

from openai import OpenAI

client = OpenAI()
model = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")

response1 = client.responses.create(model=model, input="Write a short story about a robot")
print(response1.output_text)

response2 = client.responses.create(
    model=model,
    input="What happens next?",
    previous_response_id=response1.id,
)
print(response2.output_text)
